"""The gradient difference loss against its formula with loops."""

from __future__ import annotations

import pytest
import torch

from mmssl.losses.gradient_difference import gradient_difference


def test_equals_its_formula_gradients_included() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(2, 3, 5, 4, generator=generator)
    made = torch.rand(2, 3, 5, 4, generator=generator).requires_grad_()
    m, t = made.double(), true.double()
    down, across = [], []
    for c in range(3):
        for i in range(5):
            for j in range(4):
                if i:
                    step = (t[:, c, i, j] - t[:, c, i - 1, j]).abs() - (m[:, c, i, j] - m[:, c, i - 1, j]).abs()
                    down.append(step.abs())
                if j:
                    step = (t[:, c, i, j] - t[:, c, i, j - 1]).abs() - (m[:, c, i, j] - m[:, c, i, j - 1]).abs()
                    across.append(step.abs())
    reference = torch.stack(down).mean(dim=0) + torch.stack(across).mean(dim=0)
    ours = gradient_difference(made, true)
    torch.testing.assert_close(ours.double(), reference, atol=1e-6, rtol=1e-5)
    wanted = torch.autograd.grad(reference.sum(), made)[0]
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), made)[0], wanted, atol=1e-6, rtol=1e-5)


def test_closed_forms() -> None:
    """Brightness does not matter, sharpness does: a ramp of slope 1/8 against a flat picture."""
    ramp = torch.arange(8.0).div(8).expand(1, 1, 6, 8)
    flat = torch.zeros_like(ramp)
    assert float(gradient_difference(ramp + 0.3, ramp)) == pytest.approx(0.0, abs=1e-6)
    assert float(gradient_difference(flat, ramp)) == pytest.approx(1 / 8)
    assert float(gradient_difference(-ramp, ramp)) == 0.0
