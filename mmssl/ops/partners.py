"""Partners within a batch: a derangement that depends on the draws of the whole (global) batch and nothing else."""

from __future__ import annotations

import torch


def ring_partner(drawn: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Int64 [N]: another valid row for each valid row, itself where it is the only one or invalid.

    The valid rows are sorted by their draw and each takes the next: no row is its own partner and each is taken once.

    Args:
        drawn: float [N], one draw a row.
        valid: bool [N].
    """
    count = len(drawn)
    order = torch.where(valid, drawn, torch.full_like(drawn, torch.inf)).argsort(stable=True)
    place = torch.arange(count, device=drawn.device)
    number = valid.sum()
    following = torch.where(place + 1 < number, place + 1, torch.zeros_like(place))
    partner = torch.arange(count, device=drawn.device)
    partner[order] = torch.where(place < number, order[following], order)
    return partner


def win_rate(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Float [N]: 1 where `own` scores higher than `other`, 0.5 where they tie, else 0 (a constant model gets 0.5)."""
    return (own > other).float() + 0.5 * (own == other).float()


def ring_others(drawn: torch.Tensor, valid: torch.Tensor, count: int) -> torch.Tensor:
    """Int64 [N, count]: the next `count` valid rows behind each valid row in the order of the draws.

    With more than `count` valid rows they differ from the row and from each other; with fewer the ring closes and rows
    come again. Invalid rows are given themselves.

    Args:
        drawn: float [N], one draw a row.
        valid: bool [N].
        count: other rows.
    """
    rows = [torch.arange(len(drawn), device=drawn.device)]
    following = ring_partner(drawn, valid)
    for _ in range(count):
        rows.append(following[rows[-1]])
    return torch.stack(rows[1:], dim=1)


def top_rate(own: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Float [...]: 1 where `own` [...] is higher than all of `others` [..., K], a share of it where it ties, else 0.

    Of those that tie for the highest one is taken by lot: a constant model gets 1 / (K + 1).
    """
    ties = (others == own[..., None]).sum(dim=-1)
    return (others <= own[..., None]).all(dim=-1).float() / (1 + ties)
