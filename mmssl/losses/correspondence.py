"""The loss of correspondence: do two things belong together? (L3-Net, arXiv 1705.08168; AVE-Net, arXiv 1712.06651)."""

from __future__ import annotations

import torch
from torch.nn import functional

from mmssl.losses.precision import in_float32


@in_float32
def balanced_cross_entropy(logits: torch.Tensor, together: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Two-way cross-entropy of pairs, with half of the weight on those that belong together and half on the others.

    Args:
        logits: [P, 2], evidence that a pair does not belong together, and that it does.
        together: bool [P], whether it does.
        weight: [P], 0 for pairs that take no part.

    Returns:
        Scalar; log 2 where both logits are alike. A kind of pair without a valid one adds 0.
    """
    per_pair = functional.cross_entropy(logits, together.long(), reduction="none")
    per_pair = torch.where(weight > 0, per_pair, torch.zeros_like(per_pair))
    kinds = [torch.where(kind, weight, torch.zeros_like(weight)) for kind in (together, ~together)]
    means = [(per_pair * share).sum() / share.sum().clamp(min=1e-12) for share in kinds]
    return 0.5 * (means[0] + means[1])
