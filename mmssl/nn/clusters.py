"""What labels by clusters are made with: classifiers of several clusterings at once, and the centroids of one.

Asano et al., SeLaVi, arXiv 2006.13662 (heads); Caron et al., DeepCluster, arXiv 1807.05520 (centroids).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mmssl.ops.kmeans import lloyd, nearest_centroid


class ClusterHeads(nn.Module):
    """Linear classifiers of features into clusters, several at once, in float32: [N, D] -> logits [H, N, K]."""

    def __init__(self, width: int, clusters: int, heads: int) -> None:
        super().__init__()
        self.clusters = clusters
        self.linear = nn.Linear(width, heads * clusters)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Classify; labels are made sharp from these, so they are never rounded to bfloat16."""
        with torch.autocast(features.device.type, enabled=False):
            made = self.linear(features)
        return torch.as_tensor(made.unflatten(1, (-1, self.clusters)).transpose(0, 1))


class Centroids(nn.Module):
    """The clusters of one modality, by k-means on standardised features of length 1.

    Args:
        width: D of the features.
        clusters: K.
    """

    def __init__(self, width: int, clusters: int) -> None:
        super().__init__()
        self.register_buffer("means", F.normalize(torch.randn(clusters, width), dim=1))
        self.register_buffer("estimated", torch.zeros((), dtype=torch.bool))
        self.means: torch.Tensor
        self.estimated: torch.Tensor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Cluster int64 [N] of features [N, D]."""
        return nearest_centroid(F.normalize(features.detach(), dim=1), self.means)

    @torch.no_grad()
    def estimate(self, features: torch.Tensor, iterations: int) -> None:
        """k-means on features [M, D], M >= K, in the order of the stream, which is shuffled."""
        points = F.normalize(features, dim=1)
        start = self.means if bool(self.estimated) else points[: len(self.means)]
        self.means.copy_(lloyd(points, start, iterations))
        self.estimated.fill_(True)
