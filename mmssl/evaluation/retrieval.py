"""Retrieval of train clips by test clips, protocol ``action-retrieval-v1``, as on UCF101 and HMDB51.

A test clip finds train clips by cosine; R@k is the share of test clips with a clip of their class among the k nearest
(Buechler et al., ECCV 2018, arXiv 1807.11293; Xu et al., "Clip order prediction", CVPR 2019). Features are averaged
over a clip's views and the mean of the train features is taken off, as for nearest neighbours. Nothing is trained.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from mmssl.evaluation.judged import RECALL_AT
from mmssl.evaluation.knn import unit_rows
from mmssl.evaluation.probing import Answers, Seen
from mmssl.metrics.retrieval import chance_hits_at, chance_median_rank

PROTOCOL = "action-retrieval-v1"


class Retrieval:
    """Cosines to all train clips; a class scores as high as its nearest clip."""

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
        centre = train.features.astype(np.float64).mean(axis=(0, 1))
        cosine = unit_rows(test.features, centre) @ unit_rows(train.features, centre).T
        scores = np.stack([cosine[:, labels == c].max(axis=1, initial=-1.0) for c in range(classes)], axis=1)
        return Answers(scores[:, None], similarity=cosine)


class RetrievalChance:
    """Retrieval from train clips in random order, over all folds and seeds."""

    def __init__(self) -> None:
        self._hits: dict[int, list[np.ndarray]] = {k: [] for k in RECALL_AT}
        self._medians: list[float] = []

    def add(self, gallery: np.ndarray, queries: np.ndarray) -> None:
        """Count one fold: labels of the train and of the test clips."""
        relevant = np.bincount(gallery)[queries]
        for k, hits in self._hits.items():
            hits.append(chance_hits_at(relevant, len(gallery), k))
        self._medians.append(chance_median_rank(relevant, len(gallery)))

    def as_dict(self) -> dict[str, float]:
        """R@k by k, and the mean over folds and seeds of the median rank."""
        found = {str(k): float(np.concatenate(hits).mean()) for k, hits in self._hits.items()}
        return found | {"median_rank": float(np.mean(self._medians))}
