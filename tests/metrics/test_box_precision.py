"""COCO's average precision: cases by hand, and a slow version written from the definition."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl.metrics.box_precision import (
    RECALLS,
    THRESHOLDS,
    FoundBoxes,
    TrueBoxes,
    box_average_precision,
    box_overlap,
    match_pictures,
    mean_precision,
)


def true(*boxes: tuple[float, ...], labels: tuple[int, ...] | None = None, crowd: tuple[int, ...] = ()) -> TrueBoxes:
    count = len(boxes)
    names = np.array(labels if labels is not None else [0] * count, dtype=np.int64)
    return TrueBoxes(np.array(boxes, dtype=float).reshape(-1, 4), names, np.isin(np.arange(count), crowd))


def found(*boxes: tuple[float, ...], scores: tuple[float, ...], labels: tuple[int, ...] | None = None) -> FoundBoxes:
    names = np.array(labels if labels is not None else [0] * len(boxes), dtype=np.int64)
    return FoundBoxes(np.array(boxes, dtype=float).reshape(-1, 4), names, np.array(scores, dtype=float))


def precision(f: list[FoundBoxes], t: list[TrueBoxes], classes: int = 1) -> np.ndarray:
    return box_average_precision(match_pictures(f, t, classes))


A, B = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 40.0, 40.0)


def test_overlap_of_squares() -> None:
    truth = np.array([A, (5.0, 0.0, 15.0, 10.0), (90.0, 90.0, 99.0, 99.0)])
    assert box_overlap(np.array([A]), truth, np.zeros(3, bool))[0].tolist() == pytest.approx([1, 1 / 3, 0])
    assert box_overlap(np.array([A]), truth, np.ones(3, bool))[0].tolist() == pytest.approx([1, 1 / 2, 0])


def test_an_oracle_gets_everything_and_silence_nothing() -> None:
    truth = [true(A, B), true(B)]
    assert (precision([found(A, B, scores=(0.9, 0.8)), found(B, scores=(0.7,))], truth) == 1).all()
    nothing = found(scores=())
    assert (precision([nothing, nothing], truth) == 0).all()


def test_one_of_two_found_gets_51_of_101_recalls() -> None:
    assert precision([found(A, scores=(0.9,))], [true(A, B)])[0, 0] == pytest.approx(51 / 101)


def test_a_false_alarm_costs_by_its_rank() -> None:
    """First: the hit has precision 1/2 at every recall; last: nothing is lost."""
    elsewhere = (60.0, 60.0, 70.0, 70.0)
    assert precision([found(elsewhere, A, scores=(0.9, 0.5))], [true(A)])[0, 0] == pytest.approx(0.5)
    assert precision([found(elsewhere, A, scores=(0.1, 0.5))], [true(A)])[0, 0] == pytest.approx(1.0)


def test_found_twice_is_once_right_and_once_a_false_alarm() -> None:
    twice = precision([found(A, A, B, scores=(0.9, 0.8, 0.7))], [true(A, B)])[0, 0]
    assert twice == pytest.approx((51 * 1.0 + 50 * (2 / 3)) / 101)


def test_thresholds_are_reached_or_not() -> None:
    """8 of 10 columns: an IoU of 0.8 passes 0.50 ... 0.80."""
    passed = precision([found((0, 0, 8, 10), scores=(1.0,))], [true(A)])[0]
    assert passed.tolist() == [1.0] * 7 + [0.0] * 3
    assert mean_precision(passed) == pytest.approx(0.7)


def test_crowds_neither_help_nor_harm() -> None:
    crowd = true(A, (50.0, 50.0, 90.0, 90.0), crowd=(1,))
    inside = [(52.0, 52.0, 60.0, 60.0), (70.0, 70.0, 80.0, 80.0)]
    assert (precision([found(*inside, A, scores=(0.9, 0.8, 0.7))], [crowd]) == 1).all()
    assert np.isnan(precision([found(A, scores=(1.0,))], [true(A, crowd=(0,))])).all()


def test_classes_are_apart_and_an_absent_one_has_no_precision() -> None:
    values = precision([found(A, B, scores=(0.9, 0.8), labels=(0, 0))], [true(A, B, labels=(0, 1))], 3)
    assert values[0, 0] == pytest.approx(1.0)  # its false alarm comes after the hit
    assert values[1, 0] == 0.0
    assert np.isnan(values[2]).all()
    assert mean_precision(values[:, 0]) == pytest.approx(0.5)


def slow_precision(f: list[FoundBoxes], t: list[TrueBoxes], label: int, threshold: float) -> float:
    """Plain loops; the precision at a recall is the best at any later place of the list."""

    def iou(a: np.ndarray, b: np.ndarray, crowd: bool) -> float:
        w = min(a[2], b[2]) - max(a[0], b[0])
        h = min(a[3], b[3]) - max(a[1], b[1])
        both = max(w, 0.0) * max(h, 0.0)
        area, other = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
        return both / (area if crowd else area + other - both)

    wanted = sum(int(((p.labels == label) & ~p.crowd).sum()) for p in t)
    listed = []
    for number, picture in enumerate(f):
        best = sorted(
            (-s, i) for i, (s, c) in enumerate(zip(picture.scores, picture.labels, strict=True)) if c == label
        )
        listed += [(key, number, i) for key, i in best[:100]]
    listed.sort(key=lambda item: item[0])
    taken: set[tuple[int, int]] = set()
    outcomes = []
    for _, number, i in listed:
        candidates, in_crowd = [], False
        for g, box in enumerate(t[number].boxes):
            if t[number].labels[g] != label:
                continue
            overlap = iou(f[number].boxes[i], box, bool(t[number].crowd[g]))
            if overlap >= threshold and t[number].crowd[g]:
                in_crowd = True
            elif overlap >= threshold and (number, g) not in taken:
                candidates.append((overlap, g))
        if candidates:
            taken.add((number, max(candidates)[1]))
            outcomes.append(True)
        elif not in_crowd:
            outcomes.append(False)
    curve = []
    right = 0
    for rank, hit in enumerate(outcomes, start=1):
        right += hit
        curve.append((right / wanted, right / rank))
    return float(np.mean([max((p for r, p in curve if r >= recall), default=0.0) for recall in RECALLS]))


def crowded_world(rng: np.random.Generator, pictures: int) -> tuple[list[FoundBoxes], list[TrueBoxes]]:
    f, t = [], []
    for _ in range(pictures):
        count = int(rng.integers(0, 7))
        corner = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 30, (count, 2))], axis=1)
        labels = rng.integers(0, 3, count)
        t.append(TrueBoxes(boxes, labels, rng.random(count) < 0.15))
        more = int(rng.integers(0, 6))
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 2.0, (2 * count, 4))
        corner = rng.uniform(0, 60, (more, 2))
        away = np.concatenate([corner, corner + rng.uniform(5, 30, (more, 2))], axis=1)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)  # a box has a width and a height
        every = np.concatenate([near, away])
        names = np.concatenate([np.repeat(labels, 2), rng.integers(0, 3, more)])
        f.append(FoundBoxes(every, names, rng.random(len(every))))
    return f, t


def test_equal_to_the_slow_version() -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        f, t = crowded_world(rng, 12)
        fast = precision(f, t, 3)
        for label in range(3):
            for number, threshold in enumerate(THRESHOLDS):
                assert fast[label, number] == pytest.approx(slow_precision(f, t, label, threshold), abs=1e-9)


def test_a_picture_that_counts_not_at_all_is_as_if_it_were_not_there() -> None:
    f, t = crowded_world(np.random.default_rng(1), 20)
    weights = (np.arange(20) % 2).astype(float)
    some = box_average_precision(match_pictures(f, t, 3), weights)
    assert some == pytest.approx(precision(f[1::2], t[1::2], 3))
    assert box_average_precision(match_pictures(f, t, 3), np.full(20, 3.0)) == pytest.approx(precision(f, t, 3))


def test_at_most_a_hundred_boxes_of_a_picture_count() -> None:
    elsewhere = (60.0, 60.0, 70.0, 70.0)
    f = found(*[elsewhere] * 100, A, scores=(*np.linspace(1, 0.5, 100), 0.1))
    assert precision([f], [true(A)])[0, 0] == 0.0
    with pytest.raises(ValueError, match="1 pictures were searched but 2"):
        match_pictures([f], [true(A), true(A)], 1)
