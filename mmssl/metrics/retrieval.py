"""Retrieval by similarity: rank of the first relevant item, recall at k, median rank, nDCG at k.

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


def ndcg_at(similarity: np.ndarray, gain: np.ndarray, k: int = 30) -> float:
    """Mean over queries of nDCG@k, the discounted gain of the k nearest over that of the best order (1 is best).

    "Objects that sound" (arXiv 1712.06651) judges retrieval between frames and sounds by nDCG@30. Items that tie share
    the mean of their gains, which is what a random order of them gives. Queries without any gain are left out.

    Args:
        similarity: float [Q, G], larger is closer.
        gain: float or bool [Q, G], >= 0, how relevant each gallery item is to each query.
        k: how many of the nearest count; all of the gallery if it is smaller.

    Raises:
        ValueError: shapes do not fit, k is below 1, or no query has a relevant item.
    """
    similarity, gain = np.asarray(similarity, dtype=np.float64), np.asarray(gain, dtype=np.float64)
    if gain.shape != similarity.shape:
        raise ValueError(f"gain must be {similarity.shape}, got {gain.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    kept = gain.max(axis=1, initial=0.0) > 0
    if not kept.any():
        raise ValueError("no query has a relevant item in the gallery")
    k = min(k, similarity.shape[1])
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    found = []
    for near, worth in zip(similarity[kept], gain[kept], strict=True):
        _, level = np.unique(-near, return_inverse=True)  # 0 is the nearest; ties are of one level
        shared = (np.bincount(level, worth) / np.bincount(level))[level]
        order = np.argsort(level, kind="stable")[:k]
        found.append(float(shared[order] @ discount) / float(np.sort(worth)[::-1][:k] @ discount))
    return float(np.mean(found))
