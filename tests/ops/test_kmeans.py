"""k-means against scikit-learn, and clusters that run empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from mmssl.ops.kmeans import kmeans, lloyd, nearest_centroid


def blobs(seed: int, each: int = 40, clusters: int = 5, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(clusters, 1, width, generator=generator)
    return (centres + torch.randn(clusters, each, width, generator=generator)).flatten(0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_is_what_scikit_learn_finds_from_the_same_start(seed: int) -> None:
    points = blobs(seed)
    start = points[::40].clone()
    reference = KMeans(5, init=start.double().numpy(), n_init=1, max_iter=200, tol=0, algorithm="lloyd")
    reference.fit(points.double().numpy())
    found = lloyd(points, start, 200)
    np.testing.assert_allclose(found.numpy(), reference.cluster_centers_, atol=1e-4)
    assert np.array_equal(nearest_centroid(points, found).numpy(), reference.labels_)


def test_no_cluster_stays_empty() -> None:
    """All centroids far off on one side: one is nearest to every point, the others are refilled."""
    points = blobs(1)
    start = torch.full((5, 6), 100.0) + torch.arange(5)[:, None]
    found = lloyd(points, start, 20)
    sizes = torch.bincount(nearest_centroid(points, found), minlength=5)
    assert int(sizes.min()) > 0
    assert bool(torch.isfinite(found).all())
    lone = lloyd(torch.zeros(8, 3), torch.zeros(4, 3), 3)  # nothing to tell apart
    assert torch.equal(lone, torch.zeros(4, 3))


def test_more_clusters_than_points_are_refused() -> None:
    with pytest.raises(ValueError, match="3 points cannot fill 4"):
        lloyd(torch.zeros(3, 2), torch.zeros(4, 2))


def uniforms(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread(points: torch.Tensor, centroids: torch.Tensor) -> float:
    return float((points - centroids[nearest_centroid(points, centroids)]).square().sum())


def test_nearest_is_the_nearest() -> None:
    points, centroids = uniforms(60).reshape(2, 10, 3), uniforms(15, 1).reshape(5, 3)
    wanted = torch.cdist(points, centroids.expand(2, 5, 3)).argmin(dim=2)
    assert torch.equal(nearest_centroid(points, centroids), wanted)


def test_clusters_apart_are_found() -> None:
    true = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]], dtype=torch.float64)
    points = (true[:, None] + uniforms(800).reshape(4, 100, 2) - 0.5).flatten(0, 1)
    found = kmeans(points, uniforms(4, 1))
    assert float((found[nearest_centroid(true, found)] - true).abs().max()) < 0.2


def test_it_is_as_good_as_scikit_learn() -> None:
    points = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = min(spread(points, kmeans(points, uniforms(16, seed), 300)) for seed in range(5))
    theirs = KMeans(16, n_init=5, random_state=0).fit(points.numpy()).inertia_
    assert ours < 1.02 * theirs


def test_what_it_ends_with_is_the_mean_of_its_points() -> None:
    points = uniforms(1000).reshape(500, 2)
    found = kmeans(points, uniforms(8, 1), 500)
    member = nearest_centroid(points, found)
    wanted = torch.stack([points[member == k].mean(dim=0) for k in range(8)])
    assert torch.allclose(found, wanted, atol=1e-12)


def test_fewer_points_than_centroids() -> None:
    points = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat(10, 1)
    found = kmeans(points, uniforms(5))
    assert bool(torch.isfinite(found).all())
    assert spread(points, found) == 0.0
    same = kmeans(torch.zeros(7, 2), uniforms(3))
    assert np.array_equal(same.numpy(), np.zeros((3, 2)))


def test_it_is_a_function_of_its_arguments() -> None:
    points = uniforms(400).reshape(200, 2)
    assert torch.equal(kmeans(points, uniforms(6, 1)), kmeans(points, uniforms(6, 1)))
    assert not torch.equal(kmeans(points, uniforms(6, 1), 1), kmeans(points, uniforms(6, 2), 1))
