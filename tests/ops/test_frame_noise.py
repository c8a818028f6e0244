"""Noise of each frame's own: its size, its scales, its independence, and that it is a function of the samples."""

from __future__ import annotations

import pytest
import torch

from mmssl.errors import UserError
from mmssl.ops.frame_noise import SCALES, check_levels, frame_noise
from mmssl.randomness import Draws

GREY = torch.full((24, 6, 3, 40, 52), 0.5)


def noise_of(levels: tuple[float, float] = (2.0, 12.0), first: int = 0, task: str = "t") -> torch.Tensor:
    """Grey levels of 255, [24, 6, 3, 40, 52]."""
    return (frame_noise(GREY, Draws(torch.arange(first, first + 24), task), "noise", levels) - 0.5) * 255


def test_strength_is_drawn_evenly_for_each_frame() -> None:
    spread = noise_of().std(dim=(2, 3, 4)).flatten()
    assert float(noise_of().mean().abs()) < 0.1
    assert float(spread.min()) < 4
    assert float(spread.max()) > 10
    assert float(spread.mean()) == pytest.approx(7.0, abs=0.8)


def test_frames_channels_and_samples_have_their_own() -> None:
    flat = noise_of((8.0, 8.0))[:4].flatten(3).flatten(0, 2)
    alike = torch.corrcoef(flat) - torch.eye(len(flat))
    assert float(alike.abs().max()) < 0.5  # coarse noise has few cells
    assert float(alike.mean().abs()) < 0.01


def test_there_is_noise_of_every_scale() -> None:
    """What averages over cells leave: of white noise one part in 64 of the variance would be left at 8 pixels."""
    noise = noise_of((8.0, 8.0))
    left = [float(torch.nn.functional.avg_pool2d(noise.flatten(0, 1), scale).var()) for scale in SCALES]
    assert left[0] == pytest.approx(64.0, rel=0.05)
    shares = [a - b for a, b in zip(left, [*left[1:], 0.0], strict=True)]
    assert min(shares) > 0.15 * left[0]


def test_the_same_samples_have_the_same_noise_wherever_they_lie() -> None:
    assert torch.equal(noise_of(), noise_of())
    assert torch.equal(noise_of()[5:], noise_of(first=5)[:-5])
    assert not torch.equal(noise_of(), noise_of(task="u"))


def test_without_levels_nothing_changes_and_bad_ones_are_refused() -> None:
    assert noise_of((0.0, 0.0)).abs().max() == 0
    assert check_levels("t", (0.0, 3.0)) == (0.0, 3.0)
    for levels in ((3.0, 1.0), (-1.0, 2.0), (1.0, 200.0)):
        with pytest.raises(UserError, match="t: noise is two rising levels"):
            check_levels("t", levels)
