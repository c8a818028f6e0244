"""Pace: strides about one middle, uneven times, repeated frames."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl.ops.pace import paced, repeated_steps, uneven_steps


@given(st.integers(2, 9), st.integers(2, 5), st.integers(0, 6))
def test_every_pace_lies_inside_about_the_same_middle(frames: int, paces: int, more: int) -> None:
    count = (frames - 1) * paces + 1 + more
    index, places = paced(count, frames, paces)
    assert places == more + 1
    assert index.shape == (paces, frames)
    for stride, row in enumerate(index.tolist(), start=1):
        assert [b - a for a, b in itertools.pairwise(row)] == [stride] * (frames - 1)
        assert row[0] >= 0
        assert row[-1] + places - 1 < count
        assert abs((row[0] + row[-1]) / 2 - (index[-1, 0] + index[-1, -1]) / 2) <= 1


def test_frames_never_come_round_again() -> None:
    with pytest.raises(ValueError, match="8 frames at a stride of 4 need 29 frames, there are 28"):
        paced(28, 8, 4)


def test_steps_of_none_or_two_are_uneven() -> None:
    times = torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.2, 0.2, 0.4], [0.0, 0.1, 0.3, 0.4, 0.5]]).double()
    assert uneven_steps(times, 10.0, 0.3).tolist() == pytest.approx([0.0, 1.0, 0.25])
    jitter = torch.tensor([[0.0, 0.12, 0.2, 0.3, 0.4]]).double()
    assert uneven_steps(jitter, 10.0, 0.3).tolist() == [0.0]
    assert uneven_steps(jitter, 10.0, 0.1).tolist() == [0.5]


def test_steps_without_a_change_beside_steps_with_one() -> None:
    steps = torch.tensor([[100] * 10, [100, 3] * 5, [0] * 10, [100] * 9 + [5]])
    assert repeated_steps(steps, 0.1).tolist() == pytest.approx([0.0, 0.5, 1.0, 0.1])
