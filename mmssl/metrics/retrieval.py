"""Retrieval by similarity: rank of the first relevant item, recall at k, median rank, nDCG at k; and their chance.

A tie counts half a place in a rank, so that collapsed embeddings get the middle rank and never a good one; in
`hits_at` it is settled in expectation, so that they get exactly `chance_hits_at`.
"""

from __future__ import annotations

import math

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


def hits_at(similarity: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Float64 [Q] in [0, 1]: the chance that a relevant item is among the k nearest when ties are broken at random.

    Args:
        similarity: float [Q, G], larger is closer.
        relevant: bool [Q, G], at least one True a row.
        k: how many of the nearest count, at least 1; all of the gallery if it is smaller.

    Raises:
        ValueError: shapes do not fit, k is below 1, or a query has no relevant item.
    """
    similarity, relevant = np.asarray(similarity, dtype=np.float64), np.asarray(relevant, dtype=bool)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if relevant.shape != similarity.shape or not relevant.any(axis=1).all():
        raise ValueError(f"relevant must be bool {similarity.shape} with a True in every row, got {relevant.shape}")
    best = np.where(relevant, similarity, -np.inf).max(axis=1, keepdims=True)
    greater = (similarity > best).sum(axis=1)  # none of them is relevant
    tied = similarity == best
    return _found_within(k - greater, (tied & relevant).sum(axis=1), tied.sum(axis=1))


def chance_hits_at(relevant: np.ndarray, gallery: int, k: int) -> np.ndarray:
    """Float64 [Q]: the chance that k of `gallery` items drawn without order hold a relevant one, in closed form.

    1 - C(G - r, k) / C(G, k) for a query with r relevant items among G.

    Args:
        relevant: int [Q], r of each query, at least 1.
        gallery: G.
        k: how many are drawn; all if there are fewer.
    """
    relevant = np.asarray(relevant)
    if k < 1 or (relevant < 1).any() or (relevant > gallery).any():
        raise ValueError(f"k must be at least 1 and relevant in 1..{gallery}, got k={k} and {relevant}")
    return _found_within(np.full(len(relevant), k), relevant, np.full(len(relevant), gallery))


def chance_median_rank(relevant: np.ndarray, gallery: int) -> float:
    """Median over queries and orders of the first relevant item's rank when the gallery lies in random order.

    Args:
        relevant: int [Q], how many of the gallery's items are relevant to each query, at least 1.
        gallery: items of the gallery.
    """
    low, high = 1, gallery
    while low < high:
        middle = (low + high) // 2
        if chance_hits_at(relevant, gallery, middle).mean() >= 0.5:
            high = middle
        else:
            low = middle + 1
    return float(low)


def _found_within(places: np.ndarray, relevant: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Float64 [Q]: the chance that one of r relevant among n items lies on the first `places` of a random order."""
    found = np.zeros(len(places))
    for row, (p, r, n) in enumerate(zip(places.tolist(), relevant.tolist(), items.tolist(), strict=True)):
        p = min(p, n)
        if p > n - r:
            found[row] = 1.0
        elif p > 0:  # the logarithms of C(n - r, p) and C(n, p), less their common term
            log_missed = math.lgamma(n - r + 1) - math.lgamma(n - r - p + 1) - math.lgamma(n + 1)
            found[row] = -math.expm1(log_missed + math.lgamma(n - p + 1))
    return found


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
