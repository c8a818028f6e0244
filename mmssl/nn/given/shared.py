"""What the encoders of all other libraries share: how pictures are brought to their size, length and normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from mmssl.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Size = int | tuple[int, int] | list[int]


def as_size(size: Size | None, what: str = "size") -> tuple[int, int] | None:
    """(height, width) of a side or of both.

    Raises:
        UserError: it is no positive size.
    """
    if size is None:
        return None
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or min(both) < 1:
        raise UserError(f"{what} must be one positive number, or height and width, got {size!r}")
    return both[0], both[1]


def as_colour(values: Sequence[float], what: str) -> tuple[float, float, float]:
    """Three numbers, of red, green and blue.

    Raises:
        UserError: there are not three.
    """
    if len(values) != 3:
        raise UserError(f"{what} must be three numbers, of red, green and blue, got {list(values)!r}")
    return float(values[0]), float(values[1]), float(values[2])


def normalised(x: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Colours of [B, 3, ...] in [0, 1] less the mean and by the spread."""
    shape = (3,) + (1,) * (x.ndim - 2)
    return (x - x.new_tensor(mean).view(shape)) / x.new_tensor(std).view(shape)


def resized(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pictures [B, 3, H, W] or clips [B, 3, T, H, W] at a size: bilinear, antialiased, stretched where shapes differ.

    The shape of a picture is not kept: evaluations take square pictures of clips, as models of one size do.
    """
    if x.shape[-2:] == size:
        return x
    pictures = x if x.ndim == 4 else x.transpose(1, 2).flatten(0, 1)
    made = F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)
    return made if x.ndim == 4 else made.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def with_frames(x: torch.Tensor, frames: int) -> torch.Tensor:
    """Clips [B, 3, T, H, W] with so many frames, taken evenly: left out or repeated, never mixed."""
    count = x.shape[2]
    if count == frames:
        return x
    index = ((torch.arange(frames, dtype=torch.float64) + 0.5) * count / frames).floor().long().clamp(max=count - 1)
    return x[:, :, index.to(x.device)]


def tokens_to_maps(tokens: torch.Tensor, prefix: int, grid: tuple[int, ...], space_first: bool = False) -> torch.Tensor:
    """Tokens [B, prefix + cells, D] as maps [B, D, *grid]; `space_first`: time runs fastest, for (t, h, w)."""
    rows = tokens[:, prefix:].transpose(1, 2)
    if space_first and len(grid) == 3:
        return rows.reshape(*rows.shape[:2], grid[1], grid[2], grid[0]).permute(0, 1, 4, 2, 3)
    return rows.reshape(*rows.shape[:2], *grid)
