"""The margin loss of AVTS against PyTorch's hinge and the numbers of its formula."""

from __future__ import annotations

import pytest
import torch

from mmssl.losses.margin import contrastive_margin


def test_equals_the_formula_of_the_paper_gradients_included() -> None:
    distance = torch.rand(20, generator=torch.Generator().manual_seed(0)).mul(1.5).requires_grad_()
    together = torch.arange(20) % 2 == 0
    weight = (torch.arange(20) % 5 > 0).float()
    y, d = together.double(), distance.double()
    reference = (y * d**2 + (1 - y) * torch.relu(0.99 - d) ** 2)[weight > 0].mean()
    ours = contrastive_margin(distance, together, weight)
    torch.testing.assert_close(ours.double(), reference, atol=1e-5, rtol=1e-5)
    ours_gradient, gradient = (torch.autograd.grad(loss, distance)[0] for loss in (ours, reference))
    torch.testing.assert_close(ours_gradient, gradient, atol=1e-5, rtol=1e-5)
    assert not ours_gradient[weight == 0].any()


@pytest.mark.parametrize(
    ("distance", "together", "expected"),
    [(0.5, True, 0.25), (0.0, True, 0.0), (0.49, False, 0.25), (0.99, False, 0.0), (1.7, False, 0.0)],
)
def test_closed_forms(distance: float, together: bool, expected: float) -> None:
    loss = contrastive_margin(torch.tensor([distance]), torch.tensor([together]), torch.ones(1), margin=0.99)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_no_valid_pair_gives_zero_with_a_zero_gradient() -> None:
    distance = torch.rand(4, requires_grad=True)
    loss = contrastive_margin(distance, torch.ones(4, dtype=torch.bool), torch.zeros(4))
    assert float(loss) == 0.0
    assert not torch.autograd.grad(loss, distance)[0].any()
