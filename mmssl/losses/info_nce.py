"""InfoNCE over a matrix of similarities (van den Oord et al., arXiv 1807.03748; symmetric as in CLIP, 2103.00020).

The matrix is that of the *gathered* batch: the task gathers embeddings of all ranks, the loss never does.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from mmssl.losses.precision import in_float32


@in_float32
def info_nce(logits: torch.Tensor, weight: torch.Tensor, extra: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy of each row against its own column, averaged over valid rows.

    Args:
        logits: [N, N], similarity of anchor i and candidate j, divided by the temperature.
        weight: [N], 0 for rows that are no anchors and no candidates.
        extra: [N, K], further negatives of each anchor; -inf where there is none.

    Returns:
        Scalar; with uniform logits it is log of the number of candidates. 0 without a valid row.
    """
    candidates = logits.masked_fill((weight <= 0)[None, :], -torch.inf)
    positive = logits.diagonal()
    if extra is not None:
        candidates = torch.cat([candidates, extra], dim=1)
    # An invalid row would be all -inf: it keeps a finite stand-in that its weight then removes.
    candidates = torch.where((weight > 0)[:, None], candidates, torch.zeros_like(candidates))
    per_row = torch.logsumexp(candidates, dim=1) - torch.where(weight > 0, positive, torch.zeros_like(positive))
    per_row = torch.where(weight > 0, per_row, torch.zeros_like(per_row))
    return (per_row * weight).sum() / weight.sum().clamp(min=1e-12)


@in_float32
def symmetric_info_nce(logits: torch.Tensor, weight: torch.Tensor, extra: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of `info_nce` by rows and by columns; `extra` are negatives of the rows."""
    return 0.5 * (info_nce(logits, weight, extra) + info_nce(logits.T, weight))


@in_float32
def pair_nce(own: torch.Tensor, other: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """InfoNCE of one positive against one negative, ``-log sigmoid(own - other)``, averaged over valid rows.

    Args:
        own: [N], similarity to the positive, divided by the temperature.
        other: [N], similarity to the negative, divided by the temperature.
        weight: [N], 0 for rows that take no part.

    Returns:
        Scalar; log 2 where both are alike. 0 without a valid row.
    """
    per_row = torch.where(weight > 0, functional.softplus(other - own), torch.zeros_like(own))
    return (per_row * weight).sum() / weight.sum().clamp(min=1e-12)
