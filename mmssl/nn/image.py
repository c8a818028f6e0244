"""A small image encoder for CPUs: overlapping patch stem, then residual stages at strides 4, 8 and 16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mmssl.nn.blocks import Conv2d, ResidualBlock, group_norm
from mmssl.nn.features import Features

MEAN, STD = 0.45, 0.25  # grey mean and spread of natural pictures in [0, 1]


class SmallImageEncoder(nn.Module):
    """Pictures [B, 3, H, W] in [0, 1] -> `Features` with levels at strides 4, 8, 16.

    Args:
        width: D of the pooled vector.
        channels: channels at strides 4, 8, 16.
        depth: residual blocks a stage.
    """

    modality = "image"
    strides = (4, 8, 16)

    def __init__(self, width: int = 256, channels: tuple[int, int, int] = (48, 96, 192), depth: int = 1) -> None:
        super().__init__()
        self.width = width
        widths = [int(c) for c in channels]
        self.level_widths = dict(zip(self.strides, widths, strict=True))
        # The stem is a 7 x 7 convolution of stride 4: as cheap as 4 x 4 patches, without their seams.
        self.stem = Conv2d(3, widths[0], 7, 4)
        self.stages = nn.ModuleList()
        previous = widths[0]
        kernels = ((3, 3), (3, 3))
        for number, current in enumerate(widths):
            first = ResidualBlock(previous, current, kernels, (1, 1) if number == 0 else (2, 2))
            rest = [ResidualBlock(current, current, kernels, (1, 1)) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            previous = current
        self.norm = group_norm(previous)
        # Mean and maximum over places: the mean says what fills the picture, the maximum keeps small things.
        self.project = nn.Linear(2 * previous, width)

    def forward(self, x: torch.Tensor) -> Features:
        """Encode pictures."""
        # Padded on one side: a cell of stride 8 looks at the middle of its own 8 x 8 pixels, as every map over the
        # picture takes it to. With the usual padding all cells look at their upper left corners, 3.5 pixels off.
        x = F.pad((x - MEAN) / STD, (0, 3, 0, 3))
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        levels = {}
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x)
            levels[stride] = x
        x = torch.relu(self.norm(x))
        pooled = self.project(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        return Features(pooled=pooled, levels=levels)
