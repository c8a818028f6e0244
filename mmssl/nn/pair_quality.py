"""How far a pair of a clip and a sentence is to be trusted, learned against the matcher."""

from __future__ import annotations

import torch
from torch import nn

from mmssl.ops.fixed_sum import weights_of_sum


class PairQuality(nn.Module):
    """Weights in [0, 1] of pairs of vectors, whose sum is a fixed share of their number.

    Args:
        dimension: D of the vectors.
        hidden: width of the layer between.
    """

    def __init__(self, dimension: int, hidden: int = 64) -> None:
        super().__init__()
        self.judge = nn.Sequential(
            nn.Linear(3 * dimension, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, a: torch.Tensor, b: torch.Tensor, valid: torch.Tensor, share: float) -> torch.Tensor:
        """Float32 [P] of vectors [P, D] and [P, D], which get no gradient; 0 where not `valid`, bool [P]."""
        a, b = a.detach(), b.detach()
        # Of unit vectors in D dimensions a product of two entries is of the order of 1 / D, an entry of 1 / sqrt(D).
        scale = a.shape[1] ** 0.5
        logits = self.judge(torch.cat([a * b * scale**2, a * scale, b * scale], dim=1))[:, 0].float()
        with torch.autocast(a.device.type, enabled=False):
            return weights_of_sum(logits, valid, share) if share < 1 else valid.float() + 0.0 * logits
