"""Bidirectional ranking against its formula with loops in float64, against torch, and its closed forms."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mmssl.losses.ranking import bidirectional_ranking

N, K = 5, 3


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randn(N, N, K, generator=generator, dtype=torch.float64, requires_grad=True)
    sentences = torch.rand(N, K, generator=generator) > 0.3
    sentences[:, 0] = True
    same = torch.rand(N, N, K, generator=generator) > 0.8
    return similarity, sentences, torch.tensor([1.0, 1, 0, 1, 1]), same


def test_equals_the_formula_with_its_gradients() -> None:
    similarity, sentences, weight, same = given()
    ours = bidirectional_ranking(similarity, sentences, weight, same, 0.3)
    wanted = torch.zeros(N, K, dtype=torch.float64)
    valid = [i for i in range(N) if weight[i] > 0]
    for i in valid:
        for k in range(K):
            if not sentences[i, k]:
                continue
            own = similarity[i, i, k]
            texts = [
                (0.3 - own + similarity[i, j, n]).clamp(min=0)
                for j in valid
                for n in range(K)
                if j != i and sentences[j, n] and not same[i, j, n]
            ]
            clips = [(0.3 - own + similarity[j, i, k]).clamp(min=0) for j in valid if j != i and not same[j, i, k]]
            costs = [torch.stack(side).mean() for side in (texts, clips) if side]
            wanted[i, k] = wanted[i, k] + sum(costs)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    grain = torch.arange(N * K, dtype=torch.float64).reshape(N, K)
    made, reference = (torch.autograd.grad((x * grain).sum(), similarity)[0] for x in (ours, wanted))
    torch.testing.assert_close(made, reference, atol=1e-5, rtol=1e-5)


def test_equals_torchs_margin_ranking_for_bags_of_one() -> None:
    similarity = given()[0][:, :, :1].detach()
    square, ones = similarity[:, :, 0], torch.ones(N, dtype=torch.float64)
    made = bidirectional_ranking(similarity, torch.ones(N, 1, dtype=torch.bool), ones)[:, 0]
    for i in range(N):
        others = [j for j in range(N) if j != i]
        own = square[i, i].expand(N - 1)
        wanted = sum(
            functional.margin_ranking_loss(own, rivals, torch.ones(N - 1), margin=0.2)
            for rivals in (square[i, others], square[others, i])
        )
        torch.testing.assert_close(made[i], wanted)


def test_closed_forms() -> None:
    sentences, weight = torch.ones(N, K, dtype=torch.bool), torch.ones(N)
    alike = bidirectional_ranking(torch.full((N, N, K), 0.7), sentences, weight, margin=0.2)
    torch.testing.assert_close(alike, torch.full((N, K), 0.4))
    apart = torch.eye(N)[:, :, None].expand(N, N, K)
    assert not bidirectional_ranking(apart, sentences, weight, margin=0.2).any()
    alone = bidirectional_ranking(torch.rand(N, N, K), sentences, torch.tensor([0.0, 1, 0, 0, 0]))
    assert not alone.any()  # nothing to be ranked against


def test_what_says_the_same_is_no_rival() -> None:
    similarity, sentences, weight, _ = given()
    all_same = torch.ones(N, N, K, dtype=torch.bool)
    assert float(bidirectional_ranking(similarity, sentences, weight, all_same).sum().detach()) == pytest.approx(0.0)
