"""How the camera moved between two frames: from its poses, or fitted to a field of motion vectors."""

from __future__ import annotations

import torch

#: what `relative_pose` gives, in the camera's own axes: metres to the right, up and ahead; radians of yaw and pitch
POSE_PARTS = ("right", "up", "ahead", "yaw", "pitch")
#: what `fit_similarity` gives: pixels right and down of the picture's middle, log of the zoom, radians of roll
SIMILARITY_PARTS = ("right", "down", "zoom", "roll")


def relative_pose(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Float64 [B, 5], `POSE_PARTS`: where the camera of `second` stands and looks, seen from that of `first`.

    Axes are those of the camera: x right, y up, z ahead. Yaw to the right and pitch upwards are positive.

    Args:
        first: float [B, 3, 4], camera to world, rotation and position.
        second: likewise.
    """
    first, second = first.double(), second.double()
    turn = first[:, :, :3].transpose(1, 2) @ second[:, :, :3]
    moved = (first[:, :, :3].transpose(1, 2) @ (second[:, :, 3] - first[:, :, 3])[:, :, None])[:, :, 0]
    ahead = turn[:, :, 2]  # where the second camera looks
    yaw = torch.atan2(ahead[:, 0], ahead[:, 2])
    pitch = torch.atan2(ahead[:, 1], torch.hypot(ahead[:, 0], ahead[:, 2]))
    return torch.stack([*moved.unbind(1), yaw, pitch], dim=1)


def fit_similarity(flow: torch.Tensor, known: torch.Tensor, cell: int, rounds: int = 8) -> torch.Tensor:
    """Float64 [B, 4], `SIMILARITY_PARTS`: the similarity that most of a flow field follows.

    Least squares, again and again with the weights of the Geman-McClure loss: what moves by itself is outvoted, up to
    somewhat less than half of the field. Content that moves to the right is a camera that turns to the left; the parts
    are those of the *content*.

    Args:
        flow: float [B, 2, h, w], content's movement (x, y) in pixels between the two frames.
        known: bool [B, h, w]; a row with fewer than 4 known cells gives zeros.
        cell: pixels to a side of a cell.
        rounds: fits.
    """
    rows, _, height, width = flow.shape
    y = ((torch.arange(height, device=flow.device, dtype=torch.float64) + 0.5) - height / 2) * cell
    x = ((torch.arange(width, device=flow.device, dtype=torch.float64) + 0.5) - width / 2) * cell
    y, x = torch.meshgrid(y, x, indexing="ij")
    x, y = x.flatten().expand(rows, -1), y.flatten().expand(rows, -1)
    u, v = flow.double().flatten(2).unbind(1)
    seen = known.flatten(1).double()
    enough = seen.sum(dim=1) >= 4
    ones, zeros = torch.ones_like(x), torch.zeros_like(x)
    # u = a + s x - r y, v = b + r x + s y: linear in (a, b, s, r), a zoom of 1 + s and a roll of r for small ones
    across = torch.stack([ones, zeros, x, -y], dim=2)
    down = torch.stack([zeros, ones, y, x], dim=2)
    design = torch.cat([across, down], dim=1)  # [B, 2 N, 4]
    aim = torch.cat([u, v], dim=1)
    weight = seen
    floor = torch.eye(4, dtype=torch.float64, device=flow.device) * 1e-6
    found = torch.zeros(rows, 4, dtype=torch.float64, device=flow.device)
    for _ in range(rounds):
        both = torch.cat([weight, weight], dim=1)
        normal = design.transpose(1, 2) @ (design * both[:, :, None]) + floor
        found = torch.linalg.solve(normal, (design * (both * aim)[:, :, None]).sum(dim=1))
        error = (aim - (design @ found[:, :, None])[:, :, 0]).reshape(rows, 2, -1).pow(2).sum(dim=1)
        # The scale is what the better half is off by; half a pixel of it is rounding by the codec.
        typical = torch.where(seen > 0, error, torch.full_like(error, torch.nan)).nanmedian(dim=1).values
        scale = 4 * typical.nan_to_num(0.0) + 0.05
        weight = seen * (scale[:, None] / (scale[:, None] + error)) ** 2
    zoom = torch.log(torch.hypot(1 + found[:, 2], found[:, 3]))
    roll = torch.atan2(found[:, 3], 1 + found[:, 2])
    parts = torch.stack([found[:, 0], found[:, 1], zoom, roll], dim=1)
    return torch.where(enough[:, None], parts, torch.zeros_like(parts))


def _complex(parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Complex128 [B] a and b of x -> a x + b, for places x = right + i down from the middle."""
    right, down, zoom, roll = parts.double().unbind(1)
    return torch.polar(zoom.exp(), roll), torch.complex(right, down)


def _parts(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.stack([b.real, b.imag, a.abs().log(), a.angle()], dim=1)


def compose_similarities(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Float64 [B, 4], `SIMILARITY_PARTS`: first `before`, then `after`."""
    (a, b), (c, d) = _complex(after), _complex(before)
    return _parts(a * c, a * d + b)


def inverse_similarity(parts: torch.Tensor) -> torch.Tensor:
    """Float64 [B, 4], `SIMILARITY_PARTS`: what undoes a similarity. Its shift is turned and scaled, too."""
    a, b = _complex(parts)
    return _parts(1 / a, -b / a)


def half_similarity(parts: torch.Tensor) -> torch.Tensor:
    """Float64 [B, 4], `SIMILARITY_PARTS`: what, done twice, is the similarity; its roll is below pi."""
    a, b = _complex(parts)
    half = torch.polar(a.abs().sqrt(), a.angle() / 2)
    return _parts(half, b / (1 + half))


def warp_similarity(frames: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Frames whose content has moved by a similarity, bilinearly; beyond the border the edge is repeated.

    Args:
        frames: float [B, C, H, W].
        parts: float [B, 4], `SIMILARITY_PARTS`.
    """
    height, width = frames.shape[-2:]
    right, down, zoom, roll = parts.double().unbind(1)
    y = torch.arange(height, device=frames.device, dtype=torch.float64) + 0.5 - height / 2
    x = torch.arange(width, device=frames.device, dtype=torch.float64) + 0.5 - width / 2
    y, x = torch.meshgrid(y, x, indexing="ij")
    # Where the content at a place came from: the inverse of x -> exp(zoom) R x + (right, down).
    x, y = x[None] - right[:, None, None], y[None] - down[:, None, None]
    cos, sin = (f(roll)[:, None, None] / zoom.exp()[:, None, None] for f in (torch.cos, torch.sin))
    source = torch.stack([2 * (cos * x + sin * y) / width, 2 * (cos * y - sin * x) / height], dim=-1)
    moved: torch.Tensor = torch.nn.functional.grid_sample(
        frames, source.to(frames.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved
