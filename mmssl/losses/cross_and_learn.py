"""The loss of Cross and Learn (Sayed, Brattoli and Ommer, arXiv 1811.03879): alike across modalities, unlike within."""

from __future__ import annotations

import torch

from mmssl.losses.precision import in_float32

EPSILON = 1e-4  # inside the roots, so that a vector of zeros is unlike everything and has a gradient


@in_float32
def relu_cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine [...] of vectors [..., D] that broadcast, ``a b / sqrt((a a + e) (b b + e))``."""
    squares = (a.square().sum(dim=-1) + EPSILON) * (b.square().sum(dim=-1) + EPSILON)
    return (a * b).sum(dim=-1) * torch.rsqrt(squares)


@in_float32
def cosine_matrix(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`relu_cosine` [N, M] of every row of [N, D] with every row of [M, D]."""
    lengths = (a.square().sum(dim=1) + EPSILON)[:, None] * (b.square().sum(dim=1) + EPSILON)[None]
    return (a @ b.T) * torch.rsqrt(lengths)


@in_float32
def cross_and_learn(
    rgb: torch.Tensor,
    flow: torch.Tensor,
    partner: torch.Tensor,
    weight: torch.Tensor,
    cross: float = 0.5,
    diversity: float = 0.5,
) -> torch.Tensor:
    """The cross-modal term and the diversity term, each averaged over the valid rows.

    With S the cosine, i a row and j its partner::

        cross     * (2 - S(rgb_i, flow_i) - S(rgb_j, flow_j))
        diversity * (S(rgb_i, rgb_j) + S(flow_i, flow_j))

    The published loss is their sum less ``2 cross``: a constant, added so that 0 is the best that can be had. For
    features >= 0 and both weights 0.5 the sum is 1 where all features are one vector.

    Args:
        rgb: [N, D], features >= 0.
        flow: [N, D], features >= 0.
        partner: int64 [N], another row for each row.
        weight: [N], 0 for rows that take no part.
        cross: weight of the cross-modal term.
        diversity: weight of the diversity term; without it a constant is the best answer.

    Returns:
        [2], the cross-modal term and the diversity term; 0 without a valid row.
    """
    own = relu_cosine(rgb, flow)
    between = cross * (2.0 - own - own[partner])
    within = diversity * (relu_cosine(rgb, rgb[partner]) + relu_cosine(flow, flow[partner]))
    total = weight.sum().clamp(min=1e-12)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (torch.where(weight > 0, values, torch.zeros_like(values)) * weight).sum() / total

    return torch.stack([mean(between), mean(within)])
