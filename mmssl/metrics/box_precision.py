"""Average precision of boxes as COCO defines it (Lin et al., arXiv 1405.0312; cocodataset.org, "Detection evaluation").

In each picture and class the boxes found are taken from the highest score down; each takes the free true box that it
overlaps most, if by at least the threshold. Precision is made to fall with recall and read at 101 recalls. Crowds (a
true box around many things, or around what nobody must find) may be found any number of times, by the share of the
*found* box that lies in them, and neither help nor harm. Boxes are (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_FOUND = 100  # boxes of a class in a picture that count, the best ones


@dataclass(frozen=True)
class TrueBoxes:
    """The true boxes of a picture.

    Args:
        boxes: float64 [G, 4].
        labels: int64 [G], classes 0..C-1.
        crowd: bool [G].
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class FoundBoxes:
    """The boxes found in a picture.

    Args:
        boxes: float64 [D, 4].
        labels: int64 [D], classes 0..C-1.
        scores: float64 [D].
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class ClassMatches:
    """The D boxes found of one class in P pictures, from the highest score down, and whether they are right.

    Args:
        picture: int64 [D].
        hit: bool [T, D], at each of the T thresholds.
        counted: bool [T, D], False for those that found a crowd.
        wanted: int64 [P], true boxes of each picture, without crowds.
    """

    picture: np.ndarray
    hit: np.ndarray
    counted: np.ndarray
    wanted: np.ndarray


def box_overlap(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Float64 [D, G]: intersection over union of boxes [D, 4] and [G, 4]; over the found box for a crowd."""
    low = np.maximum(found[:, None, :2], truth[None, :, :2])
    high = np.minimum(found[:, None, 2:], truth[None, :, 2:])
    both = (high - low).clip(min=0).prod(axis=2)
    ours, theirs = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (found, truth))
    either = np.where(crowd[None], ours[:, None], ours[:, None] + theirs[None] - both)
    return np.asarray(both / np.maximum(either, 1e-12))


def match(overlap: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> tuple[np.ndarray, np.ndarray]:
    """(hit, counted), bool [T, D] each, of found boxes in falling order of score.

    Args:
        overlap: [D, G] from `box_overlap`.
        crowd: bool [G].
        thresholds: [T].
    """
    count, boxes = overlap.shape
    hit = np.zeros((len(thresholds), count), dtype=bool)
    counted = np.ones_like(hit)
    free = np.ones((len(thresholds), boxes), dtype=bool)
    # A threshold of 1 must be reachable despite rounding, as in COCO's own program.
    enough = overlap[:, None, :] >= np.minimum(thresholds, 1 - 1e-10)[None, :, None]
    rows = np.arange(len(thresholds))
    for number in range(count):
        if not boxes:
            break
        plain = enough[number] & free & ~crowd
        last = boxes - 1 - np.where(plain, overlap[number], -1.0)[:, ::-1].argmax(axis=1)  # of equal ones the last
        hit[:, number] = plain.any(axis=1)
        free[rows, last] &= ~hit[:, number]
        counted[:, number] = hit[:, number] | ~(enough[number] & crowd).any(axis=1)
    return hit, counted


def match_pictures(
    found: Sequence[FoundBoxes], truth: Sequence[TrueBoxes], classes: int, most: int = MOST_FOUND
) -> list[ClassMatches]:
    """What was found in P pictures, class by class.

    Args:
        found: of each picture.
        truth: of each picture.
        classes: C.
        most: boxes of a class in a picture that count.
    """
    if len(found) != len(truth):
        raise ValueError(f"{len(found)} pictures were searched but {len(truth)} have truth")
    all_matches = []
    for label in range(classes):
        scores, pictures, hits, counted, wanted = [], [], [], [], []
        for number, (ours, theirs) in enumerate(zip(found, truth, strict=True)):
            mine, true = np.flatnonzero(ours.labels == label), theirs.labels == label
            mine = mine[np.argsort(-ours.scores[mine], kind="stable")][:most]
            crowd = theirs.crowd[true]
            hit, counts = match(box_overlap(ours.boxes[mine], theirs.boxes[true], crowd), crowd)
            scores.append(ours.scores[mine])
            pictures.append(np.full(len(mine), number))
            hits.append(hit)
            counted.append(counts)
            wanted.append(int((~crowd).sum()))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        all_matches.append(
            ClassMatches(
                np.concatenate(pictures)[order],
                np.concatenate(hits, axis=1)[:, order],
                np.concatenate(counted, axis=1)[:, order],
                np.array(wanted),
            )
        )
    return all_matches


def class_precision(matches: ClassMatches, weights: np.ndarray | None = None) -> np.ndarray:
    """Float64 [T]: average precision of a class at each threshold; NaN where no picture has a true box of it.

    Args:
        matches: of the class.
        weights: float64 [P], how often each picture counts (once unless given).
    """
    weights = np.ones(len(matches.wanted)) if weights is None else weights
    wanted = float((weights * matches.wanted).sum())
    if wanted == 0:
        return np.full(len(matches.hit), np.nan)
    weight = weights[matches.picture]
    right = np.cumsum(matches.hit * weight, axis=1)
    taken = np.cumsum(matches.counted * weight, axis=1)
    recall = right / wanted
    precision = np.maximum.accumulate((right / np.maximum(taken, 1e-12))[:, ::-1], axis=1)[:, ::-1]
    found = np.zeros(len(matches.hit))
    for row in range(len(found)):
        at = np.searchsorted(recall[row], RECALLS, side="left")
        found[row] = precision[row, at[at < recall.shape[1]]].sum() / len(RECALLS)
    return found


def box_average_precision(matches: Sequence[ClassMatches], weights: np.ndarray | None = None) -> np.ndarray:
    """Float64 [C, T]: `class_precision` of all classes; their mean without NaN is COCO's AP@[.50:.95].

    Args:
        matches: of each class, from `match_pictures`.
        weights: float64 [P], how often each picture counts.
    """
    return np.stack([class_precision(one, weights) for one in matches])


def mean_precision(precision: np.ndarray) -> float:
    """Mean of average precisions [...] over classes and thresholds, without the classes that have no true box (NaN)."""
    known = precision[~np.isnan(precision)]
    return float(known.mean()) if len(known) else 0.0
