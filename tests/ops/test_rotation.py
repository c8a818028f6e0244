"""Quarter turns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl.ops.rotation import all_turns, turn


def test_convention_by_corner_pixel() -> None:
    """Counter-clockwise: what was top left lies bottom left after one turn, bottom right after two."""
    picture = torch.zeros(1, 3, 3)
    picture[0, 0, 0] = 1
    corners = [tuple(turn(picture, turns)[0].nonzero()[0].tolist()) for turns in range(4)]
    assert corners == [(0, 0), (2, 0), (2, 2), (0, 2)]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(-8, 8))
def test_turns_are_those_of_rot90_and_four_are_none(height: int, width: int, turns: int) -> None:
    picture = torch.arange(2 * height * width).reshape(2, height, width)
    assert torch.equal(turn(picture, turns), torch.rot90(picture, turns, (-2, -1)))
    four = picture
    for _ in range(4):
        four = turn(four, 1)
    assert torch.equal(four, picture)


def test_all_turns_hold_the_same_pixels() -> None:
    pictures = torch.rand(2, 3, 5, 5)
    turned = all_turns(pictures)
    assert turned.shape == (2, 4, 3, 5, 5)
    values = turned.flatten(3).sort(dim=3).values
    assert torch.equal(values, values[:, :1].expand_as(values))


def test_oblong_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"only square pictures.*\[1, 3, 4, 6\]"):
        all_turns(torch.zeros(1, 3, 4, 6))
