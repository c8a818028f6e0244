"""Weights in (0, 1) whose sum is given: a budget that can be moved from one item to another but not grown."""

from __future__ import annotations

import torch

STEPS = 60  # halvings of the interval in which the offset lies


def weights_of_sum(logits: torch.Tensor, valid: torch.Tensor, share: float) -> torch.Tensor:
    """``sigmoid(logits + c)`` with the one c for which the valid weights sum to `share` of their number.

    The gradient is that of the whole, c included: the weights' changes sum to zero.

    Args:
        logits: float [P], finite.
        valid: bool [P].
        share: in (0, 1).

    Returns:
        Float [P]; 0 where not valid.
    """
    there = valid.to(logits.dtype)
    total = share * there.sum()
    with torch.no_grad():
        # A sigmoid lies within [share] of its target when every logit + c does: c is between these two.
        level = torch.logit(torch.as_tensor(share, dtype=logits.dtype, device=logits.device))
        low, high = level - logits.max(), level - logits.min()
        for _ in range(STEPS):
            middle = (low + high) / 2
            over = (torch.sigmoid(logits + middle) * there).sum() > total
            low, high = torch.where(over, low, middle), torch.where(over, middle, high)
        offset = (low + high) / 2
        slope = torch.sigmoid(logits + offset) * torch.sigmoid(-logits - offset) * there
        slope = slope / slope.sum().clamp(min=1e-12)
    # The offset's value with its derivative: minus the mean logit in the sense of these slopes.
    offset = offset - ((logits - logits.detach()) * slope).sum()
    return torch.sigmoid(logits + offset) * there
