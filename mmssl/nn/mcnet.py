"""MCnet: motion and content apart, one future frame after the other (Villegas et al., "Decomposing motion and content
for natural video sequence prediction", arXiv 1706.08033).

A ConvLSTM reads the *differences* of neighbouring frames, the content code is that of the last frame; both are
combined into the change from it to the next frame. As published, that change goes through the same motion encoder as
the differences of the past before the ConvLSTM reads on. Differences are taken of the encoder's maps and not of pixels,
since nothing but the encoder may see the past; a made frame has no such map, so its change of content is brought into
the maps' channels first. Nothing here starts at zero: that the first picture is a copy of the last frame is the
decoder's doing, whatever the codes are, and zeros in both would hold up the gradient twice. The paper's skips at finer
maps are those of `mmssl.nn.future.FutureDecoder`, its adversarial term that of `mmssl.nn.discriminator`.
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
        # Changes add up: were they made of the frame as it is, its residual part would let them grow exponentially.
        self.norm = group_norm(width)
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
        # Into the channels of a past difference; without a bias, so that here too no change is nothing.
        self.feedback = nn.Conv2d(width, motion, 1, bias=False)

    def forward(self, motion: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """[B, steps, width, h, w] from motion [B, C, frames, h, w] and content [B, C', h, w]."""
        frame = self.content(content)
        state = self.memory.start(frame)
        for difference in motion.diff(dim=2).unbind(dim=2):
            state = self.memory(self.motion(difference), state)
        made: list[torch.Tensor] = []
        for _ in range(self.steps):
            both = torch.cat([self.norm(frame), state[0].to(frame.dtype)], dim=1)
            change = self.combine(both) + self.residual(both)
            frame = frame + change
            made.append(frame)
            state = self.memory(self.motion(self.feedback(change)), state)
        return torch.stack(made, dim=1)
