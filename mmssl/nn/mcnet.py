"""MCnet: motion and content apart, one future frame after the other (Villegas et al., "Decomposing motion and content
for natural video sequence prediction", arXiv 1706.08033).

A ConvLSTM reads the *differences* of neighbouring frames, the content code is that of the last frame; both are
combined into the code of the next frame, whose difference from the one before is fed back. Differences are taken of
the encoder's maps and not of pixels, since nothing but the encoder may see the past. The paper's skips at finer maps
are those of `mmssl.nn.future.FutureDecoder`, its adversarial term that of `mmssl.nn.discriminator`.
"""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.blocks import group_norm
from mmssl.nn.conv_lstm import ConvLSTMCell


class MCNet(nn.Module):
    """Motion and content, combined step by step.

    Args:
        motion: channels of the motion code of each past frame.
        content: channels of the code of the last frame.
        width: channels a future frame, and of the state.
        frames: past frames.
        steps: future frames.
    """

    def __init__(self, motion: int, content: int, width: int, frames: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.content = nn.Conv2d(content, width, 3, padding=1)
        self.motion = nn.Conv2d(motion, width, 3, padding=1, bias=False)  # a difference of nothing is nothing
        self.memory = ConvLSTMCell(width, width)
        self.combine = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            group_norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            group_norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.residual = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, motion: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """[B, steps, width, h, w] from motion [B, C, frames, h, w] and content [B, C', h, w]."""
        content = self.content(content)
        state = self.memory.start(content)
        for change in motion.diff(dim=2).unbind(dim=2):
            state = self.memory(self.motion(change), state)
        made: list[torch.Tensor] = []
        for _ in range(self.steps):
            both = torch.cat([content, state[0].to(content.dtype)], dim=1)
            frame = self.combine(both) + self.residual(both)
            made.append(frame)
            state = self.memory(frame - content, state)
            content = frame
        return torch.stack(made, dim=1)
