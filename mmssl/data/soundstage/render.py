"""Ray casting of a layout: pictures and the dense truth (depth, normals, instances, flow), in batched array code.

Each body's rays are those of its own box in each frame, so the cost goes with what is seen. Ground and backdrop are
planes; shadows are soft blobs where the light's ray passes near a body, cast at half the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmssl.data.soundstage.camera import FOCAL, Camera
from mmssl.data.soundstage.layout import Body, Layout, Track, boxes, track
from mmssl.data.soundstage.materials import SIDE, pattern_atlas
from mmssl.data.soundstage.preset import generator

BACKDROP = 11.0  # z of the wall behind the scene
_AMBIENT = 0.5


@dataclass(frozen=True)
class Dense:
    """Truth for every pixel.

    Args:
        depth: float32 [T, H, W], along the camera's line of sight.
        normals: float32 [T, H, W, 3], unit, world axes.
        instances: uint8 [T, H, W], 0 for the scene, 1 + index for a body.
        flow: float32 [T, H, W, 2], right and down, pixels per second, to where the point is a frame later.
    """

    depth: np.ndarray
    normals: np.ndarray
    instances: np.ndarray
    flow: np.ndarray


@dataclass(frozen=True)
class Hits:
    """Where rays met a body: frame t and pixel y, x, distance along the ray, own coordinates, normal, blend."""

    t: np.ndarray
    y: np.ndarray
    x: np.ndarray
    depth: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    u: np.ndarray
    v: np.ndarray


def _pixel_rays(size: int, step: int = 1) -> np.ndarray:
    """Float32 [size / step, size / step, 3]: directions in camera axes with z = 1."""
    axis = (np.arange(0, size, step) + step / 2 - size / 2) / (FOCAL * size)
    x, y = np.meshgrid(axis, -axis)
    return np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)


def _ball(origin: np.ndarray, ray: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, ...]:
    a = np.einsum("ni,ni->n", ray, ray)
    b = np.einsum("ni,ni->n", origin, ray)
    c = np.einsum("ni,ni->n", origin, origin) - half[0] ** 2
    root = b * b - a * c
    distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    point = origin + ray * np.where(np.isfinite(distance), distance, 0)[:, None]
    normal = point / half[0]
    face = np.abs(normal).argmax(axis=1)
    rows = np.arange(len(face))
    main = np.abs(normal[rows, face]) + 1e-6
    u, v = normal[rows, (face + 1) % 3] / main, normal[rows, (face + 2) % 3] / main
    return distance, point, normal, u, v


def _cube(origin: np.ndarray, ray: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, ...]:
    inverse = 1.0 / np.where(np.abs(ray) < 1e-9, 1e-9, ray)
    near = (-origin - np.sign(inverse) * half) * inverse
    far = (-origin + np.sign(inverse) * half) * inverse
    enter, leave = near.max(axis=1), far.min(axis=1)
    distance = np.where((enter < leave) & (enter > 0), enter, np.inf)
    face = near.argmax(axis=1)
    point = origin + ray * np.where(np.isfinite(distance), distance, 0)[:, None]
    rows = np.arange(len(face))
    normal = np.zeros_like(point)
    normal[rows, face] = -np.sign(ray[rows, face])
    scaled = point / half
    return distance, point, normal, scaled[rows, (face + 1) % 3], scaled[rows, (face + 2) % 3]


def _can(origin: np.ndarray, ray: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, ...]:
    radius, tall = half[0], half[1]
    a = ray[:, 0] ** 2 + ray[:, 2] ** 2 + 1e-12
    b = origin[:, 0] * ray[:, 0] + origin[:, 2] * ray[:, 2]
    c = origin[:, 0] ** 2 + origin[:, 2] ** 2 - radius**2
    root = b * b - a * c
    side = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    height = origin[:, 1] + np.where(np.isfinite(side), side, 0) * ray[:, 1]
    side = np.where((np.abs(height) <= tall) & (side > 0), side, np.inf)
    down = np.where(np.abs(ray[:, 1]) < 1e-9, 1e-9, ray[:, 1])
    cap = (-np.sign(down) * tall - origin[:, 1]) / down
    across = origin[:, [0, 2]] + ray[:, [0, 2]] * cap[:, None]
    cap = np.where((np.square(across).sum(axis=1) <= radius**2) & (cap > 0), cap, np.inf)
    distance = np.minimum(side, cap)
    point = origin + ray * np.where(np.isfinite(distance), distance, 0)[:, None]
    on_cap = cap < side
    normal = np.where(
        on_cap[:, None],
        np.stack([np.zeros(len(ray)), -np.sign(ray[:, 1]), np.zeros(len(ray))], axis=1),
        point * np.array([1 / radius, 0, 1 / radius]),
    )
    quarter = np.arctan2(point[:, 2], point[:, 0]) / (np.pi / 2)
    u = np.where(on_cap, point[:, 0] / radius, 2 * (quarter - np.floor(quarter)) - 1)
    v = np.where(on_cap, point[:, 2] / radius, point[:, 1] / tall)
    return distance, point, normal, u, v


_SHAPES = {"ball": _ball, "cube": _cube, "can": _can}


def _cast(body: Body, where: Track, camera: Camera, rays: np.ndarray, frames: int) -> Hits:
    """Rays of the body's box in each frame against the body."""
    size = camera.size
    box = boxes(body, where, camera)[:frames]
    low = np.clip(np.floor(box[:, :2]), 0, size).astype(int)
    high = np.clip(np.ceil(box[:, 2:]), 0, size).astype(int)
    axis = np.arange(size)
    in_x = (axis >= low[:, :1]) & (axis < high[:, :1])
    in_y = (axis >= low[:, 1:]) & (axis < high[:, 1:])
    t, y, x = np.nonzero(in_y[:, :, None] & in_x[:, None, :])
    to_body = np.matmul(where.rotation[:frames].transpose(0, 2, 1), camera.rotation[:frames])
    origin = np.einsum("tij,ti->tj", where.rotation[:frames], camera.position[:frames] - where.centre[:frames])
    ray = np.einsum("nij,nj->ni", to_body[t].astype(np.float32), rays[y, x])
    found = _SHAPES[body.shape](origin.astype(np.float32)[t], ray, np.array(body.half, np.float32))
    hit = np.isfinite(found[0]) & (found[0] > 0)
    distance, point, normal, u, v = (part[hit] for part in found)
    return Hits(t[hit], y[hit], x[hit], distance, point, normal, u, v)


