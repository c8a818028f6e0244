"""PSNR and SSIM beside torchmetrics, their formulas in float64 and their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from mmssl.metrics.image_quality import psnr, ssim


def pictures(seed: int = 0, size: tuple[int, int] = (24, 33)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    true = torch.rand(4, 3, *size, generator=generator)
    return (true + 0.2 * torch.randn(4, 3, *size, generator=generator)).clamp(0, 1), true


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_equal_to_torchmetrics(data_range: float) -> None:
    made, true = (x * data_range for x in pictures())
    _, places = structural_similarity_index_measure(
        made, true, data_range=data_range, reduction="none", return_full_image=True
    )
    # torchmetrics goes on beyond the edges, on mirrored pixels; the paper's windows lie within the picture.
    wanted = places[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    torch.testing.assert_close(ssim(made, true, data_range), wanted, atol=1e-5, rtol=1e-5)
    for row in range(4):
        level = peak_signal_noise_ratio(made[row], true[row], data_range=data_range)
        torch.testing.assert_close(psnr(made, true, data_range=data_range)[row], level, atol=1e-4, rtol=1e-5)


def test_ssim_equals_its_formula_in_float64() -> None:
    made, true = (x[:1, :1].double() for x in pictures(size=(13, 12)))
    a, b = made[0, 0].numpy(), true[0, 0].numpy()
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    found = []
    for row in range(3):
        for column in range(2):
            x, y = a[row : row + 11, column : column + 11], b[row : row + 11, column : column + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            both = (window * (x - mx) * (y - my)).sum()
            found.append((2 * mx * my + 1e-4) * (2 * both + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert float(ssim(made, true)[0]) == pytest.approx(np.mean(found), abs=1e-10)


def test_closed_forms() -> None:
    made, true = pictures()
    torch.testing.assert_close(ssim(true, true), torch.ones(4))
    assert torch.isinf(psnr(true, true)).all()
    flat = torch.full((1, 1, 11, 11), 0.25)
    assert float(psnr(flat, flat + 0.1)) == pytest.approx(20.0, abs=1e-4)
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)  # flat pictures differ in luminance alone
    assert float(ssim(flat, flat + 0.5)) == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(ssim(made, true), ssim(true, made))


def test_only_the_pixels_that_count() -> None:
    made, true = pictures()
    where = torch.zeros(4, 24, 33, dtype=torch.bool)
    where[:, 3:9, 5:20] = True
    torch.testing.assert_close(psnr(made, true, where), psnr(made[..., 3:9, 5:20], true[..., 3:9, 5:20]))
    assert torch.isnan(psnr(made, true, torch.zeros_like(where))).all()


def test_integers_are_refused_since_their_differences_wrap_around() -> None:
    """The fault of a published evaluation: 200 - 10 and 10 - 200 in uint8, squared in uint8."""
    dark, bright = np.full((1, 8, 8), 10, np.uint8), np.full((1, 8, 8), 200, np.uint8)
    wrapped = 10 * math.log10(255**2 / ((dark - bright) ** 2).mean())
    right = float(psnr(torch.from_numpy(dark).float(), torch.from_numpy(bright).float(), data_range=255.0))
    assert right == pytest.approx(10 * math.log10(255**2 / 190**2), abs=1e-4)
    assert wrapped > right + 10
    for measure in (psnr, ssim):
        with pytest.raises(TypeError, match="uint8"):
            measure(torch.from_numpy(dark), torch.from_numpy(bright))


def test_a_picture_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.zeros(1, 1, 10, 20), torch.zeros(1, 1, 10, 20))


def test_bfloat16_autocast_does_not_reach_it() -> None:
    made, true = pictures()
    wanted = ssim(made, true)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ssim(made, true), wanted)


def test_half_precision_is_brought_up_to_the_other_picture() -> None:
    made, true = pictures()
    made = made.to(torch.bfloat16)
    torch.testing.assert_close(ssim(made, true), ssim(made.to(true.dtype), true))
    torch.testing.assert_close(psnr(made, true), psnr(made.to(true.dtype), true))
