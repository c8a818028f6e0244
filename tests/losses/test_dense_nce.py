"""Dense InfoNCE against its formula with loops, holes included."""

from __future__ import annotations

import math

import pytest
import torch

from mmssl.losses.dense_nce import dense_nce


def test_equals_its_formula_gradients_included() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(4, 6, generator=generator).requires_grad_()
    candidates = torch.randn(7, 6, generator=generator).requires_grad_()
    own = torch.tensor([2, 6, 0, 5])
    valid = torch.tensor([True, True, True, False, True, True, True])
    p, c = predicted.double(), candidates.double()
    rows = []
    for row, mine in enumerate(own.tolist()):
        total = sum(torch.exp((p[row] * c[k]).sum()) for k in range(7) if bool(valid[k]))
        rows.append(-torch.log(torch.exp((p[row] * c[mine]).sum()) / total))
    reference = torch.stack(rows)
    ours = dense_nce(predicted, candidates, own, valid)
    torch.testing.assert_close(ours.double(), reference, atol=1e-5, rtol=1e-5)
    for given in (predicted, candidates):
        wanted = torch.autograd.grad(reference.sum(), given, retain_graph=True)[0]
        found = torch.autograd.grad(ours.sum(), given, retain_graph=True)[0]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_alike_candidates_give_the_logarithm_of_their_number() -> None:
    valid = torch.arange(9) < 5
    loss = dense_nce(torch.randn(3, 4), torch.ones(9, 4), torch.tensor([0, 1, 4]), valid)
    assert loss.tolist() == pytest.approx([math.log(5)] * 3, abs=1e-5)


def test_what_stands_in_a_hole_changes_nothing_and_passes_no_gradient() -> None:
    predicted, candidates = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    valid = torch.tensor([True, False, True])
    spoiled = candidates.clone()
    spoiled[1] = float("inf")
    spoiled.requires_grad_()
    one, two = (dense_nce(predicted, c, torch.arange(3), valid) for c in (candidates, spoiled))
    assert torch.equal(one, two)
    assert float(two[1].detach()) == 0.0
    by_anchor, by_candidate = torch.autograd.grad(two.sum(), (predicted, spoiled))
    assert torch.isfinite(by_anchor).all()
    assert torch.isfinite(by_candidate).all()
    assert not by_anchor[1].any()
    assert not by_candidate[1].any()


def test_no_valid_candidate_at_all() -> None:
    predicted = torch.randn(2, 4, requires_grad=True)
    loss = dense_nce(predicted, torch.randn(2, 4), torch.arange(2), torch.zeros(2, dtype=torch.bool))
    assert loss.tolist() == [0.0, 0.0]
    assert not torch.autograd.grad(loss.sum(), predicted)[0].any()
