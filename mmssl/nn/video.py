"""A small video encoder for CPUs: patch stem over frames and their differences, then (2+1)-D residual stages.

(2+1)-D convolutions: Tran et al., "A closer look at spatiotemporal convolutions", arXiv 1711.11248. Differences of
neighbouring frames as input: Wang et al., "Temporal segment networks", arXiv 1608.00859.
"""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.blocks import Conv3d, ResidualBlock, group_norm
from mmssl.nn.features import Features
from mmssl.nn.image import MEAN, STD

CHANGE = 3.0  # brings the differences of grey frames to about the spread of the frames themselves


class SmallVideoEncoder(nn.Module):
    """Clips [B, 3, T, H, W] in [0, 1] -> `Features` with levels [B, C, T, h, w] at spatial strides 8 and 16.

    Time keeps its rate: what happens when is what synchronisation and order are about.

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
        # Colour, and the change of grey since the last frame and to the next: a small net left to find differences by
        # itself needs hundreds of steps before it sees that anything moves.
        self.stem = Conv3d(5, widths[0], (1, 7, 7), (1, 4, 4), (0, 3, 3))
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
        """Encode clips."""
        x = self.stem(with_changes(x))
        levels = {}
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x)
            levels[stride] = x
        x = torch.relu(self.norm(x)).mean(dim=2)
        pooled = self.project(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        return Features(pooled=pooled, levels=levels)


def with_changes(clip: torch.Tensor) -> torch.Tensor:
    """[B, 5, T, H, W], channels last: a normalised clip and its grey change since the last frame and to the next.

    The first and last frame, which lack a neighbour, repeat the change on their other side; a single frame has none.
    Made in float32 and written once, in the type that the convolutions take under autocast: on a CPU these passes over
    all pixels cost as much as the stem.

    Args:
        clip: float [B, 3, T, H, W] in [0, 1].
    """
    device = clip.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else clip.dtype
    rows, _, frames, height, width = clip.shape
    made = torch.zeros(rows, frames, height, width, 5, dtype=kind, device=clip.device)
    made[..., :3] = ((clip - MEAN) / STD).permute(0, 2, 3, 4, 1)
    if frames > 1:
        change = clip.mean(dim=1).diff(dim=1) * (CHANGE / STD)
        made[:, 1:, ..., 3], made[:, :1, ..., 3] = change, change[:, :1]
        made[:, :-1, ..., 4], made[:, -1:, ..., 4] = change, change[:, -1:]
    return made.permute(0, 4, 1, 2, 3)
