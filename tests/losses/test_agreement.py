"""Agreement against slow sums in float64, its closed forms, and the rule that no positive is a negative."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.losses.agreement import agreement_nce, consensus_positives


def slow_agreement(
    logits: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The definition, term by term, in float64."""
    logits, total, count = logits.double(), torch.zeros((), dtype=torch.float64), 0.0
    for i in range(len(logits)):
        pulled = [j for j in range(logits.shape[1]) if positives[i, j]]
        pushed = [logits[i, j].exp() for j in range(logits.shape[1]) if negatives[i, j]]
        if weight[i] == 0 or not pulled or not pushed:
            continue
        terms = [-(logits[i, j].exp() / (logits[i, j].exp() + torch.stack(pushed).sum())).log() for j in pulled]
        total, count = total + weight[i].double() * torch.stack(terms).mean(), count + float(weight[i])
    return total / max(count, 1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9))
def test_equals_the_definition_gradients_included(seed: int, rows: int, candidates: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(rows, candidates, generator=generator)).requires_grad_()
    role = torch.randint(0, 3, (rows, candidates), generator=generator)
    weight = torch.randint(0, 3, (rows,), generator=generator).float()
    ours = agreement_nce(logits, role == 1, role == 2, weight)
    theirs = slow_agreement(logits, role == 1, role == 2, weight)
    torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)
    if theirs.requires_grad:
        (a,), (b,) = torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    else:
        assert float(ours.detach()) == 0.0


def test_alike_candidates_give_the_log_of_one_positive_and_the_negatives() -> None:
    role = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0]])
    loss = agreement_nce(torch.full((1, 8), 5.0), role == 1, role == 2, torch.ones(1))
    assert float(loss) == pytest.approx(math.log(5))  # four negatives and itself: other positives are not there


def test_a_candidate_cannot_be_both() -> None:
    both = torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="positive and a negative"):
        agreement_nce(torch.zeros(1, 3), both, both, torch.ones(1))


def test_the_consensus_asks_for_both_modalities() -> None:
    """Alike in one modality alone does not make a positive, however much alike."""
    video = torch.tensor([[0.99, 0.50, 0.10, 0.60, 0.70]])
    audio = torch.tensor([[0.10, 0.60, 0.99, 0.55, 0.90]])
    usable = torch.tensor([[True, True, True, True, False]])
    positives, consensus = consensus_positives(video, audio, usable, 2)
    assert positives.tolist() == [[False, True, False, True, False]]
    assert torch.equal(consensus, torch.tensor([[0.10, 0.50, 0.10, 0.55, 0.70]]))
    few, _ = consensus_positives(video, audio, usable, 5)
    assert torch.equal(few, usable)
