"""Cross and Learn against its formula with loops in float64, and its closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from mmssl.losses.cross_and_learn import EPSILON, cosine_matrix, cross_and_learn, relu_cosine


def features(rows: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rgb, flow = torch.randn(2, rows, 5, generator=generator, dtype=torch.float64).relu().unbind()
    return rgb.requires_grad_(), flow.requires_grad_()


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    dot, aa, bb = (sum((x[k] * y[k] for k in range(len(a))), torch.tensor(0.0)) for x, y in ((a, b), (a, a), (b, b)))
    return dot / ((aa + EPSILON).sqrt() * (bb + EPSILON).sqrt())


def test_equals_the_formula_with_its_gradients() -> None:
    rgb, flow = features()
    partner = torch.tensor([2, 0, 4, 3, 1, 5])  # rows 3 and 5 take no part
    weight = torch.tensor([1.0, 1, 1, 0, 1, 0], dtype=torch.float64)
    ours = cross_and_learn(rgb, flow, partner, weight, 0.7, 0.3).sum()
    total = torch.zeros((), dtype=torch.float64)
    for i in (0, 1, 2, 4):
        j = int(partner[i])
        total = total + 0.3 * (cosine(rgb[i], rgb[j]) + cosine(flow[i], flow[j]))
        total = total - 0.7 * (cosine(rgb[i], flow[i]) + cosine(rgb[j], flow[j]))
    wanted = total / 4 + 2 * 0.7
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    for made, reference in zip(
        torch.autograd.grad(ours, (rgb, flow)), torch.autograd.grad(wanted, (rgb, flow)), strict=True
    ):
        torch.testing.assert_close(made, reference, atol=1e-5, rtol=1e-5)


def test_closed_forms() -> None:
    partner, weight = torch.tensor([1, 2, 0]), torch.ones(3)
    ideal = 100 * torch.eye(3)
    between, within = cross_and_learn(ideal, ideal, partner, weight)
    assert float(between) == pytest.approx(0.0, abs=1e-6)
    assert float(within) == 0.0
    alike = 100 * torch.ones(3, 4)  # everything one vector: the cross-modal term is content
    between, within = cross_and_learn(alike, alike, partner, weight)
    assert float(between) == pytest.approx(0.0, abs=1e-6)
    assert float(within) == pytest.approx(1.0, abs=1e-6)
    opposite = cross_and_learn(ideal, ideal[[1, 2, 0]], partner, weight)
    assert float(opposite.sum()) == pytest.approx(1.0, abs=1e-6)


def test_nothing_valid_is_zero_and_zeros_have_a_gradient() -> None:
    rgb, flow = torch.zeros(2, 4, requires_grad=True), torch.zeros(2, 4, requires_grad=True)
    between, within = cross_and_learn(rgb, flow, torch.tensor([1, 0]), torch.ones(2))
    assert float(between.detach()) == 1.0  # a vector of zeros is unlike everything
    (between + within).backward()
    assert torch.isfinite(rgb.grad).all()  # type: ignore[arg-type]
    assert float(cross_and_learn(rgb, flow, torch.tensor([0, 1]), torch.zeros(2)).detach().abs().sum()) == 0.0


def test_the_matrix_holds_the_cosines() -> None:
    rgb, flow = features()
    matrix = cosine_matrix(rgb, flow)
    torch.testing.assert_close(matrix.diagonal(), relu_cosine(rgb, flow))
    torch.testing.assert_close(matrix, relu_cosine(rgb[:, None], flow[None]))
    angle = torch.tensor([[math.cos(1.0), math.sin(1.0)]]) * 1000
    assert float(relu_cosine(angle, torch.tensor([[1000.0, 0.0]]))) == pytest.approx(math.cos(1.0), abs=1e-5)
