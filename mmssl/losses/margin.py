"""The margin loss of AVTS (Korbar et al., "Cooperative learning of audio and video models", arXiv 1807.00230)."""

from __future__ import annotations

import torch

from mmssl.losses.precision import in_float32


@in_float32
def contrastive_margin(
    distance: torch.Tensor, together: torch.Tensor, weight: torch.Tensor, margin: float = 0.99
) -> torch.Tensor:
    """``y d^2 + (1 - y) max(margin - d, 0)^2``, averaged over valid pairs.

    Args:
        distance: [P], Euclidean distance of the two embeddings of a pair, >= 0.
        together: bool [P], y: whether the pair belongs together.
        weight: [P], 0 for pairs that take no part.
        margin: distance from which a negative pair costs nothing.
    """
    positive, negative = distance.square(), (margin - distance).clamp(min=0).square()
    per_pair = torch.where(together, positive, negative)
    per_pair = torch.where(weight > 0, per_pair, torch.zeros_like(per_pair))
    return (per_pair * weight).sum() / weight.sum().clamp(min=1e-12)
