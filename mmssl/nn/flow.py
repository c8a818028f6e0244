"""A small encoder of optical flow for CPUs: a stem over each field, then (2+1)-D residual stages.

The second stream of two-stream networks (Simonyan and Zisserman, arXiv 1406.2199), which takes a stack of flow fields;
here the stack is a clip with two channels, so that any number of fields goes in (arXiv 1711.11248 for the blocks).
"""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.features import Features
from mmssl.nn.stages import ClipStages

SPEED = 20.0  # pixels a second: brings the movement of things in small pictures to about unit spread
FASTEST = 10.0  # in units of SPEED; what is beyond it is an error of the method more often than a movement


class SmallFlowEncoder(ClipStages):
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

    def __init__(
        self,
        width: int = 256,
        channels: tuple[int, int, int] = (32, 64, 128),
        depth: int = 1,
        speed: float = SPEED,
    ) -> None:
        widths = tuple(int(c) for c in channels)
        super().__init__(nn.Conv3d(2, widths[0], (1, 7, 7), (1, 4, 4), (0, 3, 3)), width, widths, depth)
        self.speed = speed

    def forward(self, x: torch.Tensor) -> Features:
        """Encode stacks of fields."""
        x = (x / self.speed).clamp(-FASTEST, FASTEST)
        return self.encode(x.contiguous(memory_format=torch.channels_last_3d))
