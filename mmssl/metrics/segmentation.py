"""Masks of followed objects, judged as DAVIS does: region similarity J and boundary accuracy F.

Perazzi et al., "A benchmark dataset and evaluation methodology for video object segmentation", CVPR 2016; Pont-Tuset et
al., "The 2017 DAVIS challenge on video object segmentation", arXiv 1704.00675. Masks are bool tensors [..., H, W].
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

BOUNDARY_TOLERANCE = 0.008  # of the picture's diagonal


def region_similarity(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """J, float64 [...]: intersection over union; 1 where both are empty."""
    both, either = (found & truth).sum(dim=(-2, -1)), (found | truth).sum(dim=(-2, -1))
    return torch.where(either > 0, both.double() / either.clamp(min=1), torch.ones_like(both, dtype=torch.float64))


def boundaries(masks: torch.Tensor) -> torch.Tensor:
    """Bool [..., H, W]: pixels of which the one to the right, below, or right below differs (inside the picture)."""
    right, below = masks[..., :, :-1] ^ masks[..., :, 1:], masks[..., :-1, :] ^ masks[..., 1:, :]
    corner = masks[..., :-1, :-1] ^ masks[..., 1:, 1:]
    found = functional.pad(right, (0, 1)) | functional.pad(below, (0, 0, 0, 1))
    return found | functional.pad(corner, (0, 1, 0, 1))


def widened(masks: torch.Tensor, radius: int) -> torch.Tensor:
    """Bool [N, H, W]: within `radius` pixels (Euclidean) of a pixel of the masks [N, H, W]."""
    height, width = masks.shape[-2:]
    padded = functional.pad(masks.int(), (radius, radius))
    sums = functional.pad(padded.cumsum(dim=-1), (1, 0))
    near = torch.zeros_like(masks)
    # Row by row of the disc: how many pixels lie in a stretch is a difference of two running sums.
    for down in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        half = math.isqrt(radius**2 - down**2)
        first = radius - half
        stretch = sums[..., first + 2 * half + 1 : first + 2 * half + 1 + width] > sums[..., first : first + width]
        low, high = max(0, down), min(height, height + down)
        near[..., low:high, :] |= stretch[..., low - down : high - down, :]
    return near


def boundary_accuracy(found: torch.Tensor, truth: torch.Tensor, tolerance: float = BOUNDARY_TOLERANCE) -> torch.Tensor:
    """F, float64 [N]: harmonic mean of precision and recall of boundaries, matched within a tolerance.

    Without a boundary on both sides it is 1, on one side 0.

    Args:
        found: bool [N, H, W].
        truth: bool [N, H, W].
        tolerance: in pictures' diagonals below 1, else in pixels; rounded up to whole pixels.
    """
    height, width = truth.shape[-2:]
    radius = math.ceil(tolerance * math.hypot(height, width)) if tolerance < 1 else math.ceil(tolerance)
    ours, theirs = boundaries(found), boundaries(truth)
    ours_hit = (ours & widened(theirs, radius)).sum(dim=(-2, -1)).double()
    theirs_hit = (theirs & widened(ours, radius)).sum(dim=(-2, -1)).double()
    ours_count, theirs_count = ours.sum(dim=(-2, -1)), theirs.sum(dim=(-2, -1))
    precision, recall = ours_hit / ours_count.clamp(min=1), theirs_hit / theirs_count.clamp(min=1)
    mean = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return torch.where((ours_count == 0) & (theirs_count == 0), torch.ones_like(mean), mean)


def bounding_boxes(masks: torch.Tensor) -> torch.Tensor:
    """Bool [..., H, W]: the smallest upright rectangle that holds each mask, filled; empty where the mask is."""
    rows, columns = masks.any(dim=-1), masks.any(dim=-2)

    def between(line: torch.Tensor) -> torch.Tensor:
        reached = line.long().cumsum(dim=-1) > 0
        left = line.long().flip(-1).cumsum(dim=-1).flip(-1) > 0
        return reached & left

    return between(rows)[..., :, None] & between(columns)[..., None, :]
