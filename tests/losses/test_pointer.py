"""The pointer's loss against the formula in loops, and its closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from mmssl.losses.pointer import EPS, pointed_labels, pointer_nll

ROWS, TARGETS, REFERENCES, WIDTH, CLASSES = 2, 5, 7, 4, 3


def inputs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(ROWS, TARGETS, WIDTH, generator=generator, dtype=torch.float64)
    reference = torch.randn(ROWS, REFERENCES, WIDTH, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (ROWS, REFERENCES), generator=generator)
    wanted = torch.randint(CLASSES, (ROWS, TARGETS), generator=generator)
    known = torch.rand(ROWS, TARGETS, generator=generator) < 0.7
    return target.requires_grad_(), reference.requires_grad_(), labels, wanted, known


def in_loops(
    target: torch.Tensor,
    reference: torch.Tensor,
    labels: torch.Tensor,
    wanted: torch.Tensor,
    known: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    rows = []
    for b in range(ROWS):
        losses = []
        for j in range(TARGETS):
            if not known[b, j]:
                continue
            strength = [torch.exp(target[b, j] @ reference[b, i] / temperature) for i in range(REFERENCES)]
            same = [s for s, label in zip(strength, labels[b], strict=True) if label == wanted[b, j]]
            share = sum(same, torch.zeros((), dtype=torch.float64)) / sum(strength)
            losses.append(-torch.log(share + EPS))
        rows.append(sum(losses, torch.zeros((), dtype=torch.float64)) / max(len(losses), 1))
    return torch.stack(rows)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_loss_and_gradient_are_those_of_the_formula(temperature: float) -> None:
    target, reference, labels, wanted, known = inputs()
    ours = pointer_nll(pointed_labels(target, reference, labels, CLASSES, temperature), wanted, known)
    gradients = torch.autograd.grad(ours.sum(), (target, reference))
    theirs = in_loops(target, reference, labels, wanted, known, temperature)
    wanted_gradients = torch.autograd.grad(theirs.sum(), (target, reference))
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, wanted_gradients, strict=True))


def test_rows_are_distributions() -> None:
    target, reference, labels, _, _ = inputs()
    copied = pointed_labels(target, reference, labels, CLASSES, 0.3)
    assert torch.allclose(copied.sum(dim=2), torch.ones(ROWS, TARGETS, dtype=torch.float64))
    assert float(copied.detach().min()) >= 0


def test_a_pointer_that_knows_nothing_copies_the_shares_of_the_labels() -> None:
    _, _, labels, wanted, known = inputs()
    flat = torch.zeros(ROWS, TARGETS, WIDTH)
    copied = pointed_labels(flat, torch.zeros(ROWS, REFERENCES, WIDTH), labels, CLASSES, 1.0)
    shares = torch.nn.functional.one_hot(labels, CLASSES).float().mean(dim=1)
    assert torch.allclose(copied, shares[:, None].expand_as(copied), atol=1e-6)
    even = torch.arange(6).expand(1, 6)
    loss = pointer_nll(pointed_labels(flat[:1], torch.zeros(1, 6, WIDTH), even, 6, 1.0), wanted[:1], known[:1])
    assert float(loss) == pytest.approx(math.log(6), abs=1e-5)


def test_the_target_itself_as_reference_and_a_cold_softmax_copy_its_labels() -> None:
    """And the loss reaches 0, which it could not behind a second softmax."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.nn.functional.normalize(torch.randn(2, 9, 16, generator=generator), dim=2)
    labels = torch.randint(16, (2, 9), generator=generator)
    copied = pointed_labels(cells, cells, labels, 16, 1e-3)
    assert torch.equal(copied.argmax(dim=2), labels)
    assert torch.allclose(copied, torch.nn.functional.one_hot(labels, 16).float(), atol=1e-5)
    assert float(pointer_nll(copied, labels, torch.ones(2, 9, dtype=torch.bool)).max()) < 1e-4
    assert math.log((math.e + 15) / math.e) == pytest.approx(1.875, abs=1e-3)


def test_other_numbers_for_the_labels_change_nothing() -> None:
    target, reference, labels, wanted, known = inputs()
    other = torch.tensor([2, 0, 1])
    one = pointer_nll(pointed_labels(target, reference, labels, CLASSES, 1.0), wanted, known)
    two = pointer_nll(pointed_labels(target, reference, other[labels], CLASSES, 1.0), other[wanted], known)
    assert torch.allclose(one, two, atol=1e-12)


def test_a_label_that_no_reference_has_costs_a_finite_loss_and_a_row_without_known_cells_none() -> None:
    copied = torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]], requires_grad=True)
    loss = pointer_nll(copied, torch.tensor([[1], [0]]), torch.tensor([[True], [False]]))
    assert loss.tolist() == pytest.approx([-math.log(EPS), 0.0])
    loss.sum().backward()
    assert bool(torch.isfinite(copied.grad).all())


def test_bfloat16_inputs_are_raised() -> None:
    target, reference, labels, wanted, known = inputs()
    copied = pointed_labels(target.bfloat16(), reference.bfloat16(), labels, CLASSES, 1.0)
    assert copied.dtype == torch.float32
    assert pointer_nll(copied, wanted, known).dtype == torch.float32
