"""Recall among a fixed number of candidates."""

from __future__ import annotations

import pytest
import torch

from mmssl.tasks.cross_modal.matching import recall_metrics


def found(scores: torch.Tensor, weight: torch.Tensor, drawn: torch.Tensor, candidates: int) -> dict[str, float]:
    metrics = recall_metrics(scores, weight, drawn, slice(0, len(scores)), candidates)
    return {name: float(total / count.clamp(min=1)) for name, (total, count) in metrics.items()}


def test_is_that_of_each_rows_own_candidates() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, drawn = torch.randn(40, 40, generator=generator), torch.rand(40, generator=generator)
    weight = (torch.rand(40, generator=generator) > 0.2).float()
    order = [i for i in drawn.argsort().tolist() if weight[i] > 0]
    hits = {1: 0, 5: 0}
    for place, i in enumerate(order):
        rivals = [order[(place + step) % len(order)] for step in range(1, 8)]
        rank = 1 + sum(float(scores[i, j]) > float(scores[i, i]) for j in rivals)
        hits = {k: hits[k] + (rank <= k) for k in hits}
    made = found(scores, weight, drawn, 8)
    assert made == {f"r_at_{k}_of_8": pytest.approx(hits[k] / len(order)) for k in hits}


def test_chance_does_not_depend_on_the_size_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(1)
    for count in (16, 64, 256):
        scores = torch.randn(4000 // count, count, count, generator=generator)
        made = [found(s, torch.ones(count), torch.rand(count, generator=generator), 16) for s in scores]
        mean = sum(m["r_at_5_of_16"] for m in made) / len(made)
        assert mean == pytest.approx(5 / 16, abs=0.03)


def test_ties_and_too_few_rows() -> None:
    drawn = torch.rand(16, generator=torch.Generator().manual_seed(2))
    assert found(torch.eye(16), torch.ones(16), drawn, 16) == {"r_at_1_of_16": 1.0, "r_at_5_of_16": 1.0}
    assert found(torch.ones(16, 16), torch.ones(16), drawn, 16) == {"r_at_1_of_16": 0.0, "r_at_5_of_16": 0.0}
    few = recall_metrics(torch.eye(16), torch.tensor([1.0] * 15 + [0.0]), drawn, slice(0, 16), 16)
    assert all(float(count) == 0 for _, count in few.values())
