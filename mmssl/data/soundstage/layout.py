"""The layout of a clip: camera, objects, their places and courses, and which one sounds. Nothing is rendered here.

Places are drawn in the picture, uniformly inside a margin, and carried back into the world; so an object's place
says nothing about what it is or whether it sounds. All moving objects of a clip do the same action, each with its
own tempo, phase and side, and the sounding one is drawn among them: the clip's label can be seen, but which object
sounds can only be told by the material's timbre and by the synchrony of sound and motion.
"""

from __future__ import annotations

import colorsys
import dataclasses
from dataclasses import dataclass

import numpy as np

from mmssl.data.soundstage.camera import (
    FOCAL,
    HEIGHT,
    Camera,
    back_project,
    draw_camera,
    resting_rotation,
    rotations,
)
from mmssl.data.soundstage.materials import MATERIALS
from mmssl.data.soundstage.motion import ACTIONS, Course, Motion, course, draw_motion
from mmssl.data.soundstage.preset import Preset, generator

SHAPES = ("ball", "cube", "can")
_NEAREST, _FARTHEST = 3.0, 5.0
_OVERLAP = 0.15  # of the smaller box, at the worst moment
_CANDIDATES = 48


@dataclass(frozen=True)
class Body:
    """An object of the scene.

    Args:
        shape: Name out of `SHAPES`.
        material: Name out of the preset's materials.
        half: Half extents along the object's own axes; a ball's and a can's radius is `half[0]`.
        place: Float64 [3], world coordinates of the centre of its path.
        depth: Distance of the place along the resting camera's line of sight.
        turn, tilt, yaw: Orientation at rest in radians, about the camera's z, x and y axis in this order.
        motion: Its course.
        dark, light: The two colours of its pattern, RGB in [0, 1].
        gloss: Strength of the highlight in [0, 1].
    """

    shape: str
    material: str
    half: tuple[float, float, float]
    place: np.ndarray
    depth: float
    turn: float
    tilt: float
    yaw: float
    motion: Motion
    dark: tuple[float, float, float]
    light: tuple[float, float, float]
    gloss: float


@dataclass(frozen=True)
class Layout:
    """A scene over time. The camera holds one pose more than there are frames, for the flow of the last one.

    `sounding` is the index of the sounding body, or None; `off_screen` says that it is outside the picture.
    """

    preset: Preset
    seed: int
    split: str
    index: int
    action: str
    bodies: tuple[Body, ...]
    sounding: int | None
    off_screen: bool
    camera: Camera
    light: np.ndarray


@dataclass(frozen=True)
class Track:
    """Pose of a body over time: `centre` [T, 3], `rotation` [T, 3, 3] (own axes to world axes)."""

    centre: np.ndarray
    rotation: np.ndarray


def track(body: Body, times: np.ndarray) -> Track:
    """Where the body is at each of the times (seconds)."""
    return _track(body, course(body.motion, times))


def _track(body: Body, path: Course) -> Track:
    unit = body.depth / (100 * FOCAL)
    axes = resting_rotation()
    shift = unit * (path.right[:, None] * axes[:, 0] + path.up[:, None] * axes[:, 1])
    eye = np.array([0.0, HEIGHT, 0.0])
    # Coming nearer along the line of sight magnifies the object and leaves its place in the picture.
    centre = eye + (body.place + shift - eye) * np.exp(-path.nearness)[:, None]
    steady = rotations(0, np.array([body.tilt]))
    own = np.matmul(steady, rotations(1, body.yaw + path.spin))
    return Track(centre=centre, rotation=axes @ np.matmul(rotations(2, body.turn + path.turn), own))


def outline(body: Body, where: Track) -> np.ndarray:
    """World points [T, N, 3] whose projections span the body's box (of a ball, the corners of its own axes)."""
    half = np.array(body.half)
    if body.shape == "can":
        angle = np.arange(16) * (2 * np.pi / 16)
        ring = np.stack([np.cos(angle), np.zeros(16), np.sin(angle)], axis=1) * half
        points = np.concatenate([ring + half * [0, 1, 0], ring - half * [0, 1, 0]])
    else:
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
        points = signs * half
    return np.asarray(where.centre[:, None, :] + np.einsum("tij,nj->tni", where.rotation, points))


