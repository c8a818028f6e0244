"""k-means: known clusters are found, as well as by scikit-learn, and hard cases end."""

from __future__ import annotations

import numpy as np
import torch

from mmssl.ops.kmeans import kmeans, nearest_centroid


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
    from sklearn.cluster import KMeans

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
