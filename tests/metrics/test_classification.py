import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as reference

from mmssl.metrics.classification import confusion_matrix, mean_class_accuracy, top_k_accuracy, top_k_hits


@pytest.fixture
def problem():
    rng = np.random.default_rng(3)
    labels = rng.choice(6, size=400, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    scores = rng.normal(size=(400, 6)) + 1.2 * np.eye(6)[labels]
    return scores, labels


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_equals_scikit_learn(problem, k):
    scores, labels = problem
    assert top_k_accuracy(scores, labels, k) == pytest.approx(
        sklearn.metrics.top_k_accuracy_score(labels, scores, k=k), abs=1e-12
    )


def test_equal_scores_give_exactly_chance():
    assert top_k_accuracy(np.zeros((40, 8)), np.arange(40) % 3, 1) == pytest.approx(1 / 8)
    assert top_k_accuracy(np.zeros((40, 8)), np.zeros(40, int), 4) == pytest.approx(1 / 2)


def test_mean_class_accuracy_equals_torchmetrics_and_scikit_learn(problem):
    scores, labels = problem
    ours = mean_class_accuracy(top_k_hits(scores, labels), labels)
    theirs = reference.multiclass_accuracy(
        torch.from_numpy(scores), torch.from_numpy(labels), num_classes=6, average="macro"
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)
    assert ours == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, scores.argmax(1)))


def test_confusion_matrix_has_true_classes_in_rows(problem):
    scores, labels = problem
    predicted = scores.argmax(1)
    expected = sklearn.metrics.confusion_matrix(labels, predicted, labels=range(7))
    np.testing.assert_array_equal(confusion_matrix(predicted, labels, 7), expected)


def test_faults_are_named():
    with pytest.raises(ValueError, match=r"k must be between 1 and the number of classes 3, got 4"):
        top_k_hits(np.zeros((2, 3)), np.zeros(2, int), 4)
    with pytest.raises(ValueError, match=r"labels must be in 0..2, got 0..3"):
        top_k_hits(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(ValueError, match="1 rows of scores hold NaN"):
        top_k_hits(np.array([[0.0, np.nan], [0.0, 1.0]]), np.zeros(2, int))
