"""k-means with clusters that cannot run empty (Lloyd; refilled as in DeepCluster, arXiv 1807.05520)."""

from __future__ import annotations

import torch


def nearest(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Int64 [N]: the centroid, of [K, D], nearest to each point, of [N, D], in float32."""
    points, centroids = points.float(), centroids.float()
    return (points @ centroids.T - 0.5 * centroids.square().sum(dim=1)).argmax(dim=1)


def lloyd(points: torch.Tensor, centroids: torch.Tensor, iterations: int = 10) -> torch.Tensor:
    """Centroids float32 [K, D] after some rounds from the given ones, deterministic.

    A centroid that no point is nearest to moves onto one of the points that are farthest from their own, each onto
    another.

    Args:
        points: float [N, D], N >= K.
        centroids: float [K, D] to start from.
        iterations: rounds.

    Raises:
        ValueError: fewer points than centroids.
    """
    count, clusters = len(points), len(centroids)
    if count < clusters:
        raise ValueError(f"{count} points cannot fill {clusters} clusters")
    points, centroids = points.float(), centroids.float()
    for _ in range(iterations):
        label = nearest(points, centroids)
        sizes = torch.bincount(label, minlength=clusters)
        sums = torch.zeros_like(centroids).index_add_(0, label, points)
        farthest = (points - centroids[label]).square().sum(dim=1).argsort(descending=True, stable=True)[:clusters]
        empty = sizes == 0
        place = (empty.long().cumsum(0) - 1).clamp(min=0)  # the first empty one takes the farthest point, and so on
        centroids = torch.where(empty[:, None], points[farthest[place]], sums / sizes.clamp(min=1)[:, None])
    return centroids
