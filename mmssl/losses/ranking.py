"""Bidirectional ranking with a margin (Kiros et al., arXiv 1411.2539), one cost for each pair of a clip and a sentence.

Costs are given pair by pair, so that a task can weigh pairs by how far they are to be trusted.
"""

from __future__ import annotations

import torch

from mmssl.losses.precision import in_float32


@in_float32
def bidirectional_ranking(
    similarity: torch.Tensor,
    sentences: torch.Tensor,
    weight: torch.Tensor,
    same: torch.Tensor | None = None,
    margin: float = 0.2,
) -> torch.Tensor:
    """By how much other sentences and other clips come too near to each pair.

    For clip i and its own sentence k with similarity p, the mean over the sentences n of other clips of
    ``max(margin - p + similarity(i, n), 0)``, plus the mean over the other clips j of
    ``max(margin - p + similarity(j, k), 0)``.

    Args:
        similarity: [N, N, K], of clip i and sentence k of clip j.
        sentences: bool [N, K], which sentences exist.
        weight: [N], 0 for clips that take no part.
        same: bool [N, N, K], True where sentence k of clip j says the same as one of clip i's own: no negative.
        margin: by which a pair should be nearer than what does not belong together.

    Returns:
        [N, K] >= 0; 0 for pairs that do not exist. Where all similarities are equal it is ``2 margin``.
    """
    count = len(weight)
    there = sentences & (weight > 0)[:, None]  # [N, K]
    other = ~torch.eye(count, dtype=torch.bool, device=weight.device)[:, :, None]
    rival = other & there[None] & (weight > 0)[:, None, None]
    if same is not None:
        rival = rival & ~same
    own = similarity.diagonal().T  # [N, K], of clip i and its own sentence k
    flat, rivals = similarity.flatten(1), rival.flatten(1)  # clip i against every sentence
    by_clip = (margin - own[:, :, None] + flat[:, None, :]).clamp(min=0) * rivals[:, None, :]
    by_clip = by_clip.sum(dim=2) / rivals.sum(dim=1).clamp(min=1)[:, None]
    by_sentence = (margin - own[None] + similarity).clamp(min=0) * rival  # clip j against sentence k of clip i
    by_sentence = by_sentence.sum(dim=0) / rival.sum(dim=0).clamp(min=1)
    return torch.where(there, by_clip + by_sentence, torch.zeros_like(own))
