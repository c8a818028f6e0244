"""Colour: YUV 4:2:0 planes to RGB, batched on the device (ITU-R BT.601, BT.709, BT.2020)."""

from __future__ import annotations

import torch

# FFmpeg's number of a matrix -> its luma weights (red, blue); others are taken for BT.601
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)


def planes_to_rgb(planes: torch.Tensor, matrix: torch.Tensor, full_range: torch.Tensor) -> torch.Tensor:
    """Uint8 [B, ..., 3, H, W], RGB, each chroma sample standing for its 2 x 2 pixels.

    Args:
        planes: uint8 [B, ..., H * 3 / 2, W]: luma rows, then both chroma planes one after the other.
        matrix: int64 [B], FFmpeg's number of the colour matrix.
        full_range: bool [B], whether samples go from 0 to 255, else luma from 16 to 235 and chroma from 16 to 240.
    """
    *rows, height, width = planes.shape
    height = height * 2 // 3
    scale, offset = coefficients(matrix, full_range)
    shape = (-1, *(1,) * (len(rows) - 1), 1, 1)
    luma = planes[..., :height, :].to(torch.float32)
    chroma = planes[..., height:, :].reshape(*rows, 2, height // 2, width // 2).to(torch.float32) - 128.0
    blue, red = chroma[..., 0, :, :], chroma[..., 1, :, :]
    luma = luma * scale[:, 0].view(shape) + offset.view(shape)

    def add(*parts: tuple[torch.Tensor, int]) -> torch.Tensor:
        change = sum(part * scale[:, column].view(shape) for part, column in parts)
        assert isinstance(change, torch.Tensor)
        whole = change.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
        return (luma + whole).round_().clamp_(0, 255).to(torch.uint8)

    return torch.stack([add((red, 1)), add((blue, 2), (red, 3)), add((blue, 4))], dim=-3)


def coefficients(matrix: torch.Tensor, full_range: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 [B, 5]: gain of luma, red of Cr, green of Cb and of Cr, blue of Cb; float32 [B]: offset of luma."""
    rows, offsets = [], []
    for number, full in zip(matrix.tolist(), full_range.tolist(), strict=True):
        red, blue = _WEIGHTS.get(number, _BT601)
        green = 1.0 - red - blue
        luma, chroma = (1.0, 1.0) if full else (255 / 219, 255 / 224)
        rows.append(
            [
                luma,
                2 * (1 - red) * chroma,
                -2 * blue * (1 - blue) / green * chroma,
                -2 * red * (1 - red) / green * chroma,
                2 * (1 - blue) * chroma,
            ]
        )
        offsets.append(0.0 if full else -16 * luma)
    device = matrix.device
    return torch.tensor(rows, device=device), torch.tensor(offsets, device=device)
