"""Noise that every frame has for itself, so that the codec's key frames cannot be told from the others.

At a key frame the codec encodes the whole picture anew: what stands still changes there by a few levels, at every place
and at every scale of its blocks, and comes round with the length of a group of pictures. The noise has the same scales
and another strength in each frame, so that neither how much of it changes nor how sharp a frame is says where it lies.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch.nn import functional

from mmssl.errors import UserError
from mmssl.randomness import Draws, uniform_numpy

SCALES = (1, 2, 4, 8)  # pixels to a side of a cell of the noise; those of the transforms and blocks of H.264 and HEVC
SKEW = 3  # power of the drawn shares of the scales: in most frames one scale has the greater part
TABLE = 1 << 20  # numbers, of which every frame shows a stretch from a drawn place on; pictures hold no more pixels


def frame_noise(frames: torch.Tensor, draws: Draws, name: str, levels: tuple[float, float]) -> torch.Tensor:
    """Frames with noise of each frame's and channel's own, float32 in [0, 1].

    Args:
        frames: float32 [B, T, 3, H, W] in [0, 1].
        draws: of the task, B samples.
        name: of the draws.
        levels: (least, most) standard deviation of a frame's noise, in grey levels of 255; drawn evenly for each frame.
            How it is shared out among the scales is drawn too. (0, 0) leaves the frames as they are.

    Returns:
        [B, T, 3, H, W].
    """
    if levels[1] <= 0:
        return frames
    rows, count, channels, height, width = frames.shape
    strength = draws.uniform(f"{name}/strength", (count,), *levels) / 255
    share = draws.uniform(f"{name}/share", (count, len(SCALES))) ** SKEW
    each = strength[..., None] * (share / share.sum(dim=-1, keepdim=True)).sqrt()
    table = _table(frames.device)
    made: torch.Tensor | None = None
    for number, scale in reversed(list(enumerate(SCALES))):  # from coarse to fine: little is done at full size
        tall, wide = -(-height // scale), -(-width // scale)
        stretches = table.unfold(0, tall * wide, 1)
        place = draws.integers(f"{name}/place{scale}", len(stretches), (count, channels))
        noise = stretches[place.flatten()].reshape(rows, count, channels, tall, wide)
        noise.mul_(each[..., number, None, None, None].float())
        if made is not None:
            coarse = functional.interpolate(made.flatten(0, 1), scale_factor=SCALES[number + 1] // scale)
            noise.add_(coarse.reshape(rows, count, channels, *coarse.shape[-2:])[..., :tall, :wide])
        made = noise
    assert made is not None
    return made.add_(frames).clamp_(0.0, 1.0)


def check_levels(task: str, levels: tuple[float, float]) -> tuple[float, float]:
    """The levels of `frame_noise`, refused where they make no sense.

    Raises:
        UserError: with the task's name.
    """
    if not 0 <= levels[0] <= levels[1] < 128:
        raise UserError(f"{task}: noise is two rising levels in [0, 128), got {levels}")
    return levels


@functools.lru_cache(maxsize=4)
def _table(device: torch.device) -> torch.Tensor:
    """Float32 [TABLE]: sums of four uniform numbers with mean 0 and variance 1, always the same."""
    numbers = uniform_numpy(np.zeros(1, np.int64), "frame noise", 4 * TABLE).reshape(4, TABLE).sum(axis=0)
    return torch.from_numpy(((numbers - 2) * 3**0.5).astype(np.float32)).to(device)
