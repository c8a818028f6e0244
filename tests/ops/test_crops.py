"""Crops by index."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl.ops.crops import crop_at, mirror


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=5))
def test_a_crop_is_the_slice(corners: list[tuple[int, int]]) -> None:
    frames = torch.arange(len(corners) * 3 * 9 * 11).reshape(len(corners), 3, 9, 11)
    top, left = torch.tensor(corners).unbind(1)
    expected = [frame[:, t : t + 5, x : x + 5] for frame, (t, x) in zip(frames, corners, strict=True)]
    assert torch.equal(crop_at(frames, top, left, 5), torch.stack(expected))


@pytest.mark.parametrize(("top", "left"), [(-1, 0), (0, -1), (5, 0), (0, 7)])
def test_a_crop_outside_is_refused(top: int, left: int) -> None:
    with pytest.raises(ValueError, match="crops of 5 pixels do not lie inside frames of 9x11"):
        crop_at(torch.zeros(1, 3, 9, 11), torch.tensor([top]), torch.tensor([left]), 5)


def test_mirror_turns_only_what_it_is_told_to() -> None:
    frames = torch.arange(12).reshape(2, 1, 2, 3)
    mirrored = mirror(frames, torch.tensor([True, False]))
    assert mirrored[0].tolist() == [[[2, 1, 0], [5, 4, 3]]]
    assert torch.equal(mirrored[1], frames[1])
