import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_normalized_dcg

from mmssl.metrics.retrieval import first_relevant_rank, median_rank, ndcg_at, recall_at


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
