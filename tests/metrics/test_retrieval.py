import itertools
import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_normalized_dcg

from mmssl.metrics.retrieval import (
    chance_hits_at,
    chance_median_rank,
    first_relevant_rank,
    hits_at,
    median_rank,
    ndcg_at,
    recall_at,
)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_equals_torchmetrics(k):
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(60, 50))
    relevant = rng.random((60, 50)) < 0.05
    relevant[np.arange(60), rng.integers(0, 50, 60)] = True
    theirs = np.mean(
        [
            float(retrieval_hit_rate(torch.from_numpy(s), torch.from_numpy(r), top_k=k))
            for s, r in zip(similarity, relevant, strict=True)
        ]
    )
    assert recall_at(similarity, relevant, k) == pytest.approx(theirs)


def test_planted_pairs_are_found_and_a_shift_is_not():
    unit = np.eye(20)
    assert recall_at(unit, np.arange(20), 1) == 1.0
    assert median_rank(unit, np.arange(20)) == 1.0
    assert recall_at(np.roll(unit, 1, axis=1), np.arange(20), 1) == 0.0


def test_collapsed_embeddings_get_the_middle_rank():
    assert median_rank(np.ones((5, 101)), np.arange(5)) == 51.0
    assert recall_at(np.ones((5, 101)), np.arange(5), 10) == 0.0


def test_several_relevant_items_count_by_the_best():
    ranks = first_relevant_rank(np.array([[0.9, 0.5, 0.7, 0.1]]), np.array([[False, True, True, False]]))
    assert ranks.tolist() == [2.0]


def test_a_query_without_relevant_item_is_an_error():
    with pytest.raises(ValueError, match="1 queries have no relevant item in the gallery, the first is 1"):
        recall_at(np.zeros((2, 3)), np.array([[True, False, False], [False, False, False]]), 1)


@pytest.mark.parametrize("k", [1, 5, 30, 80])
def test_ndcg_equals_torchmetrics(k):
    rng = np.random.default_rng(1)
    similarity, relevant = rng.normal(size=(40, 50)), rng.random((40, 50)) < 0.1
    relevant[:, 7] = True
    theirs = [
        float(retrieval_normalized_dcg(torch.from_numpy(s), torch.from_numpy(r), top_k=k))
        for s, r in zip(similarity, relevant, strict=True)
    ]
    assert ndcg_at(similarity, relevant, k) == pytest.approx(np.mean(theirs), abs=1e-6)


def test_ndcg_of_orders_known_beforehand():
    gain = np.array([[0.0, 3.0, 1.0, 0.0]])
    assert ndcg_at(gain, gain, 4) == pytest.approx(1.0)
    worst = (1 / np.log2(4) + 3 / np.log2(5)) / (3 + 1 / np.log2(3))
    assert ndcg_at(-gain, gain, 4) == pytest.approx(worst)
    # All tied: what random orders reach on average, whatever order the gallery is in.
    rng = np.random.default_rng(0)
    reached = np.mean([ndcg_at(rng.random((1, 4)), gain, 2) for _ in range(4000)])
    assert ndcg_at(np.zeros((1, 4)), gain, 2) == pytest.approx(reached, abs=0.02)
    assert ndcg_at(np.zeros((1, 4)), gain[:, ::-1], 2) == ndcg_at(np.zeros((1, 4)), gain, 2)


def test_ndcg_leaves_out_queries_without_gain_and_refuses_none():
    gain = np.array([[0.0, 1.0], [0.0, 0.0]])
    assert ndcg_at(np.array([[0.0, 1.0], [5.0, 1.0]]), gain, 1) == 1.0
    with pytest.raises(ValueError, match="no query has a relevant item"):
        ndcg_at(np.zeros((2, 2)), np.zeros((2, 2)), 1)
    with pytest.raises(ValueError, match=r"gain must be \(2, 2\), got \(2, 3\)"):
        ndcg_at(np.zeros((2, 2)), np.zeros((2, 3)), 1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        ndcg_at(np.zeros((2, 2)), gain, 0)


def test_hits_without_ties_are_ranks_within_k():
    rng = np.random.default_rng(1)
    similarity, relevant = rng.normal(size=(40, 30)), rng.random((40, 30)) < 0.1
    relevant[np.arange(40), rng.integers(0, 30, 40)] = True
    for k in (1, 5, 30, 99):
        np.testing.assert_array_equal(
            hits_at(similarity, relevant, k), first_relevant_rank(similarity, relevant) <= min(k, 30)
        )


def test_hits_with_ties_are_the_mean_over_all_orders_of_the_tied():
    similarity = np.array([3.0, 2.0, 2.0, 2.0, 2.0, 1.0])
    relevant = np.array([False, True, False, True, False, True])
    for k in range(1, 7):
        found = []
        for order in itertools.permutations(range(1, 5)):
            places = [0, *order, 5]
            found.append(relevant[places[:k]].any())
        assert hits_at(similarity[None], relevant[None], k)[0] == pytest.approx(np.mean(found), abs=1e-12)


def test_collapsed_embeddings_are_exactly_at_chance_in_closed_form():
    labels, gallery = np.array([0, 1, 1, 2]), np.repeat([0, 1, 2], [7, 20, 3])
    relevant = gallery[None] == labels[:, None]
    counts = relevant.sum(axis=1)
    for k in (1, 5, 10, 20, 30):
        chance = chance_hits_at(counts, 30, k)
        np.testing.assert_allclose(hits_at(np.ones((4, 30)), relevant, k), chance, atol=1e-12)
        exact = [1 - math.comb(30 - int(r), k) / math.comb(30, k) for r in counts]
        np.testing.assert_allclose(chance, exact, atol=1e-12)


def test_the_median_rank_by_chance_is_that_of_random_orders():
    rng = np.random.default_rng(0)
    gallery, queries = np.repeat([0, 1, 2], [40, 10, 4]), np.repeat([0, 1, 2], [10, 10, 30])
    relevant = gallery[None] == queries[:, None]
    ranks = [first_relevant_rank(rng.normal(size=relevant.shape), relevant) for _ in range(300)]
    assert abs(chance_median_rank(relevant.sum(axis=1), len(gallery)) - np.median(np.concatenate(ranks))) <= 1
    assert chance_median_rank(np.array([1]), 101) == 51.0


def test_faults_of_hits():
    with pytest.raises(ValueError, match="k must be at least 1"):
        hits_at(np.ones((1, 2)), np.ones((1, 2), bool), 0)
    with pytest.raises(ValueError, match="a True in every row"):
        hits_at(np.ones((1, 2)), np.zeros((1, 2), bool), 1)
    with pytest.raises(ValueError, match=r"relevant in 1\.\.4"):
        chance_hits_at(np.array([0]), 4, 1)
