"""The judge of clips: its errors, whose turn it is, and that neither side's term teaches the other side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from mmssl.nn.discriminator import Discriminator, Turns, carried, fixed, judged


def clips(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, 3, 32, 48, generator=generator), torch.rand(count, 2, 3, 32, 48, generator=generator)


def test_errors_are_the_cross_entropy() -> None:
    logits = torch.tensor([-30.0, -0.5, 0.0, 2.0, 80.0])
    for true in (True, False):
        wanted = [math.log1p(math.exp(-x if true else x)) for x in logits.double().tolist()]
        found = judged(logits, true)
        assert found.tolist() == pytest.approx(wanted, rel=1e-6)
        assert torch.equal(judged(logits.bfloat16(), true), judged(logits.bfloat16().float(), true))


def test_a_clip_is_judged_by_itself_and_by_all_of_its_frames() -> None:
    torch.manual_seed(0)
    judge = Discriminator(5, width=8)
    past, future = (x.requires_grad_() for x in clips())
    logits = judge(past, future)
    assert logits.shape == (4,)
    of_past, of_future = torch.autograd.grad(logits[1], (past, future))
    for gradient, frames in ((of_past, (2,)), (of_future, (1,))):
        by_frame = gradient.abs().amax(dim=[d for d in range(1, 5) if d not in frames])
        assert bool((by_frame[1] > 0).all())
        assert not by_frame[[0, 2, 3]].any()


def test_the_fixed_judge_says_the_same_and_does_not_learn() -> None:
    torch.manual_seed(0)
    judge = Discriminator(5, width=8)
    past, future = clips()
    future.requires_grad_()
    logits = fixed(judge, past, future)
    torch.testing.assert_close(logits, judge(past, future))
    logits.sum().backward()
    assert future.grad is not None
    assert bool(future.grad.any())
    assert all(parameter.grad is None for parameter in judge.parameters())


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [
        ([(0.5, 0.5)], (1, 1)),
        ([(0.2, 0.5)], (0, 1)),  # the judge is too good
        ([(0.5, 0.8)], (1, 0)),  # the judge is too bad
        ([(0.2, 0.8)], (1, 1)),  # both: both go on
        ([(0.2, 0.5), (0.5, 0.5)], (0, 1)),  # a pause lasts
        ([(0.2, 0.5), (0.5, 0.8)], (1, 1)),  # until the other is to pause
    ],
)
def test_who_is_too_good_pauses(errors: Sequence[tuple[float, float]], wanted: tuple[int, int]) -> None:
    turns = Turns()
    for real, made in errors:
        # Two micro-batches, and a hole of weight 0 that says nothing.
        weight = torch.tensor([1.0, 1.0, 0.0])
        halves = [
            carried(torch.tensor([real - 0.1, real, 9.0]), torch.tensor([made, made, 9.0]), weight),
            carried(torch.tensor([real + 0.1, real, 9.0]), torch.tensor([made, made, 9.0]), weight),
        ]
        turns.update(halves)
    assert tuple(turns.learning.tolist()) == wanted
    nothing = torch.zeros(2)
    turns.update([carried(nothing, nothing, nothing)])
    assert tuple(turns.learning.tolist()) == wanted


def test_whose_turn_it_is_lies_in_the_checkpoint() -> None:
    assert list(Turns().state_dict()) == ["learning"]
