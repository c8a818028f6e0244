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


def test_whatever_scores_columns_alike_for_all_rows_is_at_chance() -> None:
    """Exactly over a whole batch of as many rows as candidates: each column is the own one once."""
    generator = torch.Generator().manual_seed(3)
    for columns in (torch.zeros(16), torch.randn(16, generator=generator), torch.arange(16.0).div(3).floor()):
        made = found(columns.expand(16, 16), torch.ones(16), torch.rand(16, generator=generator), 16)
        assert made == {"r_at_1_of_16": pytest.approx(1 / 16), "r_at_5_of_16": pytest.approx(5 / 16)}


def test_ties_are_broken_by_lot() -> None:
    """Against the mean over all orders of what ties: four above, and the own one ties with two."""
    scores = torch.tensor([0.0, *[1.0] * 4, *[0.0] * 2, *[-1.0] * 9]).expand(16, 16)
    drawn, first = torch.arange(16) / 16, slice(0, 1)
    assert recall_metrics(scores, torch.ones(16), drawn, first, 16)["r_at_5_of_16"][0] == pytest.approx(1 / 3)
    assert recall_metrics(scores, torch.ones(16), drawn, first, 16)["r_at_1_of_16"][0] == 0.0


def test_a_perfect_matcher_and_too_few_rows() -> None:
    drawn = torch.rand(16, generator=torch.Generator().manual_seed(2))
    assert found(torch.eye(16), torch.ones(16), drawn, 16) == {"r_at_1_of_16": 1.0, "r_at_5_of_16": 1.0}
    few = recall_metrics(torch.eye(16), torch.tensor([1.0] * 15 + [0.0]), drawn, slice(0, 16), 16)
    assert all(float(count) == 0 for _, count in few.values())
