"""Partners are a derangement of the valid rows; a constant model wins half of its comparisons."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl.ops.partners import ring_partner, win_rate
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
