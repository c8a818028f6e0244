"""A small video encoder for CPUs: patch stem over frames and their differences, then (2+1)-D residual stages.

(2+1)-D convolutions: Tran et al., "A closer look at spatiotemporal convolutions", arXiv 1711.11248. Differences of
neighbouring frames as input: Wang et al., "Temporal segment networks", arXiv 1608.00859.
"""

from __future__ import annotations

import torch

from mmssl.nn.blocks import Conv3d
from mmssl.nn.features import Features
from mmssl.nn.image import MEAN, STD
from mmssl.nn.stages import ClipStages

CHANGE = 3.0  # brings the differences of grey frames to about the spread of the frames themselves


class SmallVideoEncoder(ClipStages):
    """Clips [B, 3, T, H, W] in [0, 1] -> `Features` with levels [B, C, T, h, w] at spatial strides 8 and 16.

    Args:
        width: D of the pooled vector.
        channels: channels of the stem (stride 4) and of the levels at strides 8 and 16.
        depth: residual blocks a stage.
    """

    modality = "video"

    def __init__(self, width: int = 256, channels: tuple[int, int, int] = (32, 64, 128), depth: int = 1) -> None:
        widths = tuple(int(c) for c in channels)
        # Colour, and the change of grey since the last frame and to the next: a small net left to find differences by
        # itself needs hundreds of steps before it sees that anything moves.
        super().__init__(Conv3d(5, widths[0], (1, 7, 7), (1, 4, 4), (0, 3, 3)), width, widths, depth)

    def forward(self, x: torch.Tensor) -> Features:
        """Encode clips."""
        return self.encode(with_changes(x))


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
