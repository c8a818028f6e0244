"""k-means against scikit-learn, and clusters that run empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from mmssl.ops.kmeans import lloyd, nearest


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
    assert np.array_equal(nearest(points, found).numpy(), reference.labels_)


def test_no_cluster_stays_empty() -> None:
    """All centroids far off on one side: one is nearest to every point, the others are refilled."""
    points = blobs(1)
    start = torch.full((5, 6), 100.0) + torch.arange(5)[:, None]
    found = lloyd(points, start, 20)
    sizes = torch.bincount(nearest(points, found), minlength=5)
    assert int(sizes.min()) > 0
    assert bool(torch.isfinite(found).all())
    lone = lloyd(torch.zeros(8, 3), torch.zeros(4, 3), 3)  # nothing to tell apart
    assert torch.equal(lone, torch.zeros(4, 3))


def test_more_clusters_than_points_are_refused() -> None:
    with pytest.raises(ValueError, match="3 points cannot fill 4"):
        lloyd(torch.zeros(3, 2), torch.zeros(4, 2))
