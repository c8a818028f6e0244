"""Quantile bins: equally full, learned once, kept in the checkpoint."""

from __future__ import annotations

import pytest
import torch

from mmssl.nn.bins import QuantileBins


def values(count: int, seed: int = 0) -> torch.Tensor:
    made = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.exp() * torch.tensor([1.0, 0.01])  # skewed, of two scales


def test_classes_are_equally_full_once_learned() -> None:
    bins = QuantileBins((1.0, 1.0), 5, capacity=1000)
    assert (bins(values(1000))[:, 1] == 2).all()  # nothing learned: of the second scale all is one class
    for part in values(1200).split(100):
        bins.take(part)
    shares = torch.stack([(bins(values(4000, seed=1)) == n).double().mean(dim=0) for n in range(5)])
    assert (shares - 0.2).abs().max() < 0.04
    assert int(bins.count) == 1000


def test_nothing_is_learned_after_that_and_a_state_dict_carries_it() -> None:
    bins, other = QuantileBins((1.0, 1.0), 5, capacity=100), QuantileBins((1.0, 1.0), 5, capacity=100)
    bins.take(values(100))
    before = bins.edges.clone()
    bins.take(values(100, seed=2) * 50)
    assert torch.equal(bins.edges, before)
    other.load_state_dict(bins.state_dict())
    assert torch.equal(other(values(50)), bins(values(50)))


def test_the_fullest_class_is_what_a_constant_guess_would_say() -> None:
    bins = QuantileBins((1.0,), 4, capacity=64)
    bins.take(torch.cat([torch.zeros(48, 1), torch.randn(16, 1, generator=torch.Generator().manual_seed(0))]).double())
    assert (bins(torch.zeros(1, 1).double()) == bins.fullest).all()


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        QuantileBins((1.0,), 1)
