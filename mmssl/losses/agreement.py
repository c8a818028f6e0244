"""Cross-modal agreement: other samples that are alike in both modalities are positives (AVID-CMA, arXiv 2004.12943).

Two clips may look alike and sound different, or the other way round; where both agree they likely show the same. The
positives are mined over both modalities and used within each.
"""

from __future__ import annotations

import torch

from mmssl.losses.precision import in_float32


@torch.no_grad()
def consensus_positives(
    first: torch.Tensor, second: torch.Tensor, usable: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` candidates of each row that are most alike in both modalities.

    Args:
        first: [N, C], similarity of row and candidate in one modality.
        second: [N, C], the same pairs' similarity in the other.
        usable: bool [N, C], which candidates may be taken.
        count: how many; fewer where fewer are usable.

    Returns:
        positives bool [N, C], and the consensus [N, C]: the smaller of both similarities.
    """
    consensus = torch.minimum(first, second)
    ranked = consensus.masked_fill(~usable, -torch.inf)
    best = ranked.topk(min(count, ranked.shape[1]), dim=1).indices
    positives = torch.zeros_like(usable).scatter(1, best, torch.ones_like(best, dtype=torch.bool)) & usable
    return positives, consensus


@in_float32
def agreement_nce(
    logits: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """InfoNCE of each positive against the row's negatives, averaged over its positives and then over the rows.

    A positive is contrasted with the negatives alone: the other positives are in no denominator.

    Args:
        logits: [N, C], similarity divided by the temperature.
        positives: bool [N, C].
        negatives: bool [N, C].
        weight: [N], 0 for rows that take no part; rows without a positive or a negative take none either.

    Returns:
        Scalar; with uniform logits ``log(1 + negatives)``. 0 without a usable row.

    Raises:
        ValueError: a candidate is both positive and negative.
    """
    if bool((positives & negatives).any()):
        raise ValueError("a candidate is a positive and a negative of the same row")
    usable = (weight > 0) & positives.any(dim=1) & negatives.any(dim=1)
    pushed = logits.masked_fill(~negatives, -torch.inf)
    # A row without negatives would be all -inf: it keeps a finite stand-in that its weight then removes.
    pushed = torch.where(usable[:, None], pushed, torch.zeros_like(pushed))
    against = torch.logsumexp(pushed, dim=1, keepdim=True)
    each = torch.nn.functional.softplus(against - logits)
    pulled = torch.where(positives, each, torch.zeros_like(each)).sum(dim=1) / positives.sum(dim=1).clamp(min=1)
    effective = torch.where(usable, weight, torch.zeros_like(weight))
    return (torch.where(usable, pulled, torch.zeros_like(pulled)) * effective).sum() / effective.sum().clamp(min=1e-12)
