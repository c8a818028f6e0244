"""Spatial crops of labelled clips: drawn ones to train on, evenly spread ones to test on.

Several views in time and three crops along the longer side, their probabilities averaged: Wang et al., "Non-local
neural networks", arXiv 1711.07971; Feichtenhofer et al., "SlowFast networks", arXiv 1812.03982.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mmssl.ops.augment import colour_jitter, crop_resize
from mmssl.randomness import Draws

LONGEST = 2.0  # of the longer side to the shorter; what lies beyond is cut off


@dataclass(frozen=True)
class Augmentation:
    """How a training view differs from what was decoded.

    Args:
        smallest: smallest side of a crop, as a share of the shorter side of the picture, in (0, 1]; 1 cuts along the
            longer side only.
        mirror: whether half of the views are mirrored; off where left and right are what the classes are about.
        colour: how far brightness and colours go, in [0, 1).
    """

    smallest: float = 0.7
    mirror: bool = True
    colour: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= 1:
            raise ValueError(f"smallest is a share of the shorter side in (0, 1], got {self.smallest}")
        if not 0 <= self.colour < 1:
            raise ValueError(f"colour must be in [0, 1), got {self.colour}")


def canvas_size(size: int, aspects: np.ndarray) -> tuple[int, int]:
    """(height, width) that clips are decoded at: the shorter side is `size`, the longer one follows the median clip.

    Args:
        size: side of the crops in pixels.
        aspects: float [N], width / height of the clips.
    """
    aspect = float(np.median(aspects))
    longer = 2 * round(size * min(max(aspect, 1 / aspect), LONGEST) / 2)  # even, as decoders like it
    if longer - size < 2:
        return size, size
    return (size, longer) if aspect > 1 else (longer, size)


def even_crops(frames: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Square crops evenly spread along the longer side, first to last; one is the middle.

    Args:
        frames: [..., H, W].
        count: crops wanted; a square picture has one, whatever is wanted.

    Returns:
        Views of `frames`, [..., S, S] each with S = min(H, W).
    """
    height, width = frames.shape[-2:]
    side, spare = min(height, width), abs(height - width)
    if spare == 0:
        return [frames]
    places = [spare // 2] if count == 1 else [round(spare * n / (count - 1)) for n in range(count)]
    return [frames.narrow(-1 if width > height else -2, place, side) for place in places]


def drawn_crops(frames: torch.Tensor, draws: Draws, size: int, how: Augmentation) -> torch.Tensor:
    """Training views: one square crop, mirror and colour change a clip, the same for all its frames.

    Args:
        frames: uint8 [B, T, 3, H, W].
        draws: of the clips, on the device of the frames.
        size: side of what is returned.
        how: strength.

    Returns:
        Float32 [B, T, 3, size, size] in [0, 1].
    """
    height, width = frames.shape[-2:]
    side = draws.uniform("side", low=how.smallest, high=1.0) * min(height, width)
    place = draws.uniform("place", (2,))
    box = torch.stack(
        [
            place[:, 0] * (height - side) / height,
            place[:, 1] * (width - side) / width,
            side / height,
            side / width,
        ],
        dim=1,
    )
    flip = draws.bernoulli("mirror", 0.5) if how.mirror else torch.zeros(len(frames), dtype=torch.bool).to(box.device)
    # Brightness moves all channels together and further than it moves them apart.
    together, apart = draws.uniform("gain", (1,), -1, 1), draws.uniform("tint", (3,), -1, 1)
    gain = 1 + how.colour * (0.75 * together + 0.25 * apart)
    offset = 0.25 * how.colour * draws.uniform("offset", (1,), -1, 1).expand(-1, 3)
    return crop_resize(colour_jitter(frames, gain, offset), box, flip, (size, size))
