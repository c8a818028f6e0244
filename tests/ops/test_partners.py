"""Partners are a derangement of the valid rows; a constant model wins half of its comparisons."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl.ops.partners import choice_rate, ring_partner, win_rate
from mmssl.randomness import Draws


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(-(2**62), 2**62))
def test_valid_rows_are_deranged_and_others_left_alone(valid: list[bool], seed: int) -> None:
    mask = torch.tensor(valid)
    drawn = Draws(torch.arange(len(valid)) + seed, "task").uniform("partner")
    partner = ring_partner(drawn, mask)
    rows = torch.arange(len(valid))
    assert torch.equal(partner.sort().values, rows)  # everybody is taken once
    assert torch.equal(partner[~mask], rows[~mask])
    if mask.sum() > 1:
        assert bool((partner[mask] != rows[mask]).all())
        assert bool(mask[partner[mask]].all())
    else:
        assert torch.equal(partner, rows)


def test_partners_hang_on_the_draws_alone_and_not_on_how_rows_are_ordered() -> None:
    drawn = Draws(torch.arange(12) * 7 + 3, "task").uniform("partner")
    valid = torch.tensor([True] * 9 + [False] * 3)
    partner = ring_partner(drawn, valid)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))  # as other ranks would hold them
    moved = ring_partner(drawn[order], valid[order])
    assert torch.equal(order[moved], partner[order])


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(-5, 5).filter(bool))
def test_a_shift_counts_places_on_the_ring(valid: list[bool], shift: int) -> None:
    mask = torch.tensor(valid)
    drawn = Draws(torch.arange(len(valid)), "task").uniform("partner")
    rows, partner = torch.arange(len(valid)), ring_partner(drawn, mask, shift)
    one = ring_partner(drawn, mask, 1 if shift > 0 else -1)
    wanted = rows
    for _ in range(abs(shift)):
        wanted = one[wanted]
    assert torch.equal(partner, wanted)
    assert torch.equal(ring_partner(drawn, mask, -shift)[partner], rows)


def test_ties_count_half() -> None:
    assert win_rate(torch.tensor([2.0, 1.0, 0.5]), torch.tensor([1.0, 1.0, 1.0])).tolist() == [1.0, 0.5, 0.0]


def counted_choices(own: float, rivals: list[float], choices: int) -> float:
    """The mean over every set of rivals, one by one; a tie of t is won once in t + 1 times."""
    wins = []
    for chosen in itertools.combinations(rivals, choices - 1):
        wins.append(0.0 if max(chosen) > own else 1 / (1 + sum(c == own for c in chosen)))
    return sum(wins) / len(wins)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=8), st.integers(0, 4), st.integers(2, 4))
def test_choices_are_the_mean_over_all_sets_of_rivals(rivals: list[int], own: int, choices: int) -> None:
    scores, asked = torch.tensor([[*rivals, 9]]).float(), torch.tensor([[True] * len(rivals) + [False]])
    found = choice_rate(torch.tensor([float(own)]), scores, asked, choices)
    assert abs(float(found) - counted_choices(own, list(rivals), choices)) < 1e-6


@given(st.integers(8, 300), st.integers(0, 1000))
def test_the_floor_of_choices_does_not_hang_on_the_number_of_rivals(rows: int, seed: int) -> None:
    others = ~torch.eye(rows, dtype=torch.bool)
    constant = torch.zeros(rows, rows)
    assert torch.allclose(choice_rate(constant.diagonal(), constant, others, 8), torch.full((rows,), 1 / 8), atol=1e-5)
    # A model that looks at the candidate alone: some clip is everybody's favourite.
    favourite = torch.rand(rows, generator=torch.Generator().manual_seed(seed)).expand(rows, rows)
    assert abs(float(choice_rate(favourite.diagonal(), favourite, others, 8).mean()) - 1 / 8) < 1e-5
    perfect = torch.eye(rows)
    assert torch.allclose(choice_rate(perfect.diagonal(), perfect, others, 8), torch.ones(rows), atol=1e-5)


def test_too_few_rivals_are_no_choice() -> None:
    scores = torch.zeros(1, 5)
    assert float(choice_rate(torch.ones(1), scores, torch.tensor([[True] * 3 + [False] * 2]), 5)) == 0.0
