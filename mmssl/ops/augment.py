"""Batched augmentations of clips: one decision a clip for all its frames, randomness given as tensors."""

from __future__ import annotations

import torch

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


def shift_flip(frames: torch.Tensor, down: torch.Tensor, right: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Move and mirror uint8 frames [B, T, 3, H, W] without interpolation; edges are repeated.

    Args:
        frames: uint8 [B, T, 3, H, W].
        down: int64 [B], pixels.
        right: int64 [B], pixels.
        flip: bool [B], mirror left and right.
    """
    rows, height, width = len(frames), frames.shape[-2], frames.shape[-1]
    y = (torch.arange(height, device=frames.device)[None] - down[:, None]).clamp(0, height - 1)
    x = (torch.arange(width, device=frames.device)[None] - right[:, None]).clamp(0, width - 1)
    x = torch.where(flip[:, None], width - 1 - x, x)
    place = (y[:, :, None] * width + x[:, None, :]).reshape(rows, 1, height * width)
    flat = frames.reshape(rows, -1, height * width)
    return flat.gather(2, place.expand(-1, flat.shape[1], -1)).reshape(frames.shape)


def crop_resize(
    frames: torch.Tensor, box: torch.Tensor, flip: torch.Tensor, size: tuple[int, int] | None = None
) -> torch.Tensor:
    """Cut a box out of each clip's frames and stretch it to the whole picture, or to `size`, bilinearly.

    Interpolation along rows and columns is separable: two small matrices a clip, so all frames go through two batched
    products.

    Args:
        frames: float [B, T, 3, H, W].
        box: float [B, 4], top, left, height and width in fractions of the picture.
        flip: bool [B], mirror left and right.
        size: (height, width) of what is returned; that of the frames when left out.

    Returns:
        [B, T, 3, *size], of the type of `frames`.
    """
    rows, height, width = len(frames), frames.shape[-2], frames.shape[-1]
    tall, wide = size or (height, width)
    down = _interpolation(box[:, 0], box[:, 2], height, tall, frames)
    across = _interpolation(box[:, 1], box[:, 3], width, wide, frames)
    across = torch.where(flip[:, None, None], across.flip(1), across)
    with torch.autocast(frames.device.type, enabled=False):  # bfloat16 would leave 8 bits of a pixel
        narrow = torch.matmul(frames.reshape(rows, -1, width), across.transpose(1, 2)).reshape(rows, -1, height, wide)
        return torch.matmul(down[:, None], narrow).reshape(*frames.shape[:-2], tall, wide)


def soften(frames: torch.Tensor) -> torch.Tensor:
    """Frames [..., H, W] smoothed with (1, 2, 1) / 4 along rows and columns, edges repeated."""
    for dim in (-2, -1):
        last = frames.shape[dim] - 1
        steps = torch.arange(last + 1, device=frames.device)
        before, behind = (frames.index_select(dim, (steps + s).clamp(0, last)) for s in (-1, 1))
        frames = (before + 2 * frames + behind) / 4
    return frames


def _interpolation(
    start: torch.Tensor, length: torch.Tensor, count: int, made: int, like: torch.Tensor
) -> torch.Tensor:
    """[B, made, count]: weights of the source pixels for each target pixel, centres aligned, edges repeated."""
    target = (torch.arange(made, device=like.device, dtype=torch.float64) + 0.5) / made
    source = ((start[:, None] + target * length[:, None]) * count - 0.5).clamp(0, count - 1)
    pixels = torch.arange(count, device=like.device, dtype=torch.float64)
    return (1 - (source[:, :, None] - pixels).abs()).clamp(min=0).to(like.dtype)


def colour_jitter(frames: torch.Tensor, gain: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Float32 in [0, 1]: ``frames / 255 * gain + offset`` per clip and channel, clipped.

    Args:
        frames: uint8 [B, T, 3, H, W].
        gain: float [B, 3].
        offset: float [B, 3].
    """
    scale = (gain.float() / 255.0)[:, None, :, None, None]
    return torch.addcmul(offset.float()[:, None, :, None, None], frames.float(), scale).clamp_(0.0, 1.0)


def greyscale(frames: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """Frames [B, T, 3, H, W] with the colour taken out where `grey`, bool [B]; three equal channels there."""
    if not bool(grey.any()):
        return frames
    luma = sum(share * frames[grey, :, c] for c, share in enumerate(GREY))
    changed = frames.clone()
    changed[grey] = torch.as_tensor(luma)[:, :, None].expand(-1, -1, 3, -1, -1)
    return changed
