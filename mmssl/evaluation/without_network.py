"""What clips tell without any network: facts of their files, motion energy and colours of the encoders' own frames.

Motion energy and colours are written as encoders without weights, so that they run in the encoders' pass over the
clips. A table of action scores in which these do as well as an encoder says nothing about what the encoder has learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.features import Features

FACTS = ("width", "height", "seconds", "frame_rate")
SIZE = 64  # height and width at which frames are compared
GRID = 8
PARTS = 4  # of a view, in time
BINS = 4  # of each colour


class MotionEnergy(nn.Module):
    """Mean absolute difference of neighbouring grey frames of 64 x 64, in an 8 x 8 grid and 4 parts of the time."""

    modality = "video"
    strides: tuple[int, ...] = ()
    width = PARTS * GRID * GRID

    def __init__(self) -> None:
        super().__init__()
        self.level_widths: dict[int, int] = {}

    def forward(self, x: torch.Tensor) -> Features:
        """Clips [B, 3, T, H, W] in [0, 1] -> pooled [B, 256]; a single frame does not move."""
        grey = F.interpolate(x.float().mean(dim=1), size=(SIZE, SIZE), mode="bilinear", antialias=True)
        change = grey.diff(dim=1).abs() if grey.shape[1] > 1 else torch.zeros_like(grey)
        return Features(pooled=F.adaptive_avg_pool3d(change[:, None], (PARTS, GRID, GRID)).flatten(1))


class ColourHistogram(nn.Module):
    """Square roots of the shares of 4 x 4 x 4 colours among all pixels of a view."""

    modality = "video"
    strides: tuple[int, ...] = ()
    width = BINS**3

    def __init__(self) -> None:
        super().__init__()
        self.level_widths: dict[int, int] = {}

    def forward(self, x: torch.Tensor) -> Features:
        """Clips [B, 3, T, H, W] in [0, 1] -> pooled [B, 64]."""
        level = (x.float() * BINS).long().clamp(0, BINS - 1)
        colour = ((level[:, 0] * BINS + level[:, 1]) * BINS + level[:, 2]).flatten(1)
        count = torch.zeros(len(x), self.width, device=x.device)
        count.scatter_add_(1, colour, torch.ones_like(colour, dtype=torch.float32))  # whole numbers: any order is exact
        return Features(pooled=(count / colour.shape[1]).sqrt())


#: name in the tables -> the encoder
PIXELS: dict[str, type[nn.Module]] = {"motion_energy": MotionEnergy, "colour_histogram": ColourHistogram}


def pixel_bundles(encoder: str) -> dict[str, Encoders]:
    """A bundle of each of `PIXELS`, under the name `encoder`, to be extracted beside an encoder of pictures."""
    return {name: Encoders({encoder: Build(f"{kind.__module__}.{kind.__qualname__}")}) for name, kind in PIXELS.items()}


def file_facts(metas: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Float32 [N, 1, 4]: logarithms of the original width, height, seconds and frame rate; None where they say nothing.

    A fact that a clip lacks counts as 1 (a logarithm of 0).
    """
    facts = np.zeros((len(metas), 1, len(FACTS)), dtype=np.float32)
    for row, meta in enumerate(metas):
        original = meta.get("original")
        values = original if isinstance(original, Mapping) else {}
        for column, name in enumerate(FACTS):
            value = values.get(name)
            if isinstance(value, int | float) and value > 0:
                facts[row, 0, column] = np.log(value)
    return facts if (facts.std(axis=0) > 1e-6).any() else None
