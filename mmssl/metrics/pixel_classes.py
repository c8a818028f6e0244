"""Classes of pixels: confusion over all pixels, intersection over union, pixel accuracy.

The mean IoU of Pascal VOC (Everingham et al., IJCV 2010): one confusion matrix over all pixels of the test set, then
the mean over classes, so that a large class counts no more than a small one. A class that the truth never shows has no
IoU and is not counted; taking pixels for it still costs the classes whose pixels they are.
"""

from __future__ import annotations

import numpy as np

IGNORED = 255  # a pixel of no class (VOC's void)


def pixel_confusion(predicted: np.ndarray, truth: np.ndarray, classes: int, ignored: int = IGNORED) -> np.ndarray:
    """Int64 [C, C]: pixels of class (row) taken for class (column); pixels whose truth is `ignored` are left out.

    Args:
        predicted: int [...], classes 0..C-1.
        truth: int [...], classes 0..C-1, or `ignored`.
        classes: C.
        ignored: the value of pixels that are not judged.

    Raises:
        ValueError: shapes differ, or a value is no class.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted and truth must have one shape, got {predicted.shape} and {truth.shape}")
    judged = truth != ignored
    ours, theirs = predicted[judged].astype(np.int64), truth[judged].astype(np.int64)
    for name, values in (("predicted", ours), ("truth", theirs)):
        if len(values) and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(f"{name} must hold classes 0..{classes - 1}, got {values.min()}..{values.max()}")
    return np.bincount(theirs * classes + ours, minlength=classes * classes).reshape(classes, classes)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Float64 [..., C] of confusions [..., C, C]: intersection over union; NaN for a class that the truth lacks."""
    confusion = np.asarray(confusion, dtype=np.float64)
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, taken = confusion.sum(axis=-1), confusion.sum(axis=-2)
    return np.asarray(np.where(true > 0, hit / np.maximum(true + taken - hit, 1e-12), np.nan))


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """Float64 [...] of confusions [..., C, C]: mean of `class_iou` over the classes that the truth shows.

    Raises:
        ValueError: a confusion is empty.
    """
    iou = class_iou(confusion)
    known = ~np.isnan(iou)
    if not known.any(axis=-1).all():
        raise ValueError("a confusion without a single judged pixel has no mean IoU")
    return np.asarray(np.where(known, iou, 0.0).sum(axis=-1) / known.sum(axis=-1))


def pixel_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Float64 [...] of confusions [..., C, C]: share of the judged pixels that are right."""
    confusion = np.asarray(confusion, dtype=np.float64)
    hit = np.diagonal(confusion, axis1=-2, axis2=-1).sum(axis=-1)
    return np.asarray(hit / np.maximum(confusion.sum(axis=(-2, -1)), 1e-12))
