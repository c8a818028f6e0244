"""One modality of many clips in the space of a head, and how alike two of them are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mmssl.nn.matcher import Matcher

AT_A_TIME = 4_000_000  # similarities of parts held at once


@dataclass(frozen=True)
class Side:
    """One modality of N clips in the space of a head.

    Args:
        vectors: float32 [N, V, P, D]; V views, P parts of which the best match counts (places, sentences).
        there: bool [N, P], which parts there are.
    """

    vectors: np.ndarray
    there: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Side:
        return Side(self.vectors[rows], self.there[rows])

    def mean(self) -> Side:
        """One vector a view: the mean of a clip's parts, of unit length."""
        kept = self.there[:, None, :, None]
        mean = (self.vectors * kept).sum(axis=2, keepdims=True) / kept.sum(axis=2, keepdims=True)
        length = np.linalg.norm(mean, axis=3, keepdims=True)
        return Side((mean / np.maximum(length, 1e-12)).astype(np.float32), np.ones((len(mean), 1), dtype=bool))


def similarities(head: Matcher, a: Side, b: Side) -> np.ndarray:
    """Float64 [A, B]: the best of all pairs of parts, averaged over views (a side with one view meets all)."""
    views = max(a.vectors.shape[1], b.vectors.shape[1])
    many = a.there.shape[1] * b.vectors.shape[0] * b.there.shape[1]
    rows = max(1, AT_A_TIME // many)
    found = np.zeros((len(a.vectors), len(b.vectors)))
    for view in range(views):
        one, other = (torch.from_numpy(side.vectors[:, min(view, side.vectors.shape[1] - 1)]) for side in (a, b))
        for first in range(0, len(one), rows):
            some = slice(first, first + rows)
            with torch.inference_mode():
                table = head.similarity(one[some].flatten(0, 1), other.flatten(0, 1)).double().numpy()
            table = table.reshape(-1, one.shape[1], len(other), other.shape[1])
            there = a.there[some][:, :, None, None] & b.there[None, None]
            found[some] += np.where(there, table, -np.inf).max(axis=(1, 3))
    return np.asarray(found / views)
