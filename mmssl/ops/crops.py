"""Square crops cut out by index alone: whole pixels, no interpolation; and the black bars that they should not show."""

from __future__ import annotations

import torch

BLACK = 40  # levels: bars of limited range that were taken for full range, and what the codec adds
BLURRED = 2  # pixels beside a bar that the codec has mixed with it


def within_bars(frames: torch.Tensor) -> torch.Tensor:
    """Int64 [B, 4]: first row, row after the last, first column, column after the last that are in no black bar.

    A bar is what stays black from an edge on in all frames. Of a clip that is black altogether all is left.

    Args:
        frames: uint8 [B, T, C, H, W].
    """
    found = []
    for across in (4, 3):
        black = (frames.amax(dim=(1, 2, across)) <= BLACK).long()  # [B, H or W]
        length = black.shape[1]
        before, after = (side.cumprod(dim=1).sum(dim=1) for side in (black, black.flip(1)))
        before, after = (torch.where(bar > 0, bar + BLURRED, bar) for bar in (before, after))
        whole = before + after >= length
        found += [before.masked_fill(whole, 0), length - after.masked_fill(whole, 0)]
    return torch.stack(found, dim=1)


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
    # Of all crops there could be (views), one each: whole rows are copied, no pixel needs an index of its own.
    crops = frames.unfold(2, size, 1).unfold(3, size, 1)
    return crops[torch.arange(len(frames), device=frames.device), :, top, left]


def mirror(frames: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Frames [N, ..., W] with left and right exchanged where `flip`, bool [N]."""
    return torch.where(flip.reshape(-1, *[1] * (frames.ndim - 1)), frames.flip(-1), frames)
