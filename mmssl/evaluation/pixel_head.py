"""A linear head (1 x 1 convolution) on frozen maps, and the maps that it stands on.

The levels of an encoder are brought to the finest one's grid (bilinear) and put behind each other. The head is
multinomial logistic regression on cells drawn from the train pictures, standardised by them; a cell's truth is the
share of each class among its pixels. Objective: mean cross-entropy + strength / 2 * |W|^2 (the bias is free), minimised
by full-batch L-BFGS: convex, so that neither a learning rate nor a number of epochs decides. In use, the logits are
brought to the picture's size (bilinear) before the best class of each pixel is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from mmssl.errors import UserError
from mmssl.evaluation.linear import minimise
from mmssl.metrics.pixel_classes import IGNORED

ITERATIONS = 100
CHUNK = 32  # pictures at a time
MOST_BYTES = 2 << 30  # of maps kept; with more, they are made anew whenever they are wanted


class Maps(Protocol):
    """Maps of N pictures."""

    channels: int

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Float32 [B, C, h, w] of the pictures int64 [B]."""
        ...


class FrozenMaps:
    """Levels of a frozen encoder over pictures uint8 [N, 3, S, S].

    Args:
        part: a picture encoder.
        pictures: what it looks at.
        strides: of the levels; all unless given.
        device: where it runs.
        most_bytes: that are kept.
    """

    def __init__(
        self,
        part: Any,
        pictures: torch.Tensor,
        strides: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.part, self.pictures, self.device = part.to(device).eval(), pictures, device
        self.strides = tuple(sorted(strides or part.strides))
        self.channels = sum(part.level_widths[stride] for stride in self.strides)
        cells = math.prod(-(-side // self.strides[0]) for side in pictures.shape[-2:])
        self.kept: torch.Tensor | None = None
        if 4 * len(pictures) * self.channels * cells <= most_bytes:
            chunks = torch.arange(len(pictures)).split(CHUNK)
            self.kept = torch.cat([self._made(rows).cpu() for rows in chunks])

    @torch.no_grad()
    def _made(self, rows: torch.Tensor) -> torch.Tensor:
        levels = self.part(self.pictures[rows].to(self.device).float() / 255.0).levels
        size = levels[self.strides[0]].shape[-2:]
        maps = [F.interpolate(levels[s].float(), size, mode="bilinear", align_corners=False) for s in self.strides]
        found = torch.cat(maps, dim=1)
        if not bool(found.isfinite().all()):
            raise UserError("the encoder gives maps that are not finite; its weights are broken, train it again")
        return found

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Maps`."""
        return self._made(rows) if self.kept is None else self.kept[rows].to(self.device)


class ColourMaps:
    """Colour and place of each pixel, [B, 5, S, S] of pictures uint8 [N, 3, S, S]: what needs no encoder."""

    channels = 5

    def __init__(self, pictures: torch.Tensor, device: torch.device | str = "cpu") -> None:
        self.pictures, self.device = pictures, device

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Maps`."""
        colour = self.pictures[rows].to(self.device).float() / 255.0
        height, width = colour.shape[-2:]
        y = torch.linspace(-1, 1, height, device=self.device)[:, None].expand(height, width)
        x = torch.linspace(-1, 1, width, device=self.device)[None].expand(height, width)
        return torch.cat([colour, torch.stack([y, x]).expand(len(colour), -1, -1, -1)], dim=1)


@dataclass(frozen=True)
class PixelHead:
    """A fitted head of K classes on C channels.

    Args:
        weight: float32 [K, C], on the channels as they are.
        bias: float32 [K].
        strength: of the L2 penalty.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    strength: float

    def classes(self, maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Int64 [B, *size] of maps [B, C, h, w]."""
        logits = F.conv2d(maps, self.weight[:, :, None, None], self.bias)
        return F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(dim=1)


def drawn_cells(
    maps: Maps, masks: torch.Tensor, rows: np.ndarray, classes: int, most: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors float32 [M, C] of at most `most` cells of the pictures `rows`, and their classes' shares float32 [M, K].

    Args:
        maps: of all pictures.
        masks: uint8 [N, S, S], classes of the pixels of all pictures; cells without a class are left out.
        rows: int64 [n].
        classes: K.
        most: cells drawn.
        seed: of the draw.
    """
    pool = torch.from_numpy(rows)
    height, width = maps(pool[:1]).shape[-2:]
    cells = height * width
    order = torch.randperm(len(pool) * cells, generator=torch.Generator().manual_seed(seed))[:most].sort().values
    vectors, shares = [], []
    for first in range(0, len(pool), CHUNK):
        chunk = pool[first : first + CHUNK]
        mine = order[(order >= first * cells) & (order < (first + len(chunk)) * cells)] - first * cells
        found = maps(chunk)
        own = mine.to(found.device)
        vectors.append(found.movedim(1, -1).reshape(-1, maps.channels)[own])
        truth = masks[chunk].to(found.device).long()
        truth = torch.where(truth == IGNORED, classes, truth)
        counts = F.one_hot(truth, classes + 1)[..., :classes].movedim(-1, 1).float()
        shares.append(F.adaptive_avg_pool2d(counts, (height, width)).movedim(1, -1).reshape(-1, classes)[own])
    x, y = torch.cat(vectors), torch.cat(shares)
    total = y.sum(dim=1)
    known = total > 0
    return x[known], y[known] / total[known, None]


def fit_pixel_heads(x: torch.Tensor, y: torch.Tensor, strengths: Sequence[float]) -> list[PixelHead]:
    """One head for each strength (best given strongest first: each starts from the one before).

    Args:
        x: float32 [M, C] from `drawn_cells`.
        y: float32 [M, K] from `drawn_cells`.
        strengths: of the L2 penalty, > 0.
    """
    mean, std = x.double().mean(dim=0), x.double().std(dim=0, correction=0)
    scale = torch.where(std > 1e-6 * std.max().clamp(min=1e-30), std, torch.ones_like(std)).float()
    scaled = (x - mean.float()) / scale
    weight = torch.zeros(y.shape[1], x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(y.shape[1], device=x.device, requires_grad=True)
    heads = []
    for strength in strengths:
        minimise(scaled, y, weight, bias, strength, 1e-4, 1e-7, ITERATIONS)
        w = weight.detach() / scale
        heads.append(PixelHead(w, bias.detach() - (w.double() @ mean).float(), strength))
    return heads
