"""A small video encoder for CPUs: patch stem over three frames, then (2+1)-D residual stages.

(2+1)-D convolutions: Tran et al., "A closer look at spatiotemporal convolutions", arXiv 1711.11248.
"""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.blocks import ResidualBlock, group_norm
from mmssl.nn.features import Features
from mmssl.nn.image import MEAN, STD


class SmallVideoEncoder(nn.Module):
    """Clips [B, 3, T, H, W] in [0, 1] -> `Features` with levels [B, C, t, h, w] at spatial strides 8 and 16.

    Time keeps its rate at stride 8 and is halved at 16.

    Args:
        width: D of the pooled vector.
        channels: channels of the stem (stride 4) and of the levels at strides 8 and 16.
        depth: residual blocks a stage.
    """

    modality = "video"
    strides = (8, 16)

    def __init__(self, width: int = 256, channels: tuple[int, int, int] = (32, 64, 128), depth: int = 1) -> None:
        super().__init__()
        self.width = width
        widths = [int(c) for c in channels]
        self.level_widths = dict(zip(self.strides, widths[1:], strict=True))
        # Three frames in the stem: the first layer already sees motion.
        self.stem = nn.Conv3d(3, widths[0], (3, 7, 7), (1, 4, 4), (1, 3, 3))
        self.stages = nn.ModuleList()
        previous = widths[0]
        kernels = ((1, 3, 3), (3, 1, 1))
        for number, current in enumerate(widths[1:]):
            first = ResidualBlock(previous, current, kernels, (1, 2, 2) if number == 0 else (2, 2, 2))
            rest = [ResidualBlock(current, current, kernels, (1, 1, 1)) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            previous = current
        self.norm = group_norm(previous)
        self.project = nn.Linear(previous, width)

    def forward(self, x: torch.Tensor) -> Features:
        """Encode clips."""
        x = self.stem(((x - MEAN) / STD).contiguous(memory_format=torch.channels_last_3d))
        levels = {}
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x)
            levels[stride] = x
        pooled = self.project(torch.relu(self.norm(x)).mean(dim=(2, 3, 4)))
        return Features(pooled=pooled, levels=levels)
