"""A small encoder of optical flow for CPUs: a stem over each field, then (2+1)-D residual stages.

The second stream of two-stream networks (Simonyan and Zisserman, arXiv 1406.2199), which takes a stack of flow fields;
here the stack is a clip with two channels, so that any number of fields goes in (arXiv 1711.11248 for the blocks).
"""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.blocks import ResidualBlock, group_norm
from mmssl.nn.features import Features

SPEED = 20.0  # pixels a second: brings the movement of things in small pictures to about unit spread
FASTEST = 10.0  # in units of SPEED; what is beyond it is an error of the method more often than a movement


class SmallFlowEncoder(nn.Module):
    """Flow [B, 2, T, H, W] in pixels a second -> `Features` with levels [B, C, T, h, w] at spatial strides 8 and 16.

    A pixel of the field is a pixel of the picture. The weights of the stem are not standardised as those of the other
    encoders: a filter of zero mean would not see a field that moves alike everywhere.

    Args:
        width: D of the pooled vector.
        channels: channels of the stem (stride 4) and of the levels at strides 8 and 16.
        depth: residual blocks a stage.
        speed: pixels a second that become 1.
    """

    modality = "flow"
    strides = (8, 16)

    def __init__(
        self,
        width: int = 256,
        channels: tuple[int, int, int] = (32, 64, 128),
        depth: int = 1,
        speed: float = SPEED,
    ) -> None:
        super().__init__()
        self.width = width
        self.speed = speed
        widths = [int(c) for c in channels]
        self.level_widths = dict(zip(self.strides, widths[1:], strict=True))
        self.stem = nn.Conv3d(2, widths[0], (1, 7, 7), (1, 4, 4), (0, 3, 3))
        self.stages = nn.ModuleList()
        previous = widths[0]
        kernels = ((1, 3, 3), (3, 1, 1))
        for current in widths[1:]:
            first = ResidualBlock(previous, current, kernels, (1, 2, 2))
            rest = [ResidualBlock(current, current, kernels, (1, 1, 1)) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            previous = current
        self.norm = group_norm(previous)
        self.project = nn.Linear(2 * previous, width)

    def forward(self, x: torch.Tensor) -> Features:
        """Encode stacks of fields."""
        x = (x / self.speed).clamp(-FASTEST, FASTEST).contiguous(memory_format=torch.channels_last_3d)
        x = self.stem(x)
        levels = {}
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x)
            levels[stride] = x
        x = torch.relu(self.norm(x)).mean(dim=2)
        pooled = self.project(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        return Features(pooled=pooled, levels=levels)
