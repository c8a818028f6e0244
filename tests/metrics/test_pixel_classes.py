"""Confusion and IoU of pixels: analytic cases, scikit-learn, and a version with loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from mmssl.metrics.pixel_classes import class_iou, mean_iou, pixel_accuracy, pixel_confusion


def test_halves_that_overlap_by_a_quarter() -> None:
    truth, found = np.zeros((4, 8), dtype=np.uint8), np.zeros((4, 8), dtype=np.uint8)
    truth[:, 4:], found[:, 6:] = 1, 1  # 16 pixels are class 1, 8 of them are found
    confusion = pixel_confusion(found, truth, 2)
    assert confusion.tolist() == [[16, 0], [8, 8]]
    assert class_iou(confusion).tolist() == pytest.approx([16 / 24, 8 / 16])
    assert float(mean_iou(confusion)) == pytest.approx((16 / 24 + 8 / 16) / 2)
    assert float(pixel_accuracy(confusion)) == 0.75
    oracle = pixel_confusion(truth, truth, 2)
    assert float(mean_iou(oracle)) == float(pixel_accuracy(oracle)) == 1.0


def test_the_majority_class_gets_its_share_and_no_more() -> None:
    truth = np.repeat([0, 1, 2], [60, 30, 10])
    confusion = pixel_confusion(np.zeros(100, dtype=int), truth, 3)
    assert float(mean_iou(confusion)) == pytest.approx(0.6 / 3)
    assert float(pixel_accuracy(confusion)) == pytest.approx(0.6)


def test_ignored_pixels_do_not_count_and_a_class_that_is_not_there_is_no_class() -> None:
    truth = np.array([0, 0, 1, 1, 255, 255])
    found = np.array([0, 0, 1, 2, 1, 0])
    confusion = pixel_confusion(found, truth, 3)
    assert confusion.sum() == 4
    iou = class_iou(confusion)
    assert iou[:2].tolist() == [1.0, 0.5]  # the pixel taken for class 2 costs class 1
    assert np.isnan(iou[2])
    assert float(mean_iou(confusion)) == 0.75


def test_equal_to_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        truth = rng.choice(6, size=(3, 20, 30), p=[0.5, 0.2, 0.2, 0.05, 0.05, 0.0])
        found = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 6, truth.shape))
        confusion = pixel_confusion(found, truth, 6)
        flat, mine = truth.ravel(), found.ravel()
        assert (confusion == confusion_matrix(flat, mine, labels=range(6))).all()
        there = np.unique(flat)
        expected = jaccard_score(flat, mine, labels=there, average=None)
        assert class_iou(confusion)[there].tolist() == pytest.approx(expected.tolist())
        assert float(mean_iou(confusion)) == pytest.approx(jaccard_score(flat, mine, labels=there, average="macro"))
        assert float(pixel_accuracy(confusion)) == pytest.approx(accuracy_score(flat, mine))


def test_many_confusions_at_once() -> None:
    rng = np.random.default_rng(1)
    many = rng.integers(0, 9, (2, 3, 4, 4))
    together = mean_iou(many)
    assert together.shape == (2, 3)
    assert float(together[1, 2]) == pytest.approx(float(mean_iou(many[1, 2])))


def test_what_cannot_be_judged_is_said() -> None:
    with pytest.raises(ValueError, match="one shape"):
        pixel_confusion(np.zeros((2, 2)), np.zeros(4), 2)
    with pytest.raises(ValueError, match=r"truth must hold classes 0..1, got 0..7"):
        pixel_confusion(np.zeros(2, dtype=int), np.array([0, 7]), 2)
    with pytest.raises(ValueError, match="predicted must hold"):
        pixel_confusion(np.array([0, 3]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="without a single judged pixel"):
        mean_iou(pixel_confusion(np.zeros(2, dtype=int), np.full(2, 255), 2))
