"""Where the sounding thing truly is: boxes in the json member, at a time, carried into the picture that a model sees.

Read are ``truth.boxes`` or ``boxes``/``bbox`` at the top or under ``extra``. With ``box_times`` (seconds on the
source's clock) there is one box, or None, for each time (Soundstage). Without, the boxes were drawn on the middle
frame of the source (VGG-SS) and hold within a second of it, or, with ``truth.still``, always. Boxes are
[x0, y0, x1, y1] in fractions of the source's upright picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmssl.errors import UserError

STILL_HOLDS = 1.0  # seconds
PRESENCES = ("on_screen", "off_screen", "silent")
Box = tuple[float, float, float, float]


def has_boxes(meta: Mapping[str, Any]) -> bool:
    """Whether the clip's description holds boxes at all."""
    return _given(meta) is not None


def boxes_at(meta: Mapping[str, Any], time: float, key: str = "") -> list[Box]:
    """Boxes of the sounding thing at a time (seconds, the clip's clock); none where it is not seen or not known.

    Raises:
        UserError: the boxes are no boxes.
    """
    found = _given(meta)
    if found is None:
        return []
    boxes, times = found
    absolute = time + float(meta.get("start") or 0.0)
    if times is not None:
        if len(times) != len(boxes):
            raise UserError(f"clip '{key}': {len(boxes)} boxes but {len(times)} box_times")
        nearest = int(np.argmin(np.abs(np.asarray(times, dtype=np.float64) - absolute)))
        step = float(np.median(np.diff(times))) if len(times) > 1 else 0.1
        if abs(times[nearest] - absolute) > max(step, 0.02) or boxes[nearest] is None:
            return []
        return [_box(boxes[nearest], key)]
    return [_box(box, key) for box in boxes if box is not None] if _holds(meta, time) else []


def _holds(meta: Mapping[str, Any], time: float) -> bool:
    """Whether boxes of the source's middle frame hold at a time of the clip."""
    truth, original = meta.get("truth"), meta.get("original")
    if isinstance(truth, Mapping) and truth.get("still"):
        return True
    seconds = original.get("seconds") if isinstance(original, Mapping) else None
    middle = float(seconds if seconds else meta.get("duration") or 0.0) / 2
    absolute = time if seconds is None else time + float(meta.get("start") or 0.0)
    return abs(absolute - middle) <= STILL_HOLDS


def _given(meta: Mapping[str, Any]) -> tuple[list[Any], list[float] | None] | None:
    for holder in (meta.get("truth"), meta, meta.get("extra")):
        if not isinstance(holder, Mapping):
            continue
        for name in ("boxes", "bbox"):
            boxes = holder.get(name)
            if isinstance(boxes, str):  # a column of a CSV manifest
                try:
                    boxes = json.loads(boxes)
                except ValueError:
                    continue
            if isinstance(boxes, list) and boxes:
                times = holder.get("box_times")
                if times is None and not isinstance(boxes[0], list):
                    boxes = [boxes]  # one box, not wrapped
                return boxes, times
    return None


def _box(box: Any, key: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(v) for v in box)
    except (TypeError, ValueError):
        raise UserError(f"clip '{key}': {box!r} is no box [x0, y0, x1, y1]") from None
    if not (x0 < x1 and y0 < y1 and min(x0, y0) >= -0.01 and max(x1, y1) <= 1.01):
        raise UserError(
            f"clip '{key}': the box {[x0, y0, x1, y1]} is not in fractions of the picture, x0 < x1, y0 < y1"
        )
    return x0, y0, x1, y1


def sound_kind(meta: Mapping[str, Any], label: str | None) -> str | None:
    """What sounds: the material where the truth names one, else the label."""
    truth = meta.get("truth")
    material = truth.get("material") if isinstance(truth, Mapping) else None
    return str(material) if material is not None else label


def presence(meta: Mapping[str, Any]) -> str | None:
    """Whether the source of the sound is seen: one of `PRESENCES`, or None where the truth does not say.

    Read are ``truth.sounding`` and ``truth.onscreen``, booleans; silent is a clip in which nothing sounds.
    """
    truth = meta.get("truth")
    if not isinstance(truth, Mapping) or not isinstance(truth.get("sounding"), bool):
        return None
    if not truth["sounding"]:
        return "silent"
    seen = truth.get("onscreen")
    return None if not isinstance(seen, bool) else "on_screen" if seen else "off_screen"


def in_clip(meta: Mapping[str, Any], boxes: Sequence[Box]) -> list[Box]:
    """The boxes in fractions of the *clip's* picture: what the build turned and cut off is taken into account."""
    original, affine = meta.get("original"), meta.get("affine")
    width, height = meta.get("width"), meta.get("height")
    if not (isinstance(original, Mapping) and affine and width and height):
        return list(boxes)
    coded = (float(original["width"]), float(original["height"]))
    turns = round(float(meta.get("rotation") or 0) / 90) % 4
    upright = coded if turns % 2 == 0 else coded[::-1]
    matrix = np.asarray(affine, dtype=np.float64)
    found = []
    for x0, y0, x1, y1 in boxes:
        corners = [_coded(x * upright[0], y * upright[1], coded, turns) for x, y in ((x0, y0), (x1, y1))]
        a, b = (matrix @ np.array([*corner, 1.0]) / (width, height) for corner in corners)
        found.append((*np.minimum(a, b), *np.maximum(a, b)))
    return [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in found]


def _coded(x: float, y: float, size: tuple[float, float], turns: int) -> tuple[float, float]:
    """A place of the upright picture in the coded one, which `turns` quarter turns clockwise bring upright."""
    width, height = size
    return {0: (x, y), 1: (y, height - x), 2: (width - x, height - y), 3: (width - y, x)}[turns]


def in_frame(boxes: Sequence[Box], geometry: np.ndarray, size: tuple[int, int]) -> list[Box]:
    """Boxes of the clip's picture in fractions of the decoded frame, cut to it; those outside are dropped.

    Args:
        boxes: in fractions of the clip's picture.
        geometry: float64 [2, 3], from the clip's coded pixels to the frame's (`Clip.geometry`).
        size: (height, width) of the frame.
    """
    height, width = size
    (left, top), full = cut(geometry, size)
    found = []
    for x0, y0, x1, y1 in boxes:
        a = [min(max((v * full[0] - left) / width, 0.0), 1.0) for v in (x0, x1)]
        b = [min(max((v * full[1] - top) / height, 0.0), 1.0) for v in (y0, y1)]
        if a[0] < a[1] and b[0] < b[1]:
            found.append((a[0], b[0], a[1], b[1]))
    return found


def cut(geometry: np.ndarray, size: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """How the decoder fitted an upright picture into a frame: ((left, top) cut off, (width, height) before), in pixels.

    A place at the fractions (x, y) of the upright picture lies at (x * width - left, y * height - top) of the frame.
    The picture was turned upright, scaled to cover the frame and cut around its centre (`Decoder`), so all of it
    follows from the geometry, to the one pixel by which a cut can be uneven.

    Args:
        geometry: float64 [2, 3], from coded pixels to the frame's.
        size: (height, width) of the frame.
    """
    height, width = size
    along_x = geometry[0, 0] if geometry[0, 0] != 0 else geometry[0, 1]  # turned by 90 degrees: x runs along y
    along_y = geometry[1, 1] if geometry[1, 1] != 0 else geometry[1, 0]
    left = -geometry[0, 2] if along_x > 0 else geometry[0, 2] - width
    top = -geometry[1, 2] if along_y > 0 else geometry[1, 2] - height
    return (float(left), float(top)), (width + 2 * float(left), height + 2 * float(top))
