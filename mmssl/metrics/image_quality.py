"""How close a picture is to another: PSNR and SSIM (Wang et al., "Image quality assessment: from error visibility to
structural similarity", IEEE Transactions on Image Processing 13(4), 2004), in floating point.

Both refuse integers: differences of uint8 wrap around, squares of them once more, and published prediction scores have
been some decibels too good for it (SimVP, arXiv 2206.05099, on KTH).
"""

from __future__ import annotations

import torch

WINDOW, SIGMA = 11, 1.5  # the gaussian window of the paper
LUMINANCE, CONTRAST = 0.01, 0.03  # K1 and K2 of the paper


def psnr(
    made: torch.Tensor, true: torch.Tensor, where: torch.Tensor | None = None, data_range: float = 1.0
) -> torch.Tensor:
    """Peak signal-to-noise ratio of each picture in decibels.

    Args:
        made: float [..., C, H, W].
        true: float [..., C, H, W].
        where: bool [..., H, W], the pixels that count, or None for all.
        data_range: the largest value less the smallest that a pixel can have.

    Returns:
        [...]; infinite where the pictures are equal, NaN where no pixel counts.

    Raises:
        TypeError: a picture is not floating point.
    """
    made, true = _in_full(made, true)
    error = (made - true).square().mean(dim=-3)
    if where is None:
        mean = error.mean(dim=(-2, -1))
    else:
        # One division more than 0 / 0 gives: no pixel, no number.
        mean = (error * where).sum(dim=(-2, -1)) / where.sum(dim=(-2, -1))
    return 10.0 * torch.log10(data_range**2 / mean)


def ssim(made: torch.Tensor, true: torch.Tensor, data_range: float = 1.0) -> torch.Tensor:
    """Structural similarity of each picture: mean over channels and over all places of a whole 11 x 11 window.

    Args:
        made: float [..., C, H, W], H and W at least 11.
        true: float [..., C, H, W].
        data_range: the largest value less the smallest that a pixel can have.

    Returns:
        [...], at most 1.

    Raises:
        TypeError: a picture is not floating point.
        ValueError: a picture is smaller than the window.
    """
    made, true = _in_full(made, true)
    if min(made.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW} pixels, got {list(made.shape[-2:])}")
    with torch.autocast(made.device.type, enabled=False):
        down, across = (_gaussian(length, made) for length in made.shape[-2:])

        def blurred(x: torch.Tensor) -> torch.Tensor:
            # The window is separable: two products with banded matrices, which a CPU does faster than convolutions.
            return torch.matmul(down, torch.matmul(x, across.T))

        # Variances are differences of squares: about zero, where each picture is brought, fewer digits are lost.
        level_made, level_true = (x.mean(dim=(-2, -1), keepdim=True) for x in (made, true))
        made, true = made - level_made, true - level_true
        mean_made, mean_true = blurred(made), blurred(true)
        spread = blurred(made.square() + true.square()) - mean_made.square() - mean_true.square()
        shared = blurred(made * true) - mean_made * mean_true
        mean_made, mean_true = mean_made + level_made, mean_true + level_true
        c1, c2 = (LUMINANCE * data_range) ** 2, (CONTRAST * data_range) ** 2
        similarity = (2 * mean_made * mean_true + c1) * (2 * shared + c2)
        similarity = similarity / ((mean_made.square() + mean_true.square() + c1) * (spread + c2))
        return similarity.mean(dim=(-3, -2, -1))


def _in_full(made: torch.Tensor, true: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in one type, float32 at least: half precision holds fewer levels than a picture has."""
    for picture in (made, true):
        if not picture.is_floating_point():
            raise TypeError(
                f"picture quality is measured on floating point pictures, got {picture.dtype}: divide first"
            )
    kind = torch.promote_types(torch.promote_types(made.dtype, true.dtype), torch.float32)
    return made.to(kind), true.to(kind)


def _gaussian(length: int, like: torch.Tensor) -> torch.Tensor:
    """[length - 10, length]: weights of the pixels under each whole window."""
    away = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-away.square() / (2 * SIGMA**2))
    weights = (weights / weights.sum()).to(like.device, like.dtype)
    places = torch.arange(length - WINDOW + 1, device=like.device)
    banded = torch.zeros(len(places), length, device=like.device, dtype=like.dtype)
    banded[places[:, None], places[:, None] + torch.arange(WINDOW, device=like.device)] = weights
    return banded
