"""Retrieval by similarity: rank of the first relevant item, recall at k, median rank.

A tie counts half a place, so that collapsed embeddings get the middle rank and never a good one.
"""

from __future__ import annotations

import numpy as np


def first_relevant_rank(similarity: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Float64 [Q]: rank (1 is best) of each query's best relevant gallery item.

    Args:
        similarity: float [Q, G], larger is closer.
        relevant: bool [Q, G], or int [Q] with the index of the one relevant item.

    Raises:
        ValueError: shapes do not fit or a query has no relevant item.
    """
    similarity, relevant = np.asarray(similarity, dtype=np.float64), np.asarray(relevant)
    if relevant.ndim == 1:
        relevant = relevant[:, None] == np.arange(similarity.shape[1])[None, :]
    if relevant.shape != similarity.shape:
        raise ValueError(f"relevant must be [Q] or {similarity.shape}, got {relevant.shape}")
    if not relevant.any(axis=1).all():
        missing = np.flatnonzero(~relevant.any(axis=1))
        raise ValueError(f"{len(missing)} queries have no relevant item in the gallery, the first is {missing[0]}")
    best = np.where(relevant, similarity, -np.inf).max(axis=1, keepdims=True)
    greater = ((similarity > best) & ~relevant).sum(axis=1)
    tied = ((similarity == best) & ~relevant).sum(axis=1)
    return np.asarray(1.0 + greater + tied / 2.0)


def recall_at(similarity: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Share of the queries with a relevant item among the k nearest (R@k)."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return float((first_relevant_rank(similarity, relevant) <= k).mean())


def median_rank(similarity: np.ndarray, relevant: np.ndarray) -> float:
    """Median rank of the best relevant item; (G + 1) / 2 is chance with one relevant item."""
    return float(np.median(first_relevant_rank(similarity, relevant)))
