"""What the small encoders of clips have in common: a stem, then (2+1)-D residual stages that keep the rate of time.

(2+1)-D convolutions: Tran et al., "A closer look at spatiotemporal convolutions", arXiv 1711.11248.
"""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.blocks import ResidualBlock, group_norm
from mmssl.nn.features import Features

KERNELS = ((1, 3, 3), (3, 1, 1))


class ClipStages(nn.Module):
    """The output of a stem [B, C, T, h, w] at stride 4 -> `Features` with levels at spatial strides 8 and 16.

    Time keeps its rate: what happens when is what synchronisation and order are about.

    Args:
        stem: what comes before, at stride 4.
        width: D of the pooled vector.
        channels: channels of the stem and of the levels at strides 8 and 16.
        depth: residual blocks a stage.
    """

    strides = (8, 16)

    def __init__(self, stem: nn.Module, width: int, channels: tuple[int, ...], depth: int) -> None:
        super().__init__()
        self.width = width
        self.level_widths = dict(zip(self.strides, channels[1:], strict=True))
        self.stem = stem
        self.stages = nn.ModuleList()
        previous = channels[0]
        for current in channels[1:]:
            first = ResidualBlock(previous, current, KERNELS, (1, 2, 2))
            rest = [ResidualBlock(current, current, KERNELS, (1, 1, 1)) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            previous = current
        self.norm = group_norm(previous)
        self.project = nn.Linear(2 * previous, width)

    def encode(self, x: torch.Tensor) -> Features:
        """Stem, stages, and the mean and maximum over the places of the mean over time."""
        x = self.stem(x)
        levels = {}
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x)
            levels[stride] = x
        x = torch.relu(self.norm(x)).mean(dim=2)
        pooled = self.project(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        return Features(pooled=pooled, levels=levels)
