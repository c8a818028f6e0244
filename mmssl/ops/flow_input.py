"""Optical flow as an input: brought to pixels, without the camera's pan, mirrored together with the picture.

A stack of flow fields is float32 [B, K, 2, h, w], content's movement (x to the right, y down) in pixels a second.
"""

from __future__ import annotations

import torch

UNIT = 1000  # whole numbers a pixel a second, in `field_motion`


def to_pixels(field: torch.Tensor, cell: int, size: tuple[int, int]) -> torch.Tensor:
    """A field of cells at every pixel, [..., H, W]; cells are repeated, none is mixed with its neighbour.

    Args:
        field: [..., h, w], of any type.
        cell: pixels to a side of a cell.
        size: (H, W); what hangs over at the lower and right edge is cut off.
    """
    if cell > 1:
        field = field.repeat_interleave(cell, dim=-2).repeat_interleave(cell, dim=-1)
    return field[..., : size[0], : size[1]]


def without_pan(flow: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Each field less its own mean movement over its known places; 0 where not known.

    Of each field by itself, so that the shake of a hand-held camera, which turns from one field to the next, goes too.

    Args:
        flow: float [B, K, 2, h, w].
        known: bool [B, K, h, w].
    """
    there = known[:, :, None].to(flow.dtype)
    # In double: of an even field nothing is left that `field_motion` would count, whatever its speed and the device.
    total = (flow * there).sum(dim=(3, 4), keepdim=True, dtype=torch.float64)
    mean = total / there.sum(dim=(3, 4), keepdim=True, dtype=torch.float64).clamp(min=1)
    return (flow - mean.to(flow.dtype)) * there


def field_motion(flow: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Int64 [B, K]: mean speed over the known places of each field, in thousandths of a pixel a second.

    Whole numbers: choices made from their sums are the same whatever the device and the other rows.
    """
    speed = flow.double().square().sum(dim=2).sqrt() * known
    mean = speed.sum(dim=(2, 3)) / known.sum(dim=(2, 3)).clamp(min=1)
    return (mean * UNIT).round().long()


def mirror_flow(flow: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Stacks [B, K, 2, h, w] with left and right exchanged where `flip`, bool [B]: what moved right moves left."""
    turned = flow.flip(-1) * torch.tensor([-1.0, 1.0], dtype=flow.dtype, device=flow.device)[:, None, None]
    return torch.where(flip[:, None, None, None, None], turned, flow)
