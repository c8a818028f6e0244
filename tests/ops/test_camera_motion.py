"""Camera motion from poses and from motion fields, against what was put in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.data.soundstage.camera import rotations
from mmssl.ops.camera_motion import fit_similarity, relative_pose, warp_similarity


def pose(position: tuple[float, float, float], yaw: float = 0.0, pitch: float = 0.0) -> torch.Tensor:
    turn = rotations(1, np.array([yaw]))[0] @ rotations(0, np.array([-pitch]))[0]
    return torch.from_numpy(np.concatenate([turn, np.array(position)[:, None]], axis=1))[None]


def test_steps_and_turns_have_the_signs_that_their_names_say() -> None:
    """On Soundstage's axes: x right, y up, z ahead."""
    here = pose((0, 0, 0))
    assert torch.allclose(relative_pose(here, pose((0.3, 0.2, 0.1))), torch.tensor([[0.3, 0.2, 0.1, 0, 0]]).double())
    assert torch.allclose(relative_pose(here, pose((0, 0, 0), yaw=0.1))[0, 3], torch.tensor(0.1).double())
    assert torch.allclose(relative_pose(here, pose((0, 0, 0), pitch=0.1))[0, 4], torch.tensor(0.1).double())


def test_motion_is_told_in_the_camera_s_own_axes() -> None:
    turned, ahead = pose((0, 0, 0), yaw=np.pi / 2), pose((1.0, 0, 0), yaw=np.pi / 2)
    assert torch.allclose(relative_pose(turned, ahead), torch.tensor([[0, 0, 1.0, 0, 0]]).double(), atol=1e-12)


def test_exchanged_poses_are_the_opposite_for_small_motions() -> None:
    a, b = pose((0, 3, 0), 0.01, 0.1), pose((0.02, 3.01, -0.03), 0.02, 0.095)
    assert torch.allclose(relative_pose(a, b), -relative_pose(b, a), atol=1e-3)


def field(parts: tuple[float, ...], height: int = 12, width: int = 16, cell: int = 8) -> torch.Tensor:
    """Exact flow [1, 2, h, w] of a similarity."""
    right, down, zoom, roll = parts
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5 - height / 2).double() * cell,
        (torch.arange(width) + 0.5 - width / 2).double() * cell,
        indexing="ij",
    )
    s = np.exp(zoom)
    u = s * (np.cos(roll) * x - np.sin(roll) * y) + right - x
    v = s * (np.sin(roll) * x + np.cos(roll) * y) + down - y
    return torch.stack([u, v])[None]


@pytest.mark.parametrize(
    "parts", [(3.0, -2.0, 0.0, 0.0), (0.0, 0.0, 0.05, 0.0), (0.0, 0.0, 0.0, -0.04), (1, 2, -0.1, 0.2)]
)
def test_a_similarity_is_found_exactly(parts: tuple[float, ...]) -> None:
    found = fit_similarity(field(parts), torch.ones(1, 12, 16, dtype=torch.bool), 8)
    assert torch.allclose(found, torch.tensor([parts]).double(), atol=1e-5)


def test_what_moves_by_itself_and_what_is_not_known_are_outvoted() -> None:
    parts = (3.0, -2.0, 0.02, 0.01)
    flow, known = field(parts), torch.ones(1, 12, 16, dtype=torch.bool)
    flow[:, :, 2:9, 3:10] = torch.tensor([-9.0, 7.0])[None, :, None, None]  # a quarter of the field
    flow[:, :, :, 14:] = 100.0
    known[:, :, 14:] = False
    plain = fit_similarity(flow, known, 8, rounds=1)
    found = fit_similarity(flow, known, 8)
    wanted = torch.tensor([parts]).double()
    assert (found - wanted).abs()[0, :2].max() < 0.05
    assert (plain - wanted).abs()[0, :2].max() > 1.0


def test_too_little_known_gives_nothing() -> None:
    known = torch.zeros(2, 12, 16, dtype=torch.bool)
    known[1, 0, :3] = True
    assert not fit_similarity(field((3.0, 1.0, 0.0, 0.0)).expand(2, -1, -1, -1), known, 8).any()


def test_a_warp_moves_the_content_as_it_says() -> None:
    """By whole pixels exactly, and by any similarity as the fit of its own flow finds."""
    frame = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    moved = warp_similarity(frame, torch.tensor([[3.0, -2.0, 0.0, 0.0]]))
    assert torch.allclose(moved[..., 2:28, 5:40], frame[..., 4:30, 2:37], atol=1e-4)
    assert torch.allclose(warp_similarity(frame, torch.zeros(1, 4)), frame, atol=1e-5)
    dots = torch.zeros(1, 1, 64, 64)
    dots[..., 20, 44] = 1.0  # (x, y) = (12.5, -11.5) from the middle
    parts = torch.tensor([[2.0, 1.0, 0.1, 0.2]])
    seen = warp_similarity(dots, parts)[0, 0]
    y, x = (int(v) for v in np.unravel_index(int(seen.argmax()), seen.shape))
    s, r = np.exp(0.1), 0.2
    assert abs(x + 0.5 - 32 - (s * (np.cos(r) * 12.5 + np.sin(r) * 11.5) + 2)) < 1
    assert abs(y + 0.5 - 32 - (s * (np.sin(r) * 12.5 - np.cos(r) * 11.5) + 1)) < 1
