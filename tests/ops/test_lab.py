"""Lab against the formulas written out in float64, OpenCV, and colours of known coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.ops.lab import lightness_picture, rgb_to_lab

WHITE = np.array([0.950456, 1.0, 1.088754])  # XYZ of D65
XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])


def by_the_formula(rgb: np.ndarray) -> np.ndarray:
    """Lab of one colour, as the standards write it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    ratios = (XYZ @ np.array(linear)) / WHITE
    f = [t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in ratios]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def picture(count: int = 4096, seed: int = 0) -> np.ndarray:
    """Float64 [3, 64, count / 64] in [0, 1], dark colours among them."""
    rng = np.random.default_rng(seed)
    colours = rng.random((count, 3)) * rng.choice([1.0, 0.05], (count, 1))
    return colours.T.reshape(3, 64, -1)


def test_it_is_the_formula() -> None:
    rgb = picture(512)
    found = rgb_to_lab(torch.from_numpy(rgb)).numpy().reshape(3, -1)
    wanted = np.stack([by_the_formula(colour) for colour in rgb.reshape(3, -1).T], axis=1)
    assert np.abs(found - wanted).max() < 1e-3  # the white point is rounded to six digits in the tables


def test_it_is_what_opencv_makes() -> None:
    cv2 = pytest.importorskip("cv2")
    rgb = picture().astype(np.float32)
    wanted = cv2.cvtColor(np.ascontiguousarray(rgb.transpose(1, 2, 0)), cv2.COLOR_RGB2LAB).transpose(2, 0, 1)
    found = rgb_to_lab(torch.from_numpy(rgb)).numpy()
    # OpenCV interpolates between the points of a table.
    assert np.abs(found - wanted).max() < 0.5
    assert np.abs(found - wanted).mean() < 0.1


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float32).reshape(3, 1, 1)).flatten()
    assert found.tolist() == pytest.approx(lab, abs=0.1)


def test_grey_has_no_colour() -> None:
    grey = torch.linspace(0, 1, 256).expand(3, 1, 256)
    assert float(rgb_to_lab(grey)[1:].abs().max()) < 1e-4


def test_leading_dimensions_stay_and_gradients_are_finite() -> None:
    rgb = torch.rand(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    rgb[0, 0] = 0.0
    rgb.requires_grad_()
    lab = rgb_to_lab(rgb)
    assert lab.shape == rgb.shape
    assert torch.allclose(lab[1, 3], rgb_to_lab(rgb[1, 3]), atol=1e-5)
    lab.sum().backward()
    assert bool(torch.isfinite(rgb.grad).all())


def test_the_lightness_picture_reads_lightness_alone() -> None:
    lab = rgb_to_lab(torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    shown = lightness_picture(lab)
    assert shown.shape == (3, 8, 8)
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])
    assert 0 <= float(shown.detach().min()) <= float(shown.detach().max()) <= 1
    (shown.square().sum()).backward()
    assert bool((lab.grad[1:] == 0).all())
    assert bool((lab.grad[0] != 0).any())
