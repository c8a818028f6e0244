"""Orders of n things, where an order and its reverse are one class.

A film played backwards shows the same frames next to each other, so that "which of two reversed orders" cannot be
told for most motions; n! orders therefore make n!/2 classes (Lee, Huang, Singh, Yang, "Unsupervised representation
learning by sorting sequences", ICCV 2017, arXiv 1708.01246).
"""

from __future__ import annotations

import itertools
import math

import torch


def order_classes(n: int) -> torch.Tensor:
    """Int64 [n!/2, n]: one order of each class, the one whose first entry is smaller than its last.

    Rows are in lexicographic order; the identity is row 0.

    Raises:
        ValueError: `n` is below 2 (one thing has no order) or above 8 (20,160 classes are 8's; 9 is surely a slip).
    """
    if not 2 <= n <= 8:
        raise ValueError(f"orders of {n} things: n must be between 2 and 8")
    return torch.tensor([p for p in itertools.permutations(range(n)) if p[0] < p[-1]])


def order_label(orders: torch.Tensor) -> torch.Tensor:
    """Int64 [...]: the class of each order, int64 [..., n]; equal for an order and its reverse.

    Raises:
        ValueError: an order is not a permutation of 0..n-1.
    """
    n = orders.shape[-1]
    if not bool((orders.sort(dim=-1).values == torch.arange(n, device=orders.device)).all()):
        raise ValueError(f"each order must be a permutation of 0..{n - 1}")
    turned = (orders[..., :1] > orders[..., -1:]).expand_as(orders)
    canonical = torch.where(turned, orders.flip(-1), orders)
    table = order_classes(n).to(orders.device)
    return (canonical[..., None, :] == table).all(dim=-1).long().argmax(dim=-1)


def orders_of(labels: torch.Tensor, reverse: torch.Tensor, n: int) -> torch.Tensor:
    """Int64 [..., n]: the order of each class `labels` (int64 [...]), turned round where `reverse` (bool [...])."""
    orders = order_classes(n).to(labels.device)[labels]
    return torch.where(reverse[..., None], orders.flip(-1), orders)


def slot_pairs(n: int) -> torch.Tensor:
    """Int64 [n(n-1)/2, 2]: the pairs (i, j) of slots with i < j, in lexicographic order."""
    pairs = torch.tensor(list(itertools.combinations(range(n), 2)), dtype=torch.long)
    assert len(pairs) == math.comb(n, 2)
    return pairs