def _turned(rotation: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rays of the camera [h, w, 3] in world axes: three components [T, h, w] (float32)."""
    turn = rotation.astype(np.float32)[:, :, :, None, None]
    x, y = rays[:1, :, 0], rays[:, :1, 1]
    return tuple(turn[:, k, 0] * x + (turn[:, k, 1] * y + turn[:, k, 2]) for k in range(3))  # type: ignore[return-value]


def _scene(layout: Layout, tracks: list[Track], rays: np.ndarray, frames: int) -> tuple[np.ndarray, ...]:
    """Colour [T, H, W, 3], depth [T, H, W] and whether it is ground, of the scene without bodies."""
    camera, preset = layout.camera, layout.preset
    random = generator(preset, layout.seed, layout.split, layout.index, "scene")
    right, up, ahead = _turned(camera.rotation[:frames], rays)
    eye = camera.position[:frames].astype(np.float32)[:, :, None, None]
    to_wall = (np.float32(BACKDROP) - eye[:, 2]) / ahead
    to_ground = -eye[:, 1] / np.minimum(up, np.float32(-1e-4))
    ground = to_ground < to_wall
    depth = np.minimum(to_ground, to_wall)
    # Where the rays meet ground or wall, component by component: no array of [T, H, W, 3] is needed.
    spot = (eye[:, 0] + right * depth, eye[:, 1] + up * depth, eye[:, 2] + ahead * depth)
    across = np.where(ground, spot[2], spot[1])
    colours = 0.35 + 0.4 * random.random((2, 1)) + 0.05 * random.normal(0, 1, (2, 3))  # greys with a breath of colour
    tone = np.zeros_like(depth)
    # A few gratings of random direction and length: structure that the camera's motion shows, unlike any material.
    for _ in range(4):
        wave, phase = random.normal(0, 2.2, 2).astype(np.float32), np.float32(2 * np.pi * random.random())
        tone += np.sin(spot[0] * wave[0] + across * wave[1] + phase)
    tone *= np.float32(0.18 * preset.clutter)
    tone += 1
    shade = _shadows(layout, tracks, tuple(part[:, ::2, ::2] for part in spot), frames)
    tone *= np.repeat(np.repeat(shade, 2, axis=1), 2, axis=2)[:, : depth.shape[1], : depth.shape[2]]
    colour = np.empty((*depth.shape, 3), np.float32)
    for channel in range(3):
        colour[..., channel] = tone * np.where(ground, colours[0, channel], colours[1, channel])
    return colour, depth, ground


def _shadows(layout: Layout, tracks: list[Track], spot: tuple[np.ndarray, ...], frames: int) -> np.ndarray:
    """Float32 [T, h, w] in (0, 1]: how much light reaches each point of the scene."""
    light = layout.light.astype(np.float32)
    shade = np.ones(spot[0].shape, np.float32)
    for body, where in zip(layout.bodies, tracks, strict=True):
        reach = np.float32(0.8 * max(body.half))
        centre = where.centre[:frames].astype(np.float32)[:, :, None, None]
        x, y, z = (centre[:, k] - spot[k] for k in range(3))
        along = x * light[0] + y * light[1] + z * light[2]
        apart = x * x + y * y + z * z - along * along
        covered = 1 - np.clip(np.sqrt(np.maximum(apart, 0)) / reach - np.float32(0.5), 0, 1)
        shade *= 1 - np.float32(0.45) * np.where(along > 0, covered, np.float32(0))
    return shade


def _colour_of(
    body: Body, hits: Hits, where: Track, camera: Camera, light: np.ndarray, blend: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shaded colour [N, 3] and world normals [N, 3] of a body's hits."""
    world = np.einsum("nij,nj->ni", where.rotation.astype(np.float32)[hits.t], hits.normal)
    lit = np.maximum(world @ light.astype(np.float32), 0)
    view = (camera.position[hits.t] - where.centre[hits.t]).astype(np.float32)
    half = view / np.linalg.norm(view, axis=1, keepdims=True) + light.astype(np.float32)
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    shine = 0.35 * body.gloss * np.maximum(np.einsum("ni,ni->n", world, half), 0) ** 24
    dark, bright = np.array(body.dark, np.float32), np.array(body.light, np.float32)
    colour = dark + (bright - dark) * blend[:, None]
    return colour * (_AMBIENT + (1 - _AMBIENT) * lit)[:, None] + shine[:, None], world


def render(layout: Layout, dense: bool = False) -> tuple[np.ndarray, np.ndarray, Dense | None]:
    """Frames uint8 [T, H, W, 3], instances uint8 [T, H, W], and the dense truth where it is wanted."""
    preset, camera = layout.preset, layout.camera
    frames, size = preset.frames, preset.size
    rays = _pixel_rays(size)
    times = preset.frame_times(extra=1)
    tracks = [track(body, times) for body in layout.bodies]
    colour, depth, ground = _scene(layout, tracks, rays, frames)
    instances = np.zeros(depth.shape, np.uint8)
    atlas = pattern_atlas(preset.materials)
    own = np.zeros((*depth.shape, 3), np.float32) if dense else None
    normals = np.zeros((*depth.shape, 3), np.float32) if dense else None
    if normals is not None:
        normals[...] = np.where(ground[..., None], np.array([0, 1, 0], np.float32), np.array([0, 0, -1], np.float32))
    for number, (body, where) in enumerate(zip(layout.bodies, tracks, strict=True)):
        hits = _cast(body, where, camera, rays, frames)
        nearer = hits.depth < depth[hits.t, hits.y, hits.x]
        hits = Hits(**{name: getattr(hits, name)[nearer] for name in Hits.__dataclass_fields__})
        column = np.clip((hits.u + 1) * (SIDE / 2), 0, SIDE - 1).astype(int)
        row = np.clip((hits.v + 1) * (SIDE / 2), 0, SIDE - 1).astype(int)
        blend = atlas[preset.materials.index(body.material)][row, column]
        shaded, world = _colour_of(body, hits, where, camera, layout.light, blend)
        place = (hits.t, hits.y, hits.x)
        colour[place] = shaded
        depth[place] = hits.depth
        instances[place] = number + 1
        if own is not None and normals is not None:
            own[place] = hits.point
            normals[place] = world
    random = generator(preset, layout.seed, layout.split, layout.index, "sensor")
    colour *= 255
    if preset.picture_noise:
        colour += np.float32(preset.picture_noise) * random.standard_normal(colour.shape, dtype=np.float32)
    colour += 0.5
    pictures = np.clip(colour, 0, 255, out=colour).astype(np.uint8)
    if own is None or normals is None:
        return pictures, instances, None
    flow = _flow(layout, tracks, rays, depth, instances, own)
    return pictures, instances, Dense(depth, normals, instances, flow)


def _flow(
    layout: Layout, tracks: list[Track], rays: np.ndarray, depth: np.ndarray, instances: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Where each pixel's point is a frame later, as pixels per second right and down."""
    camera, frames = layout.camera, layout.preset.frames
    ray = np.einsum("tij,hwj->thwi", camera.rotation[:frames], rays.astype(np.float64))
    later = camera.position[:frames, None, None] + ray * depth[..., None]
    for number, where in enumerate(tracks):
        t, y, x = np.nonzero(instances == number + 1)
        moved = np.einsum("nij,nj->ni", where.rotation[t + 1], own[t, y, x].astype(np.float64))
        later[t, y, x] = where.centre[t + 1] + moved
    following = Camera(camera.position[1 : frames + 1], camera.rotation[1 : frames + 1], camera.size)
    size = camera.size
    seen = following.project(later.reshape(frames, -1, 3)).reshape(frames, size, size, 3)
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    shift = np.stack([seen[..., 0] - x, seen[..., 1] - y], axis=-1)
    return np.asarray(shift * float(layout.preset.rate), dtype=np.float32)
