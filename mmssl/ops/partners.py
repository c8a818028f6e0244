"""Partners within a batch: a derangement that depends on the draws of the whole (global) batch and nothing else."""

from __future__ import annotations

import torch


def ring_partner(drawn: torch.Tensor, valid: torch.Tensor, shift: int = 1) -> torch.Tensor:
    """Int64 [N]: another valid row for each valid row, itself where it is the only one or invalid.

    The valid rows are sorted by their draw and each takes the next: no row is its own partner and each is taken once.

    Args:
        drawn: float [N], one draw a row.
        valid: bool [N].
        shift: how many places ahead on the ring the partner stands, < 0 for behind; a shift that goes round to the
            row itself makes it its own partner.
    """
    count = len(drawn)
    order = torch.where(valid, drawn, torch.full_like(drawn, torch.inf)).argsort(stable=True)
    place = torch.arange(count, device=drawn.device)
    number = valid.sum()
    following = (place + shift).remainder(number.clamp(min=1))
    partner = torch.arange(count, device=drawn.device)
    partner[order] = torch.where(place < number, order[following], order)
    return partner


def win_rate(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Float [N]: 1 where `own` scores higher than `other`, 0.5 where they tie, else 0 (a constant model gets 0.5)."""
    return (own > other).float() + 0.5 * (own == other).float()
