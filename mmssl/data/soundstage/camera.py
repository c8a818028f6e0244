"""The pinhole camera: where it stands at each time, and where it sees what.

World axes: x to the right, y up, z away from the camera; a unit is about a metre. Camera axes are the same, turned.
Picture coordinates are in pixels, x to the right and y *down*, (0, 0) at the upper left corner of the first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HEIGHT = 3.4
PITCH = np.deg2rad(8.0)
FOCAL = 1.2  # in widths of the picture


def rotations(axis: int, angles: np.ndarray) -> np.ndarray:
    """Float64 [T, 3, 3]: rotations about a coordinate axis by the angles [T] (right-handed)."""
    angles = np.asarray(angles, dtype=np.float64)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    out = np.zeros((len(angles), 3, 3))
    out[:, axis, axis] = 1.0
    out[:, a, a] = out[:, b, b] = np.cos(angles)
    out[:, b, a] = np.sin(angles)
    out[:, a, b] = -np.sin(angles)
    return out


@dataclass(frozen=True)
class Camera:
    """Poses over time.

    Args:
        position: Float64 [T, 3], world coordinates.
        rotation: Float64 [T, 3, 3], camera axes to world axes.
        size: Width and height of the picture in pixels.
    """

    position: np.ndarray
    rotation: np.ndarray
    size: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return FOCAL * self.size

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points [T, N, 3] in camera coordinates [T, N, 3]."""
        return np.asarray(np.matmul(points - self.position[:, None, :], self.rotation))

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points [T, N, 3] to picture coordinates and depth [T, N, 3]."""
        seen = self.to_camera(points)
        depth = np.maximum(seen[..., 2], 1e-6)
        centre = self.size / 2
        x = centre + self.focal * seen[..., 0] / depth
        y = centre - self.focal * seen[..., 1] / depth
        return np.stack([x, y, seen[..., 2]], axis=-1)


def resting_rotation() -> np.ndarray:
    """Float64 [3, 3]: camera axes to world axes when the camera does not sway (it looks down a little)."""
    return np.asarray(rotations(0, np.array([PITCH]))[0])


def draw_camera(times: np.ndarray, size: int, amount: float, random: np.random.Generator) -> Camera:
    """Draw a camera that sways slowly about its resting pose; `amount` scales the sway, 0 holds it still."""
    periods = 3.0 + 3.0 * random.random(5)
    start = 2 * np.pi * random.random(5)
    strength = amount * (0.4 + 0.6 * random.random(5))
    waves = strength * np.sin(2 * np.pi * times[:, None] / periods + start)
    position = np.array([0.0, HEIGHT, 0.0]) + waves[:, :3] * np.array([0.10, 0.06, 0.08])
    turn = np.matmul(rotations(1, waves[:, 3] * np.deg2rad(0.8)), rotations(0, PITCH + waves[:, 4] * np.deg2rad(0.5)))
    return Camera(position=position, rotation=turn, size=size)


def back_project(x: float, y: float, depth: float, size: int) -> np.ndarray:
    """World point that the resting camera sees at picture coordinates x, y at the given depth."""
    focal = FOCAL * size
    seen = np.array([(x - size / 2) / focal, -(y - size / 2) / focal, 1.0]) * depth
    return np.array([0.0, HEIGHT, 0.0]) + resting_rotation() @ seen


def ground_depth(y: float, size: int) -> float:
    """Depth at which the resting camera's ray through row y meets the ground (y = 0), or infinity."""
    ray = resting_rotation() @ np.array([0.0, -(y - size / 2) / (FOCAL * size), 1.0])
    return float(-HEIGHT / ray[1]) if ray[1] < -1e-6 else float("inf")
