"""Separation of present from absent clips and average precision, against scikit-learn, loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mmssl.metrics.detection import (
    average_precision,
    best_f1,
    precision_and_recall,
    published_average_precision,
    separation,
    separation_interval,
    separation_of_each,
)


@pytest.mark.parametrize("ties", [False, True])
def test_separation_is_the_area_under_the_roc_curve(ties: bool) -> None:
    random = np.random.default_rng(0)
    present, absent = random.normal(0.7, 1, 40), random.normal(0, 1, 25)
    if ties:
        present, absent = present.round(), absent.round()
    truth = np.r_[np.ones(40), np.zeros(25)]
    assert separation(present, absent) == pytest.approx(roc_auc_score(truth, np.r_[present, absent]))
    slow = [np.mean([(p > a) + 0.5 * (p == a) for a in absent]) for p in present]
    np.testing.assert_allclose(separation_of_each(present, absent), slow)


def test_the_interval_resamples_both_groups() -> None:
    random = np.random.default_rng(2)
    many, few = random.normal(0.5, 1, 300), random.normal(0, 1, 20)
    found = separation_interval(many, few)
    assert found.mean == pytest.approx(separation(many, few))
    assert found.low < found.mean < found.high
    # Hanley and McNeil (1982): the standard error of the area, ruled by the smaller group.
    area = found.mean
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 299 * (one - area**2) + 19 * (two - area**2)) / (300 * 20))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.25)
    assert separation_interval(many, few) == found


def test_a_constant_score_separates_nothing() -> None:
    assert separation(np.ones(3), np.ones(5)) == 0.5
    assert separation(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    with pytest.raises(ValueError, match="both groups must hold a clip, got 0 present and 2 absent"):
        separation(np.array([]), np.ones(2))


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns_where_every_find_is_right(ties: bool) -> None:
    random = np.random.default_rng(1)
    present = random.random(50) < 0.6
    scores = random.normal(present, 1.0)
    scores = scores.round() if ties else scores
    ours = average_precision(scores, present.astype(float), present)
    assert ours == pytest.approx(average_precision_score(present, scores))


def test_wrong_finds_are_false_alarms_and_misses_at_once() -> None:
    scores, present = np.array([4.0, 3, 2, 1]), np.array([True, True, False, True])
    right = np.array([1.0, 0, 0, 1])
    precision, recall = precision_and_recall(scores, right, present)
    np.testing.assert_allclose(precision, [1, 1 / 2, 1 / 3, 1 / 2])
    np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert average_precision(scores, right, present) == pytest.approx(1 / 3 * 1 + 1 / 3 * 1 / 2)
    assert best_f1(scores, right, present) == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert best_f1(scores, np.zeros(4), present) == 0.0


def slavc(scores: np.ndarray, right: np.ndarray, present: np.ndarray) -> float:
    """The published arithmetic with loops, threshold by threshold."""
    precision, recall = [], []
    thresholds = sorted(scores)[:-1][:: -max(1, len(scores) // 200)]
    for threshold in thresholds:
        hits = false = missed = 0
        for score, found, there in zip(scores, right, present, strict=True):
            if score >= threshold and there and found:
                hits += 1
            elif score >= threshold:
                false += 1
            elif there:
                missed += 1
        precision.append(hits / (hits + false) if hits + false else 1.0)
        recall.append(hits / (hits + missed) if hits + missed else 1.0)
    best = [max(precision[i:]) for i in range(len(precision))]
    return sum(best[i] * (recall[i + 1] - recall[i]) for i in range(len(best) - 1))


@pytest.mark.parametrize("count", [2, 3, 50, 450])
def test_the_published_average_precision_is_that_of_loops(count: int) -> None:
    random = np.random.default_rng(count)
    scores, right, present = random.normal(size=count), random.random(count) < 0.6, random.random(count) < 0.8
    scores[: count // 5] = scores[0]
    ours = published_average_precision(scores, right, present)
    assert ours == pytest.approx(slavc(scores, right & present, present))


def test_the_published_average_precision_passes_the_strict_one() -> None:
    random = np.random.default_rng(5)
    right, scores, present = random.random(120) < 0.4, random.normal(size=120), np.ones(120, dtype=bool)
    assert published_average_precision(scores, right, present) > average_precision(scores, right, present)
