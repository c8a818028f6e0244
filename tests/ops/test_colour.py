"""Planes to RGB: the formulas of the standards in float64, and what swscale makes of the same planes."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace

from mmssl.ops.colour import planes_to_rgb

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}


def planes(height: int, width: int, seed: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (height * 3 // 2, width), dtype=np.uint8)


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
def test_the_formula(matrix, full):
    data = planes(16, 24, matrix)
    found = planes_to_rgb(torch.from_numpy(data)[None], torch.tensor([matrix]), torch.tensor([full]))[0].numpy()
    luma = data[:16].astype(np.float64)
    blue, red = (
        plane.reshape(8, 12).astype(np.float64).repeat(2, 0).repeat(2, 1) - 128
        for plane in (data[16:].reshape(-1)[:96], data[16:].reshape(-1)[96:])
    )
    if full:
        y, cb, cr = luma / 255, blue / 255, red / 255
    else:
        y, cb, cr = (luma - 16) / 219, blue / 224, red / 224
    kr, kb = WEIGHTS[matrix]
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    expected = np.clip(np.stack([r, g, b]) * 255, 0, 255)
    assert np.abs(found - expected).max() <= 0.51


@pytest.mark.parametrize(("matrix", "colorspace"), [(1, Colorspace.ITU709), (5, Colorspace.ITU601)])
@pytest.mark.parametrize("full", [False, True])
def test_within_three_levels_of_swscale(matrix, colorspace, full):
    height, width = 64, 96
    smooth = torch.nn.functional.interpolate(
        torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1)), (64, 96)
    )
    luma = (smooth[0, 0] * 200 + 20).to(torch.uint8).numpy()
    chroma = (smooth[0, 1:, ::2, ::2] * 120 + 68).to(torch.uint8).numpy()
    data = np.concatenate([luma.reshape(-1), chroma.reshape(-1)]).reshape(height * 3 // 2, width)
    frame = av.VideoFrame.from_ndarray(data, format="yuv420p")
    frame.color_range = 2 if full else 1
    kept = ColorRange.JPEG if full else ColorRange.MPEG
    rgb = frame.reformat(
        format="rgb24", src_colorspace=colorspace, src_color_range=kept, dst_color_range=ColorRange.JPEG, threads=1
    )
    found = planes_to_rgb(torch.from_numpy(data)[None], torch.tensor([matrix]), torch.tensor([full]))[0]
    off = np.abs(found.permute(1, 2, 0).numpy().astype(int) - rgb.to_ndarray().astype(int))
    assert np.percentile(off, 99.9) <= 3


def test_each_row_has_its_own_colour_and_batches_change_nothing():
    data = torch.from_numpy(np.stack([planes(8, 8, n) for n in range(4)]))[:, None, None]
    matrix, full = torch.tensor([1, 5, 9, 1]), torch.tensor([True, False, False, False])
    together = planes_to_rgb(data, matrix, full)
    assert together.shape == (4, 1, 1, 3, 8, 8)
    for row in range(4):
        alone = planes_to_rgb(data[row : row + 1], matrix[row : row + 1], full[row : row + 1])
        assert torch.equal(alone[0], together[row])


def test_a_stream_of_planes_gives_the_pictures_of_one_of_rgb(tmp_path):
    from mmssl.data import Span, Stream, Window
    from tests.corpora import write_corpus

    spec = write_corpus(tmp_path, [4])
    window = Window(Span(0.5, 5), size=(64, 96))
    with Stream(spec, window, 4, workers=0) as rgb, Stream(spec, window, 4, workers=1, pixels="yuv") as yuv:
        (a, _), (b, _) = next(iter(rgb)), next(iter(yuv))
    assert b.pixels.data.shape == (4, 1, 2, 96, 96)
    assert a.frames.shape == b.frames.shape
    off = (a.frames.int() - b.frames.int()).abs().float()
    assert float(off.flatten().quantile(0.99)) <= 4  # swscale calculates with few bits
    assert float(off.mean()) < 1
    assert b.frames is b.frames, "converted once"
