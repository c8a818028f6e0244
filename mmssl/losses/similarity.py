"""Similarities between embeddings, always in float32: what a temperature divides must not be rounded to bfloat16.

The score of a picture and a sound is that of its best place, as in multiple-instance learning (AVOL-Net, Arandjelovic
and Zisserman, arXiv 1712.06651; EZ-VSL, Mo and Morgado, arXiv 2203.09324).
"""

from __future__ import annotations

import math

import torch

from mmssl.losses.precision import in_float32

POOLS = ("max", "softmax", "logsumexp")


@in_float32
def products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Scalar products [N, M] of vectors [N, D] and [M, D]."""
    return a @ b.T


@in_float32
def row_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Scalar product [N] of each row of [N, D] with the same row of the other [N, D]."""
    return (a * b).sum(dim=1)


@in_float32
def row_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Euclidean distance [N] of each row of [N, D] from the same row of the other [N, D]; at least 1e-4.

    The slope of a square root is infinite at 0, where both are the same: below 1e-4 it is taken to be 0.
    """
    return (a - b).square().sum(dim=1).clamp(min=1e-8).sqrt()


@in_float32
def bag_products(a: torch.Tensor, bags: torch.Tensor) -> torch.Tensor:
    """Scalar products [N, M, K] of vectors [N, D] with the K members of each bag [M, K, D]."""
    return (a @ bags.flatten(0, 1).T).reshape(len(a), *bags.shape[:2])


@in_float32
def place_map(places: torch.Tensor, sounds: torch.Tensor) -> torch.Tensor:
    """Scalar product [B, h, w] of each place of a picture, [B, D, h, w], with its own sound, [B, D]."""
    return (places * sounds[:, :, None, None]).sum(dim=1)


@in_float32
def place_similarities(places: torch.Tensor, sounds: torch.Tensor) -> torch.Tensor:
    """Scalar product of every place of every picture with every sound.

    Args:
        places: [N, D, h, w].
        sounds: [M, D].

    Returns:
        [N, M, h * w], row by row of the map.
    """
    return torch.as_tensor(sounds @ places.flatten(2))


@in_float32
def pool_places(similarity: torch.Tensor, pool: str = "max", sharpness: float = 0.1) -> torch.Tensor:
    """One score a picture and sound from those of its places.

    Args:
        similarity: [N, M, P], see `place_similarities`.
        pool: "max" over places, which teaches one place a picture and sound; "softmax", the mean weighted by a
            softmax over places; or "logsumexp", ``t log mean exp(s / t)``. The last two teach several places at a
            time and become the maximum as `sharpness` falls to 0.
        sharpness: temperature t of the softmax, > 0.

    Returns:
        [N, M], between the mean and the maximum.

    Raises:
        ValueError: no such pool.
    """
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
    if pool == "max":
        return similarity.amax(dim=2)
    if pool == "softmax":
        return (similarity * torch.softmax(similarity / sharpness, dim=2)).sum(dim=2)
    return sharpness * (torch.logsumexp(similarity / sharpness, dim=2) - math.log(similarity.shape[2]))


def place_scores(places: torch.Tensor, sounds: torch.Tensor, pool: str = "max", sharpness: float = 0.1) -> torch.Tensor:
    """Evidence [N, M] that picture i and sound j belong together: `pool_places` of `place_similarities`.

    N * M * h * w numbers are held on the way.
    """
    return pool_places(place_similarities(places, sounds), pool, sharpness)
