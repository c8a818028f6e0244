"""SimVP's translator: all future frames at once from the stacked past (Gao et al., "SimVP: simpler yet better video
prediction", arXiv 2206.05099).

The codes of all past frames are stacked along the channels and go through a small U-Net of Inception modules (grouped
convolutions of 3, 5, 7 and 11 side by side). The paper's spatial encoder is the project's own shared encoder, its
decoder with a skip from the first layer is `mmssl.nn.future.FutureDecoder`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmssl.nn.blocks import group_norm

KERNELS = (3, 5, 7, 11)
GROUPS = 8


class Inception(nn.Module):
    """A 1 x 1 convolution, then grouped convolutions of several sizes whose results are added.

    Args:
        inputs: channels that come in.
        hidden: channels behind the 1 x 1 convolution, a multiple of 8.
        outputs: channels that go out, a multiple of 8.
        kernels: sides of the convolutions.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, kernels: Sequence[int] = KERNELS) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, hidden, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(hidden, outputs, kernel, padding=kernel // 2, groups=GROUPS),
                nn.GroupNorm(GROUPS, outputs),
                nn.LeakyReLU(0.2),
            )
            for kernel in kernels
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, outputs, h, w]."""
        x = self.reduce(x)
        return torch.stack([branch(x) for branch in self.branches]).sum(dim=0)


class SimVP(nn.Module):
    """The translator.

    Args:
        motion: channels of the motion code of each past frame.
        content: channels of the code of the last frame.
        width: channels a future frame.
        frames: past frames.
        steps: future frames.
        hidden: channels of the Inception modules, a multiple of 8.
        depth: Inception modules on the way in, and as many on the way out.
    """

    def __init__(
        self, motion: int, content: int, width: int, frames: int, steps: int, hidden: int = 128, depth: int = 2
    ) -> None:
        super().__init__()
        self.steps, self.width = steps, width
        entering = [frames * motion + content] + [hidden] * (depth - 1)
        self.inward = nn.ModuleList(Inception(channels, hidden // 2, hidden) for channels in entering)
        # Each module on the way out is given, beside what comes from below, what the mirrored one on the way in made.
        leaving = [hidden] + [2 * hidden] * (depth - 1)
        self.outward = nn.ModuleList(Inception(channels, hidden // 2, hidden) for channels in leaving)
        self.out = nn.Sequential(group_norm(hidden), nn.ReLU(), nn.Conv2d(hidden, steps * width, 1))

    def forward(self, motion: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """[B, steps, width, h, w] from motion [B, C, frames, h, w] and content [B, C', h, w]."""
        x = torch.cat([motion.flatten(1, 2), content], dim=1)
        kept: list[torch.Tensor] = []
        for module in self.inward:
            x = module(x)
            kept.append(x)
        kept.pop()
        for number, module in enumerate(self.outward):
            x = module(torch.cat([x, kept.pop()], dim=1) if number else x)
        return torch.as_tensor(self.out(x).unflatten(1, (self.steps, self.width)))
