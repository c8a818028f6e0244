import numpy as np
import pytest

from mmssl.evaluation.judged import Judged
from mmssl.evaluation.scores import COLUMNS, RETRIEVAL_COLUMNS, Scores
from mmssl.metrics.statistics import Interval


def one_hot(predicted, classes=3, views=1):
    return np.repeat(np.eye(classes)[predicted][:, None], views, axis=1)


def test_folds_and_seeds_have_each_their_spread():
    labels = np.array([0, 1, 2, 0, 1, 2])
    judged = Judged.empty(2, 6)
    for seed, (first, second) in enumerate([([0, 1, 2], [0, 0, 0]), ([0, 1, 0], [0, 1, 0])]):
        judged.put(seed, np.arange(3), one_hot(first), labels[:3], fold=0)
        judged.put(seed, np.arange(3, 6), one_hot(second), labels[3:], fold=1)
    told = judged.as_dict(labels)
    assert told["seeds"] == pytest.approx([4 / 6, 4 / 6])
    assert (told["mean"], told["std"]) == (pytest.approx(4 / 6), pytest.approx(0))
    assert told["folds"]["seeds"] == [pytest.approx([1, 2 / 3]), pytest.approx([1 / 3, 2 / 3])]
    assert told["folds"]["accuracy"] == pytest.approx([5 / 6, 1 / 2])
    assert told["folds"]["std"] == pytest.approx(np.std([5 / 6, 1 / 2], ddof=1))
    low, high = told["interval"]
    assert low < told["mean"] < high
    assert judged.confusion(labels, 3).tolist() == [[4, 0, 0], [1, 3, 0], [3, 0, 1]]
    assert "top5_accuracy" not in told


def test_a_clip_that_several_folds_test_counts_in_each():
    labels = np.array([0, 1])
    judged = Judged.empty(1, 2)
    judged.put(0, np.array([0, 1]), one_hot([0, 1]), labels, fold=0)
    judged.put(0, np.array([0]), one_hot([1]), labels[:1], fold=1)
    judged.put(0, np.array([0]), one_hot([1]), labels[:1], fold=2)
    np.testing.assert_allclose(judged.video, [[1 / 3, 1.0]])
    assert judged.as_dict(labels)["mean"] == pytest.approx(2 / 4)
    assert judged.confusion(labels, 3).sum() == 4


def test_clip_accuracy_counts_views_and_top_five_needs_more_than_five_classes():
    scores = np.zeros((1, 2, 7))
    scores[0, 0, 3], scores[0, 1, 0] = 1.0, 0.4
    judged = Judged.empty(1, 1)
    judged.put(0, np.array([0]), scores, np.array([3]))
    told = judged.as_dict(np.array([3]))
    assert (told["mean"], told["clip_accuracy"], told["top5_accuracy"]) == (1.0, 0.5, 1.0)


def test_a_retrieval_is_judged_by_its_similarities():
    similarity = np.array([[0.9, 0.8, 0.1], [0.2, 0.5, 0.7]])
    gallery, labels = np.array([1, 0, 0]), np.array([0, 1])
    judged = Judged.empty(1, 2)
    judged.put(0, np.arange(2), one_hot([1, 0]), labels, similarity=similarity, gallery=gallery)
    told = judged.as_dict(labels)
    assert told["recall_at"] == {"1": 0.0, "5": 1.0, "10": 1.0, "20": 1.0}
    assert told["median_rank"] == 2.5
    assert told["mean"] == 0.0


def test_every_row_fits_its_columns_and_every_claim_has_its_interval():
    found = {"mean": 0.5, "std": 0.1, "seeds": [0.5], "clip_accuracy": 0.4, "mean_class_accuracy": 0.45}
    recall = {"recall_at": {str(k): 0.5 for k in (1, 5, 10, 20)}, "median_rank": 2.0, "interval": [0.4, 0.6]}
    scores = Scores(
        "action",
        {},
        {"linear": {"pretrained": found}, "retrieval": {"pretrained": found | recall}},
        {"chance": 0.25},
        {p: Interval(0.1, 0.05, 0.2) for p in ("linear", "retrieval")},
        {"linear": "above", "retrieval": "above"},
        beside={"linear": {"motion_energy": Interval(-0.2, -0.3, -0.1)}},
        retrieval_chance={"1": 0.25, "5": 0.6, "10": 0.8, "20": 0.9, "median_rank": 3.0},
    )
    assert {len(row) for row in scores.rows()} == {len(COLUMNS)}
    assert scores.rows()[0][1] == "50.0"
    assert scores.rows()[1][1] == "50.0 [40.0, 60.0]"
    assert {len(row) for row in scores.retrieval_rows()} == {len(RETRIEVAL_COLUMNS)}
    assert scores.retrieval_rows()[1] == ("chance, closed form", "25.0", "60.0", "80.0", "90.0", "3.0")
    assert scores.sentences()[1] == "linear: pretrained minus motion energy -20.0 points [-30.0, -10.0]: behind"
    assert scores.as_dict()["beside"]["linear"]["motion_energy"]["verdict"] == "behind"
