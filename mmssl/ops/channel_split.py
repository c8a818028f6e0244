"""Channel splitting and per-frame normalisation: no colour fringe and no drift of brightness tells the order of frames.

Channel splitting keeps one colour channel of a frame and shows it three times (Lee et al., ICCV 2017, arXiv
1708.01246, section 3.2). Per-frame normalisation removes what gain, exposure and fades add on top.
"""

from __future__ import annotations

import math

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


def some_one_channel(clips: torch.Tensor, channel: torch.Tensor, split: torch.Tensor) -> torch.Tensor:
    """Clips of which some show one of their channels three times; a copy.

    Args:
        clips: [N, T, 3, H, W].
        channel: int64 [N] in 0..2.
        split: bool [N], which clips show one channel; the others stay as they are.

    Returns:
        [N, T, 3, H, W] of the same dtype.
    """
    shown = torch.where(split[:, None], channel[:, None], torch.arange(3, device=clips.device))  # [N, 3]
    clip = torch.arange(len(clips), device=clips.device)[:, None]
    return clips.transpose(1, 2)[clip, shown].transpose(1, 2)


def normalise_frames(frames: torch.Tensor, contrast: float = 0.2, least_std: float = 0.01) -> torch.Tensor:
    """Each frame with mean 0.5 and standard deviation `contrast`, kept inside [0, 1].

    Args:
        frames: float [..., C, H, W] in [0, 1].
        contrast: standard deviation afterwards; 0.2 cuts what lies beyond 2.5 standard deviations.
        least_std: standard deviation below which a frame counts as flat and its noise is not blown up.
    """
    # Not `std_mean`, which takes six times as long on a CPU; in place, since each pass over all pixels costs.
    centred = frames - frames.mean(dim=(-3, -2, -1), keepdim=True)
    std = torch.linalg.vector_norm(centred, dim=(-3, -2, -1), keepdim=True) / math.sqrt(math.prod(frames.shape[-3:]))
    return centred.mul_(contrast / std.clamp(min=least_std)).add_(0.5).clamp_(0.0, 1.0)
