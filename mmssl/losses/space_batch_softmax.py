"""The loss of SLAVC (Mo and Morgado, "A closer look at weakly-supervised audio-visual source
localization", arXiv 2209.09634).

Two questions have a head each: which place of the picture a sound belongs to (softmax over space), and which sound of
the batch belongs to a place (softmax over the batch). The evidence for a pair is the chance that both agree.

The published code (github.com/stoneMo/SLAVC, model.py) has two terms, the student's pictures against the teacher's
sounds and the teacher's pictures against the student's sounds, and takes the softmax over *sounds* in both: a picture
is told from no other picture. Which rows compete is the caller's choice here, by what is given as rows.
"""

from __future__ import annotations

import torch

from mmssl.losses.info_nce import info_nce
from mmssl.losses.precision import in_float32


@in_float32
def log_evidence(batch_logits: torch.Tensor, space_logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``log sum_p softmax_j(b_ijp) softmax_p(s_ijp)``, from logarithms, so that nothing underflows.

    Args:
        batch_logits: [N, N, P], similarity of place p of picture i with sound j in the first head, divided by the
            temperature.
        space_logits: [N, N, P], likewise in the second head.
        weight: [N]; sounds of weight 0 are no candidates.

    Returns:
        [N, N]; at most 0. Columns of weight 0 hold finite numbers that mean nothing.
    """
    there = (weight > 0)[None, :, None]
    candidates = batch_logits.masked_fill(~there, -torch.inf)
    # Without any valid sound all would be -inf and its gradient NaN.
    candidates = torch.where((weight > 0).any(), candidates, torch.zeros_like(candidates))
    over_batch = batch_logits - torch.logsumexp(candidates, dim=1, keepdim=True)
    return torch.logsumexp(over_batch + torch.log_softmax(space_logits, dim=2), dim=2)


@in_float32
def space_batch_nce(batch_logits: torch.Tensor, space_logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the sounds, with `log_evidence` as the logits; one direction.

    With the first two dimensions of both logits exchanged it is the other direction, over the pictures.

    Args:
        batch_logits: [N, N, P], see `log_evidence`.
        space_logits: [N, N, P].
        weight: [N], 0 for rows that are no anchors and no candidates.

    Returns:
        Scalar; log of the number of candidates with uniform logits, 0 without a valid row.
    """
    return info_nce(log_evidence(batch_logits, space_logits, weight), weight)
