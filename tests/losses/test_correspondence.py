"""The loss of correspondence against its formula in float64, pair by pair, and its closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from mmssl.losses.correspondence import balanced_cross_entropy
from mmssl.losses.similarity import row_distances


def test_equals_the_formula_gradients_included() -> None:
    logits = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).mul(3).requires_grad_()
    together = torch.arange(30) % 3 == 0
    weight = (torch.arange(30) % 5 > 0).float()
    weight[3] = 0.5
    sums, counts = {True: torch.tensor(0.0).double(), False: torch.tensor(0.0).double()}, {True: 0.0, False: 0.0}
    for pair in range(30):
        kind, share = bool(together[pair]), float(weight[pair])
        evidence = logits[pair].double()
        sums[kind] = sums[kind] - share * (evidence[int(kind)].exp() / evidence.exp().sum()).log()
        counts[kind] += share
    reference = sum(sums[kind] / counts[kind] for kind in (True, False)) / 2
    ours = balanced_cross_entropy(logits, together, weight)
    torch.testing.assert_close(ours.double(), reference, atol=1e-5, rtol=1e-5)
    ours_gradient, gradient = (torch.autograd.grad(loss, logits)[0] for loss in (ours, reference))
    torch.testing.assert_close(ours_gradient, gradient, atol=1e-5, rtol=1e-5)
    assert not ours_gradient[weight == 0].any()


def test_true_and_false_pairs_count_alike_however_many_there_are() -> None:
    together = torch.tensor([True, False, False, False])
    blind = balanced_cross_entropy(torch.zeros(4, 2), together, torch.ones(4))
    assert float(blind) == pytest.approx(math.log(2))
    always = torch.tensor([[-4.0, 4.0]]).expand(4, 2)  # "together" whatever is shown
    right, wrong = math.log1p(math.exp(-8)), math.log1p(math.exp(8))
    found = balanced_cross_entropy(always, together, torch.ones(4))
    assert float(found) == pytest.approx((right + wrong) / 2, rel=1e-5)


def test_a_broken_logit_of_a_pair_that_takes_no_part_does_not_spread() -> None:
    logits = torch.tensor([[0.0, 0.0], [torch.inf, torch.nan], [0.0, 0.0]])
    found = balanced_cross_entropy(logits, torch.tensor([True, True, False]), torch.tensor([1.0, 0.0, 1.0]))
    assert float(found) == pytest.approx(math.log(2))


def test_no_valid_pair_gives_zero_with_a_zero_gradient() -> None:
    logits = torch.randn(4, 2, requires_grad=True)
    loss = balanced_cross_entropy(logits, torch.arange(4) < 2, torch.zeros(4))
    assert float(loss.detach()) == 0.0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_distances_of_rows_and_a_finite_slope_where_both_are_the_same() -> None:
    a = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    b = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    b[2] = a[2].detach()
    found = row_distances(a, b)
    wanted = torch.linalg.vector_norm(a.double() - b.double(), dim=1)
    torch.testing.assert_close(found.double(), wanted, atol=1.1e-4, rtol=1e-5)
    gradient = torch.autograd.grad(found.sum(), a)[0]
    assert bool(torch.isfinite(gradient).all())
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(gradient[others], ((a - b) / found[:, None])[others].detach(), atol=1e-5, rtol=1e-5)
