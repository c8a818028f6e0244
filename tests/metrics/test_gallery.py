"""Retrieval metrics with ties and chance, against all orders of a small gallery and scikit-learn."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from mmssl.metrics.retrieval import (
    chance_hits_at,
    chance_median_rank,
    chance_ndcg_at,
    hits_at,
    ndcg_at,
    ndcg_of_each,
)


def over_all_orders(similarity, relevant, k):
    """Share of the orders that the similarity allows in which a relevant item is among the first k."""
    found = []
    for order in permutations(range(len(similarity))):
        values = [similarity[i] for i in order]
        if all(a >= b for a, b in pairwise(values)):
            found.append(any(relevant[i] for i in order[:k]))
    return np.mean(found)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_recall_with_ties_is_the_mean_over_all_orders(k):
    similarity = np.array(
        [
            [0.9, 0.5, 0.5, 0.5, 0.1, 0.1],  # the own one ties with two others behind a nearer one
            [0.3, 0.3, 0.3, 0.3, 0.3, 0.3],  # collapsed
            [0.7, 0.7, 0.2, 0.2, 0.2, 0.1],  # two relevant ones on two levels
        ]
    )
    relevant = np.array([[0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 0]], dtype=bool)
    expected = [over_all_orders(s, r, k) for s, r in zip(similarity, relevant, strict=True)]
    np.testing.assert_allclose(hits_at(similarity, relevant, k), expected, atol=1e-9)


def test_chance_is_what_a_collapsed_model_gets():
    relevant = np.random.default_rng(0).random((30, 200)) < 0.02
    relevant[:, 3] = True
    for k in (1, 5, 10):
        found = hits_at(np.zeros((30, 200)), relevant, k)
        np.testing.assert_allclose(found, chance_hits_at(relevant.sum(axis=1), 200, k), atol=1e-9)
    np.testing.assert_allclose(chance_hits_at(np.array([1]), 500, 10), 0.02, atol=1e-9)
    assert chance_median_rank(np.ones(500, dtype=int), 501) == 251


@pytest.mark.parametrize("k", [3, 30])
def test_ndcg_equals_scikit_learn_with_ties(k):
    rng = np.random.default_rng(2)
    similarity, gain = rng.integers(0, 6, (40, 50)) / 5.0, rng.integers(0, 3, (40, 50)).astype(float)
    theirs = [ndcg_score(g[None], s[None], k=k) for s, g in zip(similarity, gain, strict=True)]
    np.testing.assert_allclose(ndcg_of_each(similarity, gain, k), theirs, atol=1e-9)
    assert ndcg_at(similarity, gain, k) == pytest.approx(np.mean(theirs))


def test_chance_of_ndcg_is_the_mean_over_random_orders():
    rng = np.random.default_rng(3)
    gain = (rng.random((25, 40)) < 0.2).astype(float)
    gain[4] = 0.0
    assert chance_ndcg_at(gain) == pytest.approx(ndcg_at(np.zeros((25, 40)), gain))
    orders = [ndcg_at(rng.random((25, 40)), gain) for _ in range(200)]
    assert chance_ndcg_at(gain) == pytest.approx(np.mean(orders), abs=4 * np.std(orders) / 200**0.5)
    assert np.isnan(ndcg_of_each(np.zeros((25, 40)), gain)[4])
    with pytest.raises(ValueError, match="no query has a relevant item"):
        chance_ndcg_at(np.zeros((2, 3)))
