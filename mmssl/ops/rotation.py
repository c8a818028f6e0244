"""Quarter turns of pictures by transposing and flipping alone: no pixel is interpolated, so none tells the turn.

Convention: `turns` counts quarter turns counter-clockwise, so that the top left pixel goes to the bottom left
corner, as in `torch.rot90(x, turns, (-2, -1))` (Gidaris, Singh, Komodakis, ICLR 2018, arXiv 1803.07728).
"""

from __future__ import annotations

import torch


def turn(pictures: torch.Tensor, turns: int) -> torch.Tensor:
    """Pictures [..., H, W] turned counter-clockwise by `turns` quarters; [..., W, H] when `turns` is odd."""
    match turns % 4:
        case 0:
            return pictures
        case 1:
            return pictures.transpose(-2, -1).flip(-2)
        case 2:
            return pictures.flip(-2, -1)
        case _:
            return pictures.transpose(-2, -1).flip(-1)


def all_turns(pictures: torch.Tensor) -> torch.Tensor:
    """Square pictures [B, C, S, S] -> [B, 4, C, S, S]: 0, 1, 2 and 3 quarter turns counter-clockwise.

    Raises:
        ValueError: the pictures are not square; the turned ones would have another shape, which gives them away.
    """
    if pictures.shape[-2] != pictures.shape[-1]:
        raise ValueError(f"only square pictures can be turned without showing it, got {list(pictures.shape)}")
    return torch.stack([turn(pictures, turns) for turns in range(4)], dim=1)
