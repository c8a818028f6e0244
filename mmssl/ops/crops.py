"""Square crops cut out by index alone: whole pixels, no interpolation."""

from __future__ import annotations

import torch


def crop_at(frames: torch.Tensor, top: torch.Tensor, left: torch.Tensor, size: int) -> torch.Tensor:
    """Square crops of frames, each at its own corner.

    Args:
        frames: [N, C, H, W].
        top: int64 [N], row of each crop's first pixel.
        left: int64 [N], its column.
        size: side of the crops in pixels.

    Returns:
        [N, C, size, size].

    Raises:
        ValueError: a crop does not lie inside its frame.
    """
    height, width = frames.shape[-2:]
    if len(top) and (
        int(torch.minimum(top, left).min()) < 0 or int(top.max()) > height - size or int(left.max()) > width - size
    ):
        raise ValueError(f"crops of {size} pixels do not lie inside frames of {height}x{width}")
    steps = torch.arange(size, device=frames.device)
    rows = (top[:, None] + steps)[:, None, :, None]
    columns = (left[:, None] + steps)[:, None, None, :]
    items = torch.arange(len(frames), device=frames.device)[:, None, None, None]
    channels = torch.arange(frames.shape[1], device=frames.device)[None, :, None, None]
    return frames[items, channels, rows, columns]


def mirror(frames: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Frames [N, ..., W] with left and right exchanged where `flip`, bool [N]."""
    return torch.where(flip.reshape(-1, *[1] * (frames.ndim - 1)), frames.flip(-1), frames)
