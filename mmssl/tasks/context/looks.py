"""What the tasks on order share: where a clip moves, and the frames they show of it with no trace of when they were.

Nothing but the motion may tell the order. Each part of a tuple (a frame, or a short clip) has its own small shift, so
that no drift of the camera does; its frames are brought to one mean and contrast, so that no fade does; and, where
asked, it keeps one colour channel, so that no colour fringe does (Lee et al., arXiv 1708.01246).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from mmssl.ops.channel_split import normalise_frames, one_channel
from mmssl.ops.crops import crop_at, mirror
from mmssl.ops.motion import busiest_square, even_cells, frame_distances, motion_map
from mmssl.randomness import Draws

CELL = 4  # pixels a side of the cells in which motion is measured


class Motion(NamedTuple):
    """Where a clip moves, and how unlike its frames are there."""

    top: torch.Tensor  # int64 [B], corner of the busiest square, in cells
    left: torch.Tensor  # int64 [B]
    distances: torch.Tensor  # int64 [B, T, T], of `ops.motion.frame_distances` within it


def crop_side(size: tuple[int, int], crop: float) -> int:
    """Side in pixels of crops of a share of the shorter side of (height, width), a multiple of 8."""
    return min(*size, max(8, int(crop * min(size)) // 8 * 8))


def crop_fits(name: str, crop: float, jitter: float) -> None:
    """Refuse a crop that leaves no room for its own shifts.

    Raises:
        ValueError: with the task's name.
    """
    if not 0 < crop * (1 + 2 * jitter) <= 1:
        raise ValueError(f"{name}: a crop of {crop} with jitter {jitter} does not fit into the frame")


def motion_of(frames: torch.Tensor, side: int) -> Motion:
    """Motion of frames uint8 [B, T, 3, H, W] in the square of about `side` pixels that sees the most of it."""
    cells = even_cells(frames, CELL)
    looked_at = max(1, -(-side // CELL))
    top, left = busiest_square(motion_map(cells), looked_at)
    return Motion(top, left, frame_distances(crop_at(cells, top, left, looked_at)))


def show(
    frames: torch.Tensor,
    chosen: torch.Tensor,
    motion: Motion,
    draws: Draws,
    side: int,
    jitter: float,
    parts: int,
    split: bool = True,
    normalise: bool = True,
) -> torch.Tensor:
    """Chosen frames, cropped about the motion; one mirror decision a clip, all else drawn for each part.

    Args:
        frames: uint8 [B, T, 3, H, W].
        chosen: int64 [B, N], frame numbers, those of one part together.
        motion: of `motion_of`.
        draws: of the task.
        side: of the crops in pixels.
        jitter: largest shift of a part's own crop as a share of the crop, at least one pixel where not 0.
        parts: a clip; N is a multiple.
        split: keep one colour channel a part.
        normalise: bring each frame to one mean and contrast.

    Returns:
        Float32 [B * N, 3, side, side] in [0, 1]; the frames of a clip lie together.
    """
    height, width = frames.shape[-2:]
    each = chosen.shape[1] // parts
    jitter_pixels = min(max(1, round(jitter * side)) if jitter > 0 else 0, (min(height, width) - side) // 2)
    frames = frames[torch.arange(len(frames), device=frames.device)[:, None], chosen]
    if split:
        frames = one_channel(frames, draws.integers("channel", 3, (parts,)).repeat_interleave(each, dim=1))
    # The common corner is drawn around the busiest square; then every part is shifted by itself.
    corners = []
    for name, corner, length in (("top", motion.top, height), ("left", motion.left, width)):
        common = corner * CELL + draws.integers(f"{name}_crop", 4 * jitter_pixels + 1) - 2 * jitter_pixels
        own = draws.integers(f"{name}_jitter", 2 * jitter_pixels + 1, (parts,)) - jitter_pixels
        own = common.clamp(jitter_pixels, length - side - jitter_pixels)[:, None] + own
        corners.append(own.repeat_interleave(each, dim=1).flatten())
    shown = crop_at(frames.flatten(0, 1), corners[0], corners[1], side)
    shown = mirror(shown, draws.bernoulli("mirror", 0.5).repeat_interleave(chosen.shape[1])).float().div_(255)
    if normalise:
        shown = normalise_frames(shown)
    return shown.expand(-1, 3, -1, -1)
