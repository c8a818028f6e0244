"""The three regularisers of FNAC (Sun et al., "Learning audio-visual source localization via false negative aware
contrastive learning", arXiv 2303.11302).

Another clip's sound may fit the picture as well. How alike two sounds (or two pictures) are says how far the pair is
to be pushed apart: the distributions over the batch that follow from the similarities within one modality are soft
targets for those between modalities.
"""

from __future__ import annotations

import torch

from mmssl.losses.precision import in_float32

#: Candidates of a row in the batch for which the published weight of 100 was set. The published distance is a mean over
#: all entries of a batch's square matrix, and two distributions differ by at most 2 in a row however many entries it
#: has: the mean, and with it the regularisers beside the contrast, would grow as 1 / candidates in smaller batches.
PUBLISHED_CANDIDATES = 128


@in_float32
def distribution_distance(
    one: torch.Tensor, other: torch.Tensor, weight: torch.Tensor, rivals: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over valid rows of how far apart the row-wise softmaxes of two matrices are, on the published scale.

    It is the mean absolute difference of the entries, times the mean number of candidates of a valid row over
    `PUBLISHED_CANDIDATES`: with 128 valid rows the published `l1_loss` of the two distributions, and of that size with
    any number of rows or rivals.

    Args:
        one: [N, N], similarities divided by the temperature.
        other: [N, N].
        weight: [N], 0 for rows that take no part as row or column.
        rivals: bool [N, N], the columns that each row is compared with; None for all.

    Returns:
        Scalar in [0, 2 / `PUBLISHED_CANDIDATES`]; 0 without a valid row.
    """
    there = weight > 0
    both = there[:, None] & there[None, :]
    if rivals is not None:
        both = both & rivals

    def rows(logits: torch.Tensor) -> torch.Tensor:
        # A row without candidates keeps finite stand-ins, which the mask then removes.
        some = both.any(dim=1, keepdim=True)
        kept = torch.where(some, logits.masked_fill(~both, -torch.inf), torch.zeros_like(logits))
        return torch.softmax(kept, dim=1)

    difference = (rows(one) - rows(other)).abs()
    summed = torch.where(both, difference, torch.zeros_like(difference)).sum()
    # The number of candidates cancels: (sum / entries) * (entries / rows) / 128.
    return summed / there.sum().clamp(min=1) / PUBLISHED_CANDIDATES


@in_float32
def foreground_mean(places: torch.Tensor, own: torch.Tensor, threshold: float = 0.6) -> torch.Tensor:
    """Mean [N, D] over all places of the vectors where the picture's own map is high, zero elsewhere.

    Args:
        places: [N, D, P].
        own: [N, P], the map of each picture with its own sound; scaled to 0..1 by its least and largest value.
        threshold: above which a place is foreground; the cut passes no gradient.
    """
    low = own.amin(dim=1, keepdim=True)
    scaled = (own - low) / (own.amax(dim=1, keepdim=True) - low + 1e-5)
    return (places * (scaled > threshold)[:, None]).mean(dim=2)


@in_float32
def false_negative_terms(
    places: torch.Tensor,
    sounds: torch.Tensor,
    similarity: torch.Tensor,
    weight: torch.Tensor,
    temperature: float = 0.03,
    threshold: float = 0.6,
    rivals: torch.Tensor | None = None,
) -> torch.Tensor:
    """The three distances: sounds with pairs, sounds with foregrounds, pictures with pairs.

    Args:
        places: [N, D, P], unit vectors.
        sounds: [N, D], unit vectors.
        similarity: [N, N, P], their cosines.
        weight: [N], 0 for rows that take no part.
        temperature: divides all similarities.
        threshold: of the foreground.
        rivals: bool [N, N], see `distribution_distance`.

    Returns:
        [3], see `distribution_distance`; as published, each counts a hundredfold beside the sum of EZ-VSL's two
        directions, fiftyfold beside their mean (`multiple_instance_nce`).
    """
    pairs = similarity.amax(dim=2) / temperature
    alike = sounds @ sounds.T / temperature
    foreground = foreground_mean(places, similarity.diagonal(dim1=0, dim2=1).T, threshold)
    pictures = places.mean(dim=2)
    terms = (
        distribution_distance(alike, pairs, weight, rivals),
        distribution_distance(alike, foreground @ foreground.T / temperature, weight, rivals),
        distribution_distance(pictures @ pictures.T / temperature, pairs, weight, rivals),
    )
    return torch.stack(terms)
