"""Flow as tensors: warping undoes movement, errors follow the formulas, mirrors turn vectors with their places."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mmssl.ops.flow import end_point_error, fl_all, masked_mean, mirror, mirrored, to_cells, warp


def texture(rows: int = 2, size: int = 24, seed: int = 0) -> torch.Tensor:
    noise = torch.rand(rows, 3, size // 2, size // 2, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False)


def test_warping_undoes_a_translation() -> None:
    earlier = texture()
    later = earlier.roll((-2, 3), dims=(-2, -1))  # content goes 3 to the right and 2 up
    flow = torch.tensor([3.0, -2.0])[:, None, None].expand(2, 2, 24, 24)
    back, inside = warp(later, flow)
    assert torch.allclose(back[:, :, 2:, :-3], earlier[:, :, 2:, :-3], atol=1e-5)
    assert inside[:, 2:, :-3].all()
    assert not inside[:, :2].any()
    assert not inside[:, :, -3:].any()
    assert not back[:, :, :2].any()


def test_warping_is_bilinear_between_pixels() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8).contiguous()
    back, inside = warp(ramp, torch.tensor([0.25, 0.5])[:, None, None].expand(1, 2, 8, 8))
    assert torch.allclose(back[0, 0][inside[0]], (ramp + 0.25)[0, 0][inside[0]])
    assert int(inside.sum()) == 7 * 7


def test_end_point_error_and_masks() -> None:
    truth = torch.zeros(2, 2, 2, 2)
    flow = truth.clone()
    flow[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    known = torch.ones(2, 2, 2, dtype=torch.bool)
    error = end_point_error(flow, truth)
    assert float(error[0, 0, 0]) == pytest.approx(5.0)
    assert masked_mean(error, known).tolist() == [1.25, 0.0]
    known[0, 0, 0] = False
    assert masked_mean(error, known).tolist() == [0.0, 0.0]
    assert masked_mean(error, torch.zeros_like(known)).tolist() == [0.0, 0.0]


def test_fl_all_needs_both_limits() -> None:
    truth = torch.zeros(1, 2, 1, 4)
    truth[0, 0, 0] = torch.tensor([0.0, 0.0, 100.0, 100.0])
    flow = truth.clone()
    flow[0, 1, 0] = torch.tensor([2.9, 3.1, 4.9, 5.1])
    known = torch.ones(1, 1, 4, dtype=torch.bool)
    assert float(fl_all(flow, truth, known)) == pytest.approx(0.5)  # 4.9 of 100 pixels is less than 5 %
    known[0, 0, 3] = False
    assert float(fl_all(flow, truth, known)) == pytest.approx(1 / 3)


def test_cells_are_means_of_what_is_known() -> None:
    flow = torch.rand(2, 2, 10, 12, generator=torch.Generator().manual_seed(1))
    known = torch.rand(2, 10, 12, generator=torch.Generator().manual_seed(2)) > 0.5
    known[0, :4, :4] = False
    mean, some = to_cells(flow, known, 4)
    assert mean.shape == (2, 2, 3, 3)
    for row, i, j in itertools.product(range(2), range(3), range(3)):
        place = (slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4))
        cell, mask = flow[row][:, place[0], place[1]], known[row][place]
        assert bool(some[row, i, j]) == bool(mask.any())
        wanted = cell[:, mask].mean(dim=1) if mask.any() else torch.zeros(2)
        assert torch.allclose(mean[row, :, i, j], wanted, atol=1e-6)


def test_a_mirror_across_negates_x_alone() -> None:
    flow = torch.stack([torch.full((4, 4), 3.0), torch.full((4, 4), -2.0)])[None]
    no, yes = torch.tensor([False]), torch.tensor([True])
    assert mirrored(flow, yes, no, no)[0, :, 0, 0].tolist() == [-3.0, -2.0]
    assert mirrored(flow, no, yes, no)[0, :, 0, 0].tolist() == [3.0, 2.0]
    assert mirrored(flow, no, no, yes)[0, :, 0, 0].tolist() == [-2.0, 3.0]


def test_mirrored_flow_warps_mirrored_frames() -> None:
    """For all eight ways: mirroring and warping change places."""
    ways = torch.tensor(list(itertools.product([False, True], repeat=3))).unbind(dim=1)
    later = texture(8)
    flow = 2 * texture(8, seed=5)[:, :2] - 1.3
    back, inside = warp(later, flow)
    again, still = warp(mirror(later, *ways), mirrored(flow, *ways))
    assert torch.equal(still, mirror(inside, *ways))
    assert torch.allclose(again, mirror(back, *ways), atol=1e-5)
    assert math.isfinite(float(again.sum()))
