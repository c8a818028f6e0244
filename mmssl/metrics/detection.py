"""How well a score tells the clips in which something is to be found from those in which nothing is.

Average precision and best F1 as in the extended test sets of SLAVC (Mo and Morgado, arXiv 2209.09634): a clip counts
as found if its score is above a threshold and what was found there is right; a score above it in a clip that has
nothing to be found, or a wrong find, is a false alarm.
"""

from __future__ import annotations

import numpy as np

from mmssl.metrics.statistics import RESAMPLES, Interval
from mmssl.randomness import uniform_numpy


def separation(present: np.ndarray, absent: np.ndarray) -> float:
    """Area under the ROC curve in [0, 1]: the chance that a present clip scores higher than an absent one.

    Ties count half, so that a constant score gets 0.5.

    Args:
        present: [N], scores of the clips that should score high.
        absent: [M], those of the others.

    Raises:
        ValueError: one of the groups is empty.
    """
    present, absent = np.asarray(present, dtype=np.float64), np.asarray(absent, dtype=np.float64)
    if not len(present) or not len(absent):
        raise ValueError(f"both groups must hold a clip, got {len(present)} present and {len(absent)} absent")
    return float(separation_of_each(present, absent).mean())


def separation_of_each(present: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Float64 [N] whose mean is `separation`: for each present clip the share of the absent ones that it beats."""
    ordered = np.sort(absent)
    below = np.searchsorted(ordered, present, side="left")
    not_above = np.searchsorted(ordered, present, side="right")
    return np.asarray((below + not_above) / (2.0 * len(ordered)))


def separation_interval(present: np.ndarray, absent: np.ndarray, seed: int = 0) -> Interval:
    """`separation` with its 95 % bootstrap interval; the clips of both groups are resampled, each group by itself."""
    present, absent = np.asarray(present, dtype=np.float64), np.asarray(absent, dtype=np.float64)
    middle = separation(present, absent)
    uniform = [
        uniform_numpy(np.array([seed]), f"separation {name}", RESAMPLES * len(values)).reshape(RESAMPLES, -1)
        for name, values in (("present", present), ("absent", absent))
    ]
    found = np.zeros(RESAMPLES)
    for number in range(RESAMPLES):
        one, other = (
            values[(draws[number] * len(values)).astype(np.int64)]
            for values, draws in zip((present, absent), uniform, strict=True)
        )
        found[number] = separation_of_each(one, other).mean()
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(middle, float(low), float(high))


def precision_and_recall(scores: np.ndarray, right: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall at each threshold, from the highest score down.

    Args:
        scores: float [N], confidence in the find.
        right: [N] in [0, 1], whether the find is right (a share where several places tie); 0 where nothing is there.
        present: bool [N], whether there is something to be found.

    Returns:
        Two float64 [K] at the K different scores; recall is the share of the present clips that are found rightly.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    found = np.cumsum(np.asarray(right, dtype=np.float64)[order])
    taken = np.arange(1, len(order) + 1)
    last = np.append(np.diff(np.asarray(scores, dtype=np.float64)[order]) != 0, True)  # clips of one score go together
    return (found / taken)[last], (found / max(int(np.sum(present)), 1))[last]


def average_precision(scores: np.ndarray, right: np.ndarray, present: np.ndarray) -> float:
    """Sum over thresholds of the precision times the rise of the recall; at most the share of right finds."""
    precision, recall = precision_and_recall(scores, right, present)
    return float((precision * np.diff(recall, prepend=0.0)).sum())


def best_f1(scores: np.ndarray, right: np.ndarray, present: np.ndarray) -> float:
    """The highest harmonic mean of precision and recall over all thresholds."""
    precision, recall = precision_and_recall(scores, right, present)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def published_average_precision(scores: np.ndarray, right: np.ndarray, present: np.ndarray) -> float:
    """Average precision by the arithmetic of SLAVC's released evaluation (arXiv 2209.09634), for published numbers.

    It differs from `average_precision`: a wrong find is a false alarm but no miss, so that the recall reaches 1 at the
    lowest threshold whatever was found; a step of the recall weighs the best precision from the threshold before it
    on; and the highest threshold is left out. All of that raises it.

    Args:
        scores: float [N], confidence in the find.
        right: bool [N] or {0, 1}, whether the find is right.
        present: bool [N], whether there is something to be found.
    """
    scores = np.asarray(scores, dtype=np.float64)
    found = np.asarray(right, dtype=np.float64) * np.asarray(present, dtype=np.float64)
    ordered = np.sort(scores)
    thresholds = ordered[:-1][:: -max(1, len(scores) // 200)]
    if len(thresholds) < 2:
        return 0.0
    above = scores[None, :] >= thresholds[:, None]
    hits, taken = above @ found, above.sum(axis=1)
    missed = (~above) @ np.asarray(present, dtype=np.float64)
    precision = hits / np.maximum(taken, 1)
    recall = np.where(hits + missed > 0, hits / np.maximum(hits + missed, 1e-12), 1.0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best[:-1] * np.diff(recall)).sum())
