"""MIL-NCE (Miech et al., "End-to-end learning of visual representations from uncurated videos", arXiv 1912.06430).

Each clip has a bag of candidate sentences of which at least one is taken to fit. The public implementation counts
the positive block twice in the denominator, so that its minimum is log 2; here it is counted once and the minimum is 0.
"""

from __future__ import annotations

import torch

from mmssl.losses.precision import in_float32


@in_float32
def mil_nce(
    logits: torch.Tensor, sentences: torch.Tensor, weight: torch.Tensor, same: torch.Tensor | None = None
) -> torch.Tensor:
    """Negative log of the bag's share among all candidates, over both axes.

    Args:
        logits: [N, N, K], similarity of clip i and sentence k of clip j.
        sentences: bool [N, K], which sentences exist.
        weight: [N], 0 for clips that take no part.
        same: bool [N, N, K], True where sentence k of clip j says the same as one of clip i's own: no negative.

    Returns:
        Scalar >= 0, averaged over valid clips; 0 without a valid one.
    """
    count = len(weight)
    valid = weight > 0
    own = torch.eye(count, dtype=torch.bool, device=logits.device)[:, :, None]
    usable = (sentences & valid[:, None])[None] & valid[:, None, None]
    keep = usable if same is None else usable & (own | ~same)
    masked = torch.where(keep, logits, torch.full_like(logits, -torch.inf))
    inf_free = valid & (usable & own).any(dim=2).any(dim=1)
    flat = masked.reshape(count, -1)  # clip i against every sentence
    own_bag = torch.where(own, masked, torch.full_like(masked, -torch.inf)).reshape(count, -1)
    # Every other clip against clip i's sentences (the positive block is left out: it is in `flat` already).
    others = torch.where(own, torch.full_like(masked, -torch.inf), masked).permute(1, 0, 2).reshape(count, -1)
    candidates = torch.cat([flat, others], dim=1)
    zero = torch.zeros_like(candidates)
    candidates = torch.where(inf_free[:, None], candidates, zero)
    own_bag = torch.where(inf_free[:, None], own_bag, torch.zeros_like(own_bag))
    per_clip = torch.logsumexp(candidates, dim=1) - torch.logsumexp(own_bag, dim=1)
    effective = torch.where(inf_free, weight, torch.zeros_like(weight))
    per_clip = torch.where(inf_free, per_clip, torch.zeros_like(per_clip))
    return (per_clip * effective).sum() / effective.sum().clamp(min=1e-12)
