"""Accuracy of class scores: top-k, per class, confusion matrix.

Ties are settled in expectation: a model that gives every class the same score gets exactly chance, not the luck of
the class that happens to come first.
"""

from __future__ import annotations

import numpy as np


def top_k_hits(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> np.ndarray:
    """Float64 [N] in [0, 1]: the chance that the true class is among the k best when ties are broken at random.

    Args:
        scores: float [N, C], larger is likelier.
        labels: int [N] in 0..C-1.
        k: how many classes count as a hit, 1..C.

    Raises:
        ValueError: shapes, labels or k do not fit.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores must be [N, C] and labels [N], got {scores.shape} and {labels.shape}")
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must be between 1 and the number of classes {scores.shape[1]}, got {k}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < scores.shape[1]):
        raise ValueError(f"labels must be in 0..{scores.shape[1] - 1}, got {labels.min()}..{labels.max()}")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).any(axis=1).sum())} rows of scores hold NaN")
    true = np.take_along_axis(scores, labels[:, None], axis=1)
    greater = (scores > true).sum(axis=1)
    tied = (scores == true).sum(axis=1)  # the true class among them
    return np.asarray(np.clip((k - greater) / tied, 0.0, 1.0))


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Mean of `top_k_hits`."""
    return float(top_k_hits(scores, labels, k).mean())


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Int64 [C, C]: how often class (row) was taken for class (column)."""
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or predicted.ndim != 1:
        raise ValueError(f"predicted and labels must both be [N], got {predicted.shape} and {labels.shape}")
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def mean_class_accuracy(hits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of the mean hit in that class, so that frequent classes do not dominate.

    Args:
        hits: float [N], from `top_k_hits`, or 0/1.
        labels: int [N].
    """
    hits, labels = np.asarray(hits, dtype=np.float64), np.asarray(labels)
    return float(np.mean([hits[labels == c].mean() for c in np.unique(labels)]))
