"""k-means (Lloyd, 1982) with the start of k-means++ (Arthur, Vassilvitskii, SODA 2007), the randomness given."""

from __future__ import annotations

import torch


def nearest_centroid(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Int64 [...]: number of the nearest of centroids [K, D] of each point [..., D]; the first among equals."""
    # |p|^2 is the same for all centroids and left out.
    score = centroids.square().sum(dim=1) - 2 * (points @ centroids.T)
    return score.argmin(dim=-1)


def kmeans(points: torch.Tensor, uniforms: torch.Tensor, iterations: int = 50) -> torch.Tensor:
    """Centroids of points.

    Args:
        points: float [N, D], N > 0.
        uniforms: [K], in [0, 1), draws of the K starting points.
        iterations: of assigning and averaging at most; it ends before when nothing changes.

    Returns:
        [K, D], in the number format of `points`. A centroid that no point is nearest to stays where it was; with
        fewer than K different points some are equal.
    """
    centroids = _spread_start(points, uniforms)
    count = len(uniforms)
    for _ in range(iterations):
        member = torch.nn.functional.one_hot(nearest_centroid(points, centroids), count).to(points.dtype)
        sizes = member.sum(dim=0)
        means = (member.T @ points) / sizes.clamp(min=1)[:, None]
        moved = torch.where(sizes[:, None] > 0, means, centroids)
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids


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
