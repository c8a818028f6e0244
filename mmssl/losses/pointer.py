"""Copying by pointing: each cell of a target takes its label from reference cells (Vondrick et al., arXiv 1806.09594).

``A_ij = softmax_i(f_i . f_j / tau)`` over the reference cells i, ``y_j = sum_i A_ij onehot(c_i)`` and the loss is
``-log(y_j[c_j] + eps)``. y is a distribution already: fed into another softmax, as a known reimplementation does, the
loss could not fall below ``-log(e / (e + K - 1))``, 1.875 for 16 labels.
"""

from __future__ import annotations

import torch

from mmssl.losses.precision import in_float32

EPS = 1e-8


@in_float32
def pointed_labels(
    target: torch.Tensor, reference: torch.Tensor, labels: torch.Tensor, classes: int, temperature: float
) -> torch.Tensor:
    """Distribution over the labels that each target cell copies.

    Args:
        target: [B, N, D], embeddings of the target's cells.
        reference: [B, M, D], embeddings of the reference cells.
        labels: int64 [B, M] in 0..classes-1.
        classes: K.
        temperature: tau > 0.

    Returns:
        [B, N, K], rows sum to 1.
    """
    pointer = torch.softmax(target @ reference.transpose(1, 2) / temperature, dim=2)
    return pointer @ torch.nn.functional.one_hot(labels, classes).to(pointer.dtype)


@in_float32
def pointer_nll(copied: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood of the true labels under copied distributions.

    Args:
        copied: [B, N, K], of `pointed_labels`.
        labels: int64 [B, N].
        known: bool [B, N], the cells that count.

    Returns:
        [B]: mean over the cells that count, 0 where none does.
    """
    nll = -torch.log(copied.gather(2, labels[..., None])[..., 0] + EPS)
    return torch.where(known, nll, torch.zeros_like(nll)).sum(dim=1) / known.sum(dim=1).clamp(min=1)
