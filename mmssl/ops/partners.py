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


def near_rows(place: torch.Tensor, valid: torch.Tensor, reach: int) -> torch.Tensor:
    """Bool [N, N], symmetric: which valid rows are among the `reach` next before or after each valid one, or it itself.

    Args:
        place: float [N], by which the rows are ordered, all different.
        valid: bool [N].
        reach: rows on either side; the first and the last have fewer.
    """
    order = torch.where(valid, place, torch.full_like(place, torch.inf)).argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(place), device=place.device)
    return ((rank[:, None] - rank[None]).abs() <= reach) & valid[:, None] & valid[None]


def exchanged(drawn: torch.Tensor, derange: bool) -> torch.Tensor:
    """Int64 [N]: a permutation of all rows; every row is taken once.

    Args:
        drawn: float [N], one draw a row.
        derange: whether no row may keep its place (with two rows or more); else all permutations are equally likely.
    """
    return ring_partner(drawn, torch.ones_like(drawn, dtype=torch.bool)) if derange else drawn.argsort(stable=True)


def win_rate(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Float [N]: 1 where `own` scores higher than `other`, 0.5 where they tie, else 0 (a constant model gets 0.5)."""
    return (own > other).float() + 0.5 * (own == other).float()


def choice_rate(own: torch.Tensor, scores: torch.Tensor, rivals: torch.Tensor, choices: int) -> torch.Tensor:
    """Float [N]: how often `own` scores highest among itself and ``choices - 1`` of its rivals, over all such choices.

    The mean over every set of rivals is computed from the own one's rank, nothing is drawn: of m rivals, g of them
    greater, ``C(m - g, c) / C(m, c)`` sets of c have none above it. Ties are shared evenly. A model that knows nothing
    gets exactly ``1 / choices``, however many rivals the batch holds; 0 for rows with fewer than ``choices - 1``.

    Args:
        own: [N], score of each row's own candidate.
        scores: [N, M], scores of all candidates.
        rivals: bool [N, M], which of them are rivals.
        choices: candidates to choose from, the own one included.
    """
    drawn = float(choices - 1)
    number = rivals.sum(dim=1).double()
    greater = ((scores > own[:, None]) & rivals).sum(dim=1).double()
    tied = ((scores == own[:, None]) & rivals).sum(dim=1).double()
    # With t ties the own one is at each of t + 1 places equally often; the sum over them of C(m - g - j, c) telescopes.
    above = (
        _log_binomial(number - greater + 1, drawn + 1).exp() - _log_binomial(number - greater - tied, drawn + 1).exp()
    )
    scale = _log_binomial(number, drawn)
    return torch.where(number >= drawn, above * torch.exp(-scale) / (tied + 1), torch.zeros_like(number)).float()


def _log_binomial(n: torch.Tensor, k: float) -> torch.Tensor:
    """Log of n over k, -inf where n < k."""
    inside = n >= k
    safe = torch.where(inside, n, torch.full_like(n, k))
    wanted = torch.full_like(n, k)
    value = torch.lgamma(safe + 1) - torch.lgamma(wanted + 1) - torch.lgamma(safe - wanted + 1)
    return torch.where(inside, value, torch.full_like(n, -torch.inf))


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
