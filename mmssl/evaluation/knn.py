"""Nearest neighbours, protocol ``action-knn-v1``: cosine, votes weighted by exp(cosine / 0.07) (Wu et al., CVPR 2018,
arXiv 1805.01978).

Features are averaged over a clip's views and the mean of the train features is taken off: features of an untrained
network nearly all point one way, and cosines about the origin would not tell them apart.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from mmssl.evaluation.probing import Answers, Seen

PROTOCOL = "action-knn-v1"
NEIGHBOURS = 20
TEMPERATURE = 0.07


def neighbours_for(labels: np.ndarray, most: int = NEIGHBOURS) -> int:
    """k: 20, or the size of the smallest class where that is less."""
    return int(max(1, min(most, np.unique(labels, return_counts=True)[1].min())))


def unit_rows(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Float64 [N, D] of unit length from features [N, V, D]: mean over views, centred, normalised."""
    x = features.astype(np.float64).mean(axis=1) - centre
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def knn_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, k: int, temperature: float = TEMPERATURE
) -> np.ndarray:
    """Float64 [M, C]: votes of the k nearest train clips for each test clip, summing to 1.

    Args:
        train: [N, V, D].
        labels: int [N].
        test: [M, V, D].
        classes: C.
        k: neighbours, at most N.
        temperature: of the votes' weights.
    """
    if not 1 <= k <= len(train):
        raise ValueError(f"k must be between 1 and the number of train clips {len(train)}, got {k}")
    centre = train.astype(np.float64).mean(axis=(0, 1))
    cosine = unit_rows(test, centre) @ unit_rows(train, centre).T
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(cosine, nearest, axis=1)
    weight = np.exp((best - best[:, :1]) / temperature)
    votes = np.zeros((len(test), classes))
    np.add.at(votes, (np.arange(len(test))[:, None], labels[nearest]), weight)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


class NearestNeighbours:
    """Votes of the nearest train clips, as a probe."""

    protocol = PROTOCOL
    takes: Literal["vectors", "tokens"] = "vectors"

    def __call__(
        self,
        train: Seen,
        labels: np.ndarray,
        test: Seen,
        classes: int,
        *,
        groups: np.ndarray,
        seed: int,
        device: torch.device | str,
    ) -> Answers:
        """See `Probe`."""
        k = neighbours_for(labels)
        votes = knn_scores(train.features, labels, test.features, classes, k)
        return Answers(votes[:, None], chosen={"neighbours": k})
