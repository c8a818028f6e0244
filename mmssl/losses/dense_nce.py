"""InfoNCE of anchors against one list of candidates (van den Oord et al., arXiv 1807.03748; dense in space and time as
in DPC, Han, Xie, Zisserman, arXiv 1909.04656): plain dot products, neither normalised nor divided by a temperature.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from mmssl.losses.precision import in_float32


@in_float32
def dense_nce(
    predicted: torch.Tensor, candidates: torch.Tensor, own: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of each anchor against its own candidate.

    Args:
        predicted: [A, D], one prediction an anchor.
        candidates: [M, D], of the gathered batch.
        own: int64 [A], which candidate is the anchor's own.
        valid: bool [M], False for candidates that stand in holes; an anchor whose own one is invalid gives 0.

    Returns:
        [A]; the logarithm of the number of valid candidates where all are alike.
    """
    # Holes are left out on both sides: whatever stands there, no infinity is multiplied by its zero.
    candidates = torch.where(valid[:, None], candidates, torch.zeros_like(candidates))
    taking_part = valid[own]
    predicted = torch.where(taking_part[:, None], predicted, torch.zeros_like(predicted))
    logits = (predicted @ candidates.T).masked_fill(~valid, -torch.inf)
    logits = torch.where(taking_part[:, None], logits, torch.zeros_like(logits))
    loss = functional.cross_entropy(logits, own, reduction="none")
    return torch.where(taking_part, loss, torch.zeros_like(loss))
