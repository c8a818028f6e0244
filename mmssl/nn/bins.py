"""Classes of a continuous label: bins that are equally full, with edges learned from the first values seen."""

from __future__ import annotations

import torch
from torch import nn


class QuantileBins(nn.Module):
    """Turns values into classes of equal size, each dimension by itself.

    The edges are the quantiles of the first `capacity` values given to `take`, which are frozen then; before the first
    they are those of a normal distribution. Everything is a buffer: what has been learned is in the checkpoint.

    Args:
        scales: the values' expected standard deviation, one a dimension.
        bins: classes a dimension.
        capacity: values that the edges are learned from.
    """

    def __init__(self, scales: tuple[float, ...], bins: int, capacity: int = 2048) -> None:
        super().__init__()
        if bins < 2:
            raise ValueError(f"there must be at least 2 bins, got {bins}")
        self.bins, self.capacity = bins, capacity
        share = torch.arange(1, bins, dtype=torch.float64) / bins
        normal = torch.erfinv(2 * share - 1) * 2**0.5
        self.register_buffer("edges", torch.tensor(scales, dtype=torch.float64)[:, None] * normal)  # [D, bins - 1]
        self.register_buffer("seen", torch.zeros(capacity, len(scales), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fullest", torch.full((len(scales),), bins // 2, dtype=torch.int64))
        self.edges: torch.Tensor
        self.seen: torch.Tensor
        self.count: torch.Tensor
        self.fullest: torch.Tensor  # class that most of the values seen are in: what a constant guess would say

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Int64 [B, D] in 0 .. bins - 1, of float64 values [B, D]."""
        return torch.searchsorted(self.edges, values.T.contiguous(), right=True).T

    def take(self, values: torch.Tensor) -> None:
        """Learn from values, float64 [N, D], the same on all ranks; nothing is learned once `capacity` are seen."""
        count = int(self.count)
        values = values[: self.capacity - count]
        if not len(values):
            return
        self.seen[count : count + len(values)] = values
        self.count += len(values)
        known = self.seen[: count + len(values)]
        share = torch.arange(1, self.bins, dtype=torch.float64, device=known.device) / self.bins
        self.edges.copy_(torch.quantile(known, share, dim=0).T)
        shares = torch.nn.functional.one_hot(self(known), self.bins).sum(dim=0)
        self.fullest.copy_(shares.argmax(dim=1))