def boxes(body: Body, where: Track, camera: Camera) -> np.ndarray:
    """Float64 [T, 4]: x0, y0, x1, y1 in pixels of the body's whole silhouette, not cut at the picture's border."""
    if body.shape == "ball":
        seen = camera.to_camera(where.centre[:, None, :])[:, 0]
        radius, half_size, focal = body.half[0], camera.size / 2, camera.focal
        bounds = []
        for axis in (0, 1):
            across, ahead = seen[:, axis], seen[:, 2]
            middle = np.arctan2(across, ahead)
            spread = np.arcsin(np.minimum(radius / np.hypot(across, ahead), 0.999))
            bounds.append((np.tan(middle - spread) * focal, np.tan(middle + spread) * focal))
        (x0, x1), (y0, y1) = bounds
        return np.stack([half_size + x0, half_size - y1, half_size + x1, half_size - y0], axis=1)
    seen = camera.project(outline(body, where))[..., :2]
    return np.concatenate([seen.min(axis=1), seen.max(axis=1)], axis=1)


def visible_boxes(whole: np.ndarray, size: int) -> np.ndarray:
    """Boxes [T, 4] cut at the picture's border and as fractions of it; NaN where less than a fifth is inside."""
    cut = np.clip(whole, 0, size)
    inside = _area(cut) >= 0.2 * np.maximum(_area(whole), 1e-9)
    return np.where(inside[:, None], cut / size, np.nan)


