"""Optical flow as tensors: warping, errors, averages over cells, mirrors.

Flow is [N, 2, H, W], (x to the right, y down) in pixels between two frames, at the pixels of the earlier one: what is
at (x, y) there is at (x + u, y + v) in the later one. Masks are bool [N, H, W], True where flow is known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def warp(later: torch.Tensor, flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The later frames as they would look at the time of the earlier ones.

    Args:
        later: float [N, C, H, W].
        flow: float [N, 2, H, W].

    Returns:
        Float [N, C, H, W], bilinear; and bool [N, H, W], False where flow leads out of the picture (0 there).
    """
    height, width = later.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
    )
    at_x, at_y = x + flow[:, 0].float(), y + flow[:, 1].float()
    inside = (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
    # Sides of one pixel have no extent to normalise by: any place in them is their middle.
    grid = torch.stack([2 * at_x / max(width - 1, 1) - 1, 2 * at_y / max(height - 1, 1) - 1], dim=-1)
    found = F.grid_sample(later.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found * inside[:, None], inside


def end_point_error(flow: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Float [N, H, W]: distance in pixels between two flows [N, 2, H, W] at each pixel."""
    distance: torch.Tensor = torch.linalg.vector_norm(flow.float() - truth.float(), dim=1)
    return distance


def masked_mean(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Float [N]: mean of values [N, H, W] where known; 0 in a row where nothing is."""
    known = known.to(values.dtype)
    return (values * known).flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1).clamp(min=1)


def fl_all(flow: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Float [N]: share of known pixels that are wrong by more than 3 pixels and by more than 5 % (KITTI's Fl-all)."""
    error = end_point_error(flow, truth)
    wrong = (error > 3) & (error > 0.05 * torch.linalg.vector_norm(truth.float(), dim=1))
    return masked_mean(wrong.float(), known)


def to_cells(flow: torch.Tensor, known: torch.Tensor, cell: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean flow of the known pixels of each cell, as the codec's vectors are given.

    Args:
        flow: float [N, 2, H, W].
        known: bool [N, H, W].
        cell: pixels to a side of a cell; cells at the edge may be cut.

    Returns:
        Float [N, 2, h, w], 0 where nothing is known, and bool [N, h, w], where something is.
    """
    share = F.avg_pool2d(known[:, None].float(), cell, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(flow * known[:, None], cell, ceil_mode=True, count_include_pad=False)
    return mean / share.clamp(min=1e-6), share[:, 0] > 0


def mirrored(flow: torch.Tensor, across: torch.Tensor, down: torch.Tensor, turned: torch.Tensor) -> torch.Tensor:
    """Flow of square frames that were mirrored, row by row: vectors change their place and their direction.

    Args:
        flow: float [N, 2, S, S].
        across: bool [N], left and right exchanged: x changes its sign.
        down: bool [N], above and below exchanged: y changes its sign.
        turned: bool [N], then rows and columns exchanged: x and y change places.
    """
    sign = torch.stack([1 - 2 * across.to(flow.dtype), 1 - 2 * down.to(flow.dtype)], dim=1)[:, :, None, None]
    moved = mirror(flow, across, down, turned) * sign
    return torch.where(turned[:, None, None, None], moved.flip(1), moved)


def mirror(pictures: torch.Tensor, across: torch.Tensor, down: torch.Tensor, turned: torch.Tensor) -> torch.Tensor:
    """Pictures [N, ..., S, S] mirrored as `mirrored` says, without a change of their values."""
    shape = (-1, *[1] * (pictures.ndim - 1))
    made = torch.where(across.view(shape), pictures.flip(-1), pictures)
    made = torch.where(down.view(shape), made.flip(-2), made)
    return torch.where(turned.view(shape), made.transpose(-1, -2), made)
