"""Sinkhorn-Knopp: the soft assignment of samples to clusters of given sizes nearest to the scores.

Cuturi, "Sinkhorn distances", arXiv 1306.0895; as labels: Asano et al., SeLa, arXiv 1911.05371, and SeLaVi, 2006.13662.
In logarithms, so that sharp scores do not underflow.
"""

from __future__ import annotations

import math

import torch

from mmssl.losses.precision import in_float32


@torch.no_grad()
@in_float32
def sinkhorn_potential(
    scores: torch.Tensor, sizes: torch.Tensor, start: torch.Tensor | None = None, iterations: int = 30
) -> torch.Tensor:
    """What is added to each cluster's score so that a softmax over clusters fills them by `sizes`.

    The assignment is ``softmax(scores + potential)`` over the clusters: its rows sum to 1 exactly, its columns to N
    times their size as the iterations converge. The potential assigns samples that were not among the N as well, so
    no label has to be stored.

    Args:
        scores: [..., N, K], logarithms of how well a sample fits a cluster, over the regularisation.
        sizes: [..., K], share of the samples that each cluster gets, > 0, sum 1.
        start: [..., K], potential to start from, of an earlier call.
        iterations: rounds of both normalisations.

    Returns:
        [..., K], its mean 0 (a constant changes nothing).
    """
    count = scores.shape[-2]
    wanted = torch.log(sizes * count)
    potential = torch.zeros_like(scores[..., 0, :]) if start is None else start.to(scores.dtype)
    for _ in range(iterations):
        assigned = torch.log_softmax(scores + potential[..., None, :], dim=-1)
        potential = potential + wanted - torch.logsumexp(assigned, dim=-2)
    return potential - potential.mean(dim=-1, keepdim=True)


def ranked_sizes(shares: torch.Tensor, spread: float) -> torch.Tensor:
    """Cluster sizes [..., K] that are normal about even with deviation `spread`, given by the rank of `shares`.

    The quantiles of a normal distribution in place of draws from it: the largest cluster so far gets the largest.

    Args:
        shares: [..., K], share of each cluster before it is balanced.
        spread: standard deviation in fractions of the mean size, in [0, 0.4); 0 for even sizes.

    Raises:
        ValueError: a spread that would give a cluster no size.
    """
    if not 0 <= spread < 0.4:
        raise ValueError(f"spread must be in [0, 0.4), got {spread}")
    clusters = shares.shape[-1]
    quantile = (torch.arange(clusters, device=shares.device, dtype=torch.float64) + 0.5) / clusters
    sizes = (1.0 + spread * math.sqrt(2.0) * torch.erfinv(2.0 * quantile - 1.0)).clamp(min=0.05)
    rank = shares.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    return (sizes / sizes.sum()).float()[rank]