def _area(box: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(box[..., 2] - box[..., 0], 0, None) * np.clip(box[..., 3] - box[..., 1], 0, None))


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of the smaller box that both cover, for boxes [..., 4]."""
    both = np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=-1)
    return np.asarray(_area(both) / np.maximum(np.minimum(_area(a), _area(b)), 1e-9))


def _draw_body(preset: Preset, action: str, material: str, random: np.random.Generator) -> Body:
    shape = SHAPES[random.integers(len(SHAPES))]
    stretch = 0.85 + 0.3 * random.random(3)
    half = {
        "ball": (1.0, 1.0, 1.0),
        "cube": (0.80 * stretch[0], 0.80 * stretch[1], 0.80 * stretch[2]),
        "can": (0.85, 0.85 * stretch[1], 0.85),
    }[shape]
    turn, tilt, yaw, hue, other, tone, gloss = random.random(7)
    depth = float(_NEAREST + (_FARTHEST - _NEAREST) * random.random())
    scale = 0.1 * depth / FOCAL  # a tenth of the picture's width, to begin with
    # A material leans to a hue, as real ones do, but so widely that neighbours overlap: colour hints, texture tells.
    lean = MATERIALS[material].hue + 0.12 * (hue - 0.5)
    dark = colorsys.hsv_to_rgb((hue + 0.8 * other) % 1.0, 0.5 + 0.5 * tone, 0.14 + 0.14 * random.random())
    light = colorsys.hsv_to_rgb(lean % 1.0, 0.45 + 0.5 * random.random(), 0.86 + 0.14 * tone)
    return Body(
        shape=shape,
        material=material,
        half=(half[0] * scale, half[1] * scale, half[2] * scale),
        place=np.zeros(3),
        depth=depth,
        turn=float(2 * np.pi * turn),
        tilt=float(np.deg2rad(-30 + 60 * tilt)),
        yaw=float(2 * np.pi * yaw),
        motion=draw_motion(action, random),
        dark=dark,
        light=light,
        gloss=float(gloss),
    )


def _resize(body: Body, camera: Camera, times: np.ndarray, area: float, size: int, whole: bool) -> Body:
    """The body scaled so that the mean area of its box is `area`, a share of the picture.

    Two steps are enough: the area goes nearly with the square of the scale.
    """
    unit = body.depth / (100 * FOCAL)
    for _ in range(2):
        found = boxes(body, track(body, times), camera)
        share = _area(found) / size**2 if whole else _area(visible_boxes(found, size))
        mean = float(share[share > 0].mean()) if np.any(share > 0) else area
        factor = float(np.sqrt(area / mean))
        half = (body.half[0] * factor, body.half[1] * factor, body.half[2] * factor)
        body = dataclasses.replace(body, half=half, motion=dataclasses.replace(body.motion, radius=max(half) / unit))
    return body


def _place(body: Body, x: float, y: float, size: int) -> Body:
    return dataclasses.replace(body, place=back_project(x, y, body.depth, size))


def _draw_places(tracks: list[np.ndarray], low: float, high: float, random: np.random.Generator) -> list[np.ndarray]:
    """Places [2] in the picture, one for each track of boxes [T, 4] about the origin, that keep them apart."""
    places: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    for own in tracks:
        candidates = low + (high - low) * random.random((_CANDIDATES, 2))
        moved = own[None] + np.tile(candidates, 2)[:, None, :]
        worst = np.zeros(_CANDIDATES)
        for other in taken:
            worst = np.maximum(worst, _overlap(moved, other[None]).max(axis=1))
        free = np.flatnonzero(worst <= _OVERLAP)
        chosen = int(free[0]) if len(free) else int(np.argmin(worst))
        places.append(candidates[chosen])
        taken.append(moved[chosen])
    return places


def draw_layout(preset: Preset, seed: int, split: str, index: int) -> Layout:
    """Draw the layout of a clip: a function of its arguments alone."""
    random = generator(preset, seed, split, index, "layout")
    size, times = preset.size, preset.frame_times(extra=1)
    action = ACTIONS[random.integers(len(ACTIONS))]
    # Few objects more often than many: with three of twelve materials in sight a sound says more than with five.
    fewest, most = preset.objects
    count = fewest + int((most - fewest + 1) * random.random() ** 2)
    materials = random.permutation(len(preset.materials))[:count]
    # The first two always move. Which of the moving ones sounds is drawn, so that nothing about a body's place in
    # this list or in the picture goes with sounding.
    moving = [number < 2 or random.random() < preset.moving_share for number in range(count)]
    sounding = int(random.choice(np.flatnonzero(moving)))
    silent = bool(random.random() < preset.silent_share)
    off_screen = not silent and bool(random.random() < preset.off_screen_share)
    camera = draw_camera(times, size, preset.camera_motion, random)
    still = draw_camera(times, size, 0.0, np.random.Generator(np.random.PCG64(0)))
    low_area, high_area = preset.box_area
    slack = 0.12 * (high_area - low_area)

    bodies, areas, paths = [], [], []
    for number in range(count):
        material = preset.materials[int(materials[number])]
        body = _draw_body(preset, action if moving[number] else "rest", material, random)
        area = float(low_area + slack + (high_area - low_area - 2 * slack) * random.random())
        body = _resize(_place(body, size / 2, size / 2, size), still, times, area, size, whole=True)
        bodies.append(body)
        areas.append(area)
        paths.append(boxes(body, track(body, times), still) - size / 2)
    places = _draw_places(paths, preset.margin * size, (1 - preset.margin) * size, random)
    beside = -0.45 if random.random() < 0.5 else 1.45
    for number, (x, y) in enumerate(places):
        hidden = off_screen and number == sounding
        body = _place(bodies[number], beside * size if hidden else float(x), float(y), size)
        bodies[number] = _resize(body, camera, times, areas[number], size, whole=hidden)
    side = np.deg2rad(-50 + 100 * random.random())
    light = np.array([np.sin(side), 1.3, -0.9])
    return Layout(
        preset=preset,
        seed=seed,
        split=split,
        index=index,
        action=action,
        bodies=tuple(bodies),
        sounding=None if silent else sounding,
        off_screen=off_screen,
        camera=camera,
        light=light / np.linalg.norm(light),
    )
