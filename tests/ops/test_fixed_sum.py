"""Weights of a given sum, and the gradient that keeps it."""

from __future__ import annotations

import pytest
import torch

from mmssl.ops.fixed_sum import weights_of_sum
from mmssl.ops.gradient import reversed_gradient


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("spread", [0.0, 1.0, 50.0])
def test_they_sum_to_the_share_and_keep_the_order(share: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(60, generator=generator, dtype=torch.float64)
    valid = torch.rand(60, generator=generator) > 0.3
    weights = weights_of_sum(logits, valid, share)
    assert float(weights.sum()) == pytest.approx(share * int(valid.sum()), abs=1e-6)
    assert not weights[~valid].any()
    assert ((weights >= 0) & (weights <= 1)).all()
    kept = weights[valid][logits[valid].argsort()]
    assert (kept.diff() >= 0).all()
    # A common offset of all logits changes nothing, nor what stands where nothing is valid.
    other = torch.where(valid, logits + 7, torch.full_like(logits, -1e3))
    torch.testing.assert_close(weights_of_sum(other, valid, share), weights, atol=1e-9, rtol=0)


def test_the_gradient_is_that_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(20, generator=generator, dtype=torch.float64, requires_grad=True)
    valid = torch.rand(20, generator=generator) > 0.3
    assert torch.autograd.gradcheck(lambda x: weights_of_sum(x, valid, 0.4), (logits,))
    (gradient,) = torch.autograd.grad(weights_of_sum(logits, valid, 0.4).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


def test_nothing_valid() -> None:
    logits = torch.randn(4, requires_grad=True)
    weights = weights_of_sum(logits, torch.zeros(4, dtype=torch.bool), 0.5)
    weights.sum().backward()
    assert not weights.any()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_reversed_gradient_has_the_other_sign() -> None:
    x = torch.randn(5, requires_grad=True)
    assert torch.equal(reversed_gradient(x), x)
    reversed_gradient(3 * x).square().sum().backward()
    torch.testing.assert_close(x.grad, -18 * x.detach())
