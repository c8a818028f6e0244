"""Channel splitting and per-frame normalisation: no colour fringe and no drift of brightness tells the order of frames.

Channel splitting keeps one colour channel of a frame and shows it three times (Lee et al., ICCV 2017, arXiv
1708.01246, section 3.2). Per-frame normalisation removes what gain, exposure and fades add on top.
"""

from __future__ import annotations

import torch


def one_channel(frames: torch.Tensor, channel: torch.Tensor) -> torch.Tensor:
    """The channel that each frame keeps; ``expand`` shows it three times.

    Args:
        frames: [..., 3, H, W].
        channel: int64 [...] in 0..2.

    Returns:
        [..., 1, H, W] of the same dtype.
    """
    index = channel[..., None, None, None].expand(*channel.shape, 1, *frames.shape[-2:])
    return frames.gather(-3, index)


def normalise_frames(frames: torch.Tensor, contrast: float = 0.2, least_std: float = 0.01) -> torch.Tensor:
    """Each frame with mean 0.5 and standard deviation `contrast`, kept inside [0, 1].

    Args:
        frames: float [..., C, H, W] in [0, 1].
        contrast: standard deviation afterwards; 0.2 cuts what lies beyond 2.5 standard deviations.
        least_std: standard deviation below which a frame counts as flat and its noise is not blown up.
    """
    std, mean = torch.std_mean(frames, dim=(-3, -2, -1), keepdim=True, correction=0)
    return (0.5 + contrast * (frames - mean) / std.clamp(min=least_std)).clamp(0.0, 1.0)
