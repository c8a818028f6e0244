"""The tri-map loss of LVS (Chen et al., "Localizing visual sounds the hard way", arXiv 2104.02691).

A picture's map with its own sound is cut in three, softly: places that surely sound, places that surely do not, and
a zone between that is left alone. The first are the positive; the second, of the very same picture, are hard
negatives beside all other sounds.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from mmssl.losses.info_nce import info_nce
from mmssl.losses.precision import in_float32


@in_float32
def weighted_mean(similarity: torch.Tensor, log_weight: torch.Tensor) -> torch.Tensor:
    """Mean over the last dimension with weights given by their logarithms, which may all be tiny."""
    return (torch.softmax(log_weight, dim=-1) * similarity).sum(dim=-1)


@in_float32
def tri_map_nce(
    similarity: torch.Tensor,
    weight: torch.Tensor,
    temperature: float = 0.07,
    positive: float = 0.65,
    negative: float = 0.4,
    softness: float = 0.03,
) -> torch.Tensor:
    """Cross-entropy of each picture's positive places against the other sounds and its own negative places.

    With ``P = sigmoid((s - positive) / softness)`` and ``N = 1 - sigmoid((s - negative) / softness)`` the candidates of
    picture i are ``mean_P s_ii`` (right), ``mean_P s_ij`` for every other sound j, and ``mean_N s_ii``. The place of
    sound i among the others is -inf: the published code multiplies it by -99, which makes a large positive of it as
    soon as the similarity is negative.

    Args:
        similarity: [N, N, P], cosines of picture i's places with sound j.
        weight: [N], 0 for rows that are no anchors and no candidates.
        temperature: of the cross-entropy.
        positive: cosine from which a place counts as sounding.
        negative: cosine below which it counts as silent.
        softness: width of both edges.

    Returns:
        Scalar; 0 without a valid row.
    """
    scores = weighted_mean(similarity, functional.logsigmoid((similarity - positive) / softness))
    own = similarity.diagonal(dim1=0, dim2=1).T
    silent = weighted_mean(own, functional.logsigmoid(-(own - negative) / softness))
    return info_nce(scores / temperature, weight, (silent / temperature)[:, None])
