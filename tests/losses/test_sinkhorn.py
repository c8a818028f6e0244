"""Sinkhorn-Knopp in logarithms against the plain matrix form in float64, and its closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.losses.sinkhorn import ranked_sizes, sinkhorn_potential


def plain_sinkhorn(scores: np.ndarray, sizes: np.ndarray, iterations: int) -> np.ndarray:
    """Rows and columns of exp(scores) scaled in turn, in float64; rows last, as labels are read by row."""
    plan, rows = np.exp(scores - scores.max()), len(scores)
    plan /= plan.sum(axis=1, keepdims=True)
    for _ in range(iterations):
        plan *= sizes * rows / plan.sum(axis=0)
        plan /= plan.sum(axis=1, keepdims=True)
    return plan


def random_scores(seed: int, rows: int, clusters: int, heads: int = 2) -> torch.Tensor:
    return 4 * torch.randn(heads, rows, clusters, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(4, 30), st.integers(2, 6), st.integers(1, 40), st.booleans())
def test_equals_the_matrix_form_in_float64(seed: int, rows: int, clusters: int, iterations: int, even: bool) -> None:
    scores = random_scores(seed, rows, clusters)
    sizes = (
        torch.ones(2, clusters)
        if even
        else torch.rand(2, clusters, generator=torch.Generator().manual_seed(seed)) + 0.1
    )
    sizes = sizes / sizes.sum(dim=1, keepdim=True)
    potential = sinkhorn_potential(scores, sizes, iterations=iterations)
    for head in range(2):
        wanted = plain_sinkhorn(scores[head].double().numpy(), sizes[head].double().numpy(), iterations)
        found = torch.softmax(scores[head] + potential[head], dim=1)
        assert np.abs(found.numpy() - wanted).max() < 1e-5


def test_clusters_get_their_sizes_even_when_all_samples_prefer_one() -> None:
    scores = random_scores(0, 240, 4)
    scores[..., 1] += 50.0
    sizes = torch.tensor([[0.25] * 4, [0.1, 0.2, 0.3, 0.4]])
    potential = sinkhorn_potential(scores, sizes, iterations=300)
    plan = torch.softmax(scores + potential[:, None], dim=2)
    torch.testing.assert_close(plan.mean(dim=1), sizes, atol=1e-4, rtol=0)
    labels = (scores + potential[:, None]).argmax(dim=2)
    shares = torch.nn.functional.one_hot(labels, 4).float().mean(dim=1)
    assert float((shares - sizes).abs().max()) < 0.05
    assert potential.mean(dim=1).abs().max() < 1e-5


def test_sharp_scores_do_not_underflow_and_a_start_goes_on() -> None:
    scores = 200 * random_scores(1, 50, 5)
    sizes = torch.full((2, 5), 0.2)
    assert bool(torch.isfinite(sinkhorn_potential(scores, sizes)).all())
    scores = random_scores(2, 50, 5)
    half = sinkhorn_potential(scores, sizes, iterations=7)
    torch.testing.assert_close(
        sinkhorn_potential(scores, sizes, half, 8),
        sinkhorn_potential(scores, sizes, iterations=15),
        atol=1e-5,
        rtol=1e-5,
    )


def test_alike_scores_leave_nothing_to_balance() -> None:
    assert torch.allclose(sinkhorn_potential(torch.zeros(9, 3), torch.full((3,), 1 / 3)), torch.zeros(3), atol=1e-6)


def test_sizes_are_normal_by_rank() -> None:
    shares = torch.tensor([[0.5, 0.1, 0.4, 0.0], [0.1, 0.2, 0.3, 0.4]])
    sizes = ranked_sizes(shares, 0.1)
    assert torch.allclose(sizes.sum(dim=1), torch.ones(2))
    assert torch.equal(sizes.argsort(dim=1), shares.argsort(dim=1))
    assert torch.allclose(ranked_sizes(shares, 0.0), torch.full((2, 4), 0.25))
    many = ranked_sizes(torch.rand(2000, generator=torch.Generator().manual_seed(0)), 0.1) * 2000
    assert float(many.std()) == pytest.approx(0.1, abs=0.005)
    with pytest.raises(ValueError, match="spread"):
        ranked_sizes(shares, 0.5)
