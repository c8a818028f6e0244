import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from mmssl.evaluation.knn import knn_scores, neighbours_for, unit_rows


def test_equals_scikit_learn_with_the_same_weights():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 12))
    y, truth = rng.integers(0, 4, 200), rng.integers(0, 4, 150)
    train = (centres[y] + rng.normal(size=(200, 12)))[:, None].astype(np.float32)
    test = (centres[truth] + rng.normal(size=(150, 12)))[:, None].astype(np.float32)
    centre = train.astype(np.float64).mean(axis=(0, 1))
    reference = KNeighborsClassifier(15, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07), algorithm="brute")
    reference.fit(unit_rows(train, centre), y)
    np.testing.assert_allclose(
        knn_scores(train, y, test, 4, 15), reference.predict_proba(unit_rows(test, centre)), atol=1e-9
    )


def test_a_common_direction_does_not_blind_it():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    train = (1000.0 + np.eye(3)[y] + 0.05 * rng.normal(size=(60, 3)))[:, None].astype(np.float32)
    assert (knn_scores(train, y, train, 3, 5).argmax(1) == y).all()


def test_k_is_bounded_by_the_smallest_class():
    assert neighbours_for(np.repeat([0, 1], [100, 7])) == 7
    assert neighbours_for(np.repeat([0, 1], [100, 70])) == 20
    with pytest.raises(ValueError, match="k must be between 1 and the number of train clips 2, got 3"):
        knn_scores(np.zeros((2, 1, 2)), np.zeros(2, int), np.zeros((1, 1, 2)), 2, 3)
