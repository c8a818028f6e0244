"""The loss of a sequence of flows against the formula with loops, in float64, gradients too."""

from __future__ import annotations

import pytest
import torch

from mmssl.losses.flow import sequence_l1


def reference(flows: torch.Tensor, truth: torch.Tensor, known: torch.Tensor, gamma: float, most: float) -> torch.Tensor:
    count, rows, _, height, width = flows.shape
    losses = []
    for n in range(rows):
        total = torch.zeros((), dtype=torch.float64)
        for k in range(count):
            some, pixels = torch.zeros((), dtype=torch.float64), 0
            for y in range(height):
                for x in range(width):
                    if known[n, y, x] and truth[n, :, y, x].pow(2).sum().sqrt() < most:
                        some = some + (flows[k, n, :, y, x] - truth[n, :, y, x]).abs().sum()
                        pixels += 2
            total = total + gamma ** (count - 1 - k) * some / max(pixels, 1)
        losses.append(total)
    return torch.stack(losses)


@pytest.mark.parametrize(("gamma", "most"), [(0.8, 400.0), (0.5, 1.2)])
def test_agrees_with_the_formula(gamma: float, most: float) -> None:
    generator = torch.Generator().manual_seed(0)
    flows = torch.randn(3, 4, 2, 4, 5, generator=generator)
    truth = torch.randn(4, 2, 4, 5, generator=generator)
    known = torch.rand(4, 4, 5, generator=generator) > 0.4
    known[2] = False
    one, two = flows.clone().requires_grad_(), flows.double().requires_grad_()
    found, wanted = sequence_l1(one, truth, known, gamma, most), reference(two, truth.double(), known, gamma, most)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), wanted, atol=1e-5)
    assert float(found[2].detach()) == 0.0
    mix = torch.tensor([1.0, -2.0, 3.0, 0.5])
    (found * mix).sum().backward()
    (wanted * mix.double()).sum().backward()
    assert one.grad is not None
    assert two.grad is not None
    assert torch.allclose(one.grad.double(), two.grad, atol=1e-5)


def test_closed_form_of_a_constant_error() -> None:
    truth = torch.zeros(1, 2, 3, 3)
    flows = torch.stack([torch.full_like(truth, c) for c in (4.0, 2.0, 1.0)])
    known = torch.ones(1, 3, 3, dtype=torch.bool)
    assert float(sequence_l1(flows, truth, known, 0.8)) == pytest.approx(0.64 * 4 + 0.8 * 2 + 1)
    assert float(sequence_l1(torch.stack([truth] * 3), truth, known)) == 0.0
    assert float(sequence_l1(flows, truth + 500, known)) == 0.0  # nothing so far is learned


def test_a_number_that_is_none_where_nothing_is_known_does_not_matter() -> None:
    truth = torch.zeros(1, 2, 2, 2)
    flows = torch.ones(2, 1, 2, 2, 2)
    flows[..., 0, 0] = float("nan")
    known = torch.ones(1, 2, 2, dtype=torch.bool)
    known[0, 0, 0] = False
    assert float(sequence_l1(flows, truth, known)) == pytest.approx(1.8)
