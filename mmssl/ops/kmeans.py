"""k-means (Lloyd, 1982) with clusters that cannot run empty, and the start of k-means++ with its draws given.

Empty clusters are refilled as in DeepCluster (arXiv 1807.05520); k-means++: Arthur and Vassilvitskii, SODA 2007.
"""

from __future__ import annotations

import torch


def nearest_centroid(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Int64 [...]: number of the nearest of centroids [K, D] of each point [..., D]; the first among equals.

    Never under autocast: rounded to bfloat16 a distance would be that of another cluster.
    """
    with torch.autocast(points.device.type, enabled=False):
        # |p|^2 is the same for all centroids and left out.
        score = centroids.square().sum(dim=1) - 2 * (points @ centroids.T)
        return score.argmin(dim=-1)


def lloyd(points: torch.Tensor, centroids: torch.Tensor, iterations: int = 10) -> torch.Tensor:
    """Centroids [K, D] after some rounds from the given ones, deterministic; in float32, or float64 as the points are.

    A centroid that no point is nearest to moves onto one of the points that are farthest from their own, each onto
    another.

    Args:
        points: float [N, D], N >= K.
        centroids: float [K, D] to start from.
        iterations: rounds at most; it ends before when nothing changes.

    Raises:
        ValueError: fewer points than centroids.
    """
    count, clusters = len(points), len(centroids)
    if count < clusters:
        raise ValueError(f"{count} points cannot fill {clusters} clusters")
    points = points if points.dtype == torch.float64 else points.float()
    centroids = centroids.to(points.dtype)
    for _ in range(iterations):
        label = nearest_centroid(points, centroids)
        sizes = torch.bincount(label, minlength=clusters)
        sums = torch.zeros_like(centroids).index_add_(0, label, points)
        farthest = (points - centroids[label]).square().sum(dim=1).argsort(descending=True, stable=True)[:clusters]
        empty = sizes == 0
        place = (empty.long().cumsum(0) - 1).clamp(min=0)  # the first empty one takes the farthest point, and so on
        moved = torch.where(empty[:, None], points[farthest[place]], sums / sizes.clamp(min=1)[:, None])
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids


def kmeans(points: torch.Tensor, uniforms: torch.Tensor, iterations: int = 50) -> torch.Tensor:
    """Centroids [K, D] of points, from a start that is drawn.

    Args:
        points: float [N, D], N >= K.
        uniforms: [K], in [0, 1), draws of the K starting points.
        iterations: as in `lloyd`.
    """
    return lloyd(points, _spread_start(points, uniforms), iterations)


def _spread_start(points: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """[K, D]: points drawn one after the other, in proportion to the squared distance to those drawn before."""
    chosen: list[torch.Tensor] = []
    distance = torch.ones(len(points), dtype=points.dtype, device=points.device)
    for uniform in uniforms:
        edges = distance.cumsum(dim=0)
        place = torch.searchsorted(edges, (uniform * edges[-1]).to(edges.dtype), right=True).clamp(max=len(points) - 1)
        chosen.append(points[place])
        apart = (points - chosen[-1]).square().sum(dim=1)
        distance = apart if len(chosen) == 1 else torch.minimum(distance, apart)
    return torch.stack(chosen)
