"""Metrics of a matrix of scores made by hand."""

from __future__ import annotations

import torch

from mmssl.tasks.cross_modal.matching import matching_metrics, own_rows

EVERY = slice(0, 4)
DRAWN = torch.tensor([0.1, 0.4, 0.2, 0.3])  # partners: 0 -> 2 -> 3 -> 1 -> 0


def found(scores: torch.Tensor, weight: torch.Tensor, rows: slice = EVERY) -> dict[str, tuple[float, float]]:
    metrics = matching_metrics(scores, weight, DRAWN, rows)
    return {name: (float(total), float(count)) for name, (total, count) in metrics.items()}


def test_a_perfect_model_and_one_that_says_always_the_same() -> None:
    assert found(torch.eye(4), torch.ones(4)) == {"accuracy": (4.0, 4.0), "r_at_1": (4.0, 4.0)}
    assert found(torch.ones(4, 4), torch.ones(4)) == {"accuracy": (2.0, 4.0), "r_at_1": (0.0, 4.0)}
    assert found(-torch.eye(4), torch.ones(4)) == {"accuracy": (0.0, 4.0), "r_at_1": (0.0, 4.0)}


def test_rows_that_take_no_part_are_neither_counted_nor_rivals() -> None:
    scores = torch.eye(4)
    scores[:, 1] = 5.0  # nothing beats clip 1, which is a hole
    weight = torch.tensor([1.0, 0, 1, 1])
    assert found(scores, weight) == {"accuracy": (3.0, 3.0), "r_at_1": (3.0, 3.0)}


def test_one_valid_row_has_nothing_to_be_compared_with() -> None:
    assert found(torch.eye(4), torch.tensor([0, 0, 1.0, 0])) == {"accuracy": (0.0, 0.0), "r_at_1": (0.0, 0.0)}


def test_each_rank_counts_its_own_rows() -> None:
    scores = torch.eye(4)
    scores[3] = -scores[3]
    first, second = (found(scores, torch.ones(4), slice(n, n + 2)) for n in (0, 2))
    assert first["accuracy"] == (2.0, 2.0)
    assert second["accuracy"] == (1.0, 2.0)
    assert own_rows(4) == EVERY  # one process holds all rows
