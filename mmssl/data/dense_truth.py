"""Dense truth of a clip: what a renderer knows of every pixel, and of the camera, at the wanted times of a window.

It lies in a shard as the member ``{key}.truth.npz``, beside the clip it is of (`mmssl shards build` packs it with
``dense_truth: true``): arrays over the T frames of the *source*, not of the clip, as Soundstage writes them,

=====================================  ===========================================  =================
in the file                            name in `Window.truth`                       at one time
=====================================  ===========================================  =================
``flow`` [T, h, w, 2]                  ``flow``: pixels of the frames a second,     float16 [2, H, W]
                                       x right and y down, to the next frame
``depth`` [T, h, w]                    ``depth``: along the line of sight           float16 [H, W]
``normals`` int8 [T, h, w, 3]          ``normals``: unit, world axes, times 127     int8 [3, H, W]
``instances`` [T, h, w]                ``instances``: 0 the scene, 1 + body         uint8 [H, W]
``camera_rotation``, ``_position``     ``pose``: camera to world, rotation and      float32 [3, 4]
                                       position beside each other
=====================================  ===========================================  =================

and, where it is only a part of a longer source, ``first_frame``: the number of its first frame in that source.
A wanted time is shown by a frame of the clip; which source frame that frame shows is said by the rule of the build
(`slots_until` in `mmssl.data.shards.picture`). Pixels are carried along the build's affine and `Clip.geometry` by the
nearest pixel; flow vectors are turned and scaled with it. What lies outside the source is 0 and not known.

Importing this file does not import torch: workers read the truth.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmssl.clip import TRUTH_NAMES as NAMES
from mmssl.clip import Clip, Window

MEMBER = "truth.npz"
LARGEST = 256 << 20  # bytes of a member, and of each array in it once unpacked
TIE_SECONDS = 1e-3  # of the build: a frame that begins so near a middle is taken for the next one
_FILED = {name: (name,) for name in NAMES} | {"pose": ("camera_rotation", "camera_position")}
_KIND = {"flow": np.float16, "depth": np.float16, "normals": np.int8, "instances": np.uint8, "pose": np.float32}
_CHANNELS: dict[str, tuple[int, ...]] = {"flow": (2,), "depth": (), "normals": (3,), "instances": ()}


class BadTruth(ValueError):
    """A truth that cannot be used; the message is short enough to count by."""


class Field(NamedTuple):
    """One name of the truth at the wanted times of a clip; see the table above."""

    values: np.ndarray  # [V, T, ...]
    known: np.ndarray  # bool [V, T, H, W], of a pose bool [V, T]


def blank_field(name: str, window: Window) -> Field:
    """What a clip without that truth has: zeros, and nothing known."""
    lead = (window.views, window.picture_count)
    if name == "pose":
        return Field(np.zeros((*lead, 3, 4), np.float32), np.zeros(lead, bool))
    return Field(np.zeros((*lead, *_CHANNELS[name], *window.size), _KIND[name]), np.zeros((*lead, *window.size), bool))


def read_fields(data: bytes, meta: Mapping[str, Any], clip: Clip, window: Window) -> dict[str, Field]:
    """The truth that a window wants of a clip.

    Args:
        data: the member.
        meta: the description that the build wrote: start, frame rates and affine.
        clip: the decoded clip.
        window: what is wanted; all names are in the result.

    Raises:
        BadTruth: the member is no archive of plain arrays, lacks one that is wanted, or does not fit the description.
    """
    wanted = sorted({filed for name in window.truth for filed in _FILED[name]})
    arrays = load_arrays(data, [*wanted, "first_frame"])
    if missing := [name for name in wanted if name not in arrays]:
        raise BadTruth(f"no {missing[0]}")
    count = min(len(arrays[name]) for name in wanted)
    first = int(arrays["first_frame"]) if "first_frame" in arrays else 0
    number = source_frames(meta, clip.frame_times) - first
    here = (number >= 0) & (number < count)
    number = number.clip(0, count - 1)
    found: dict[str, Field] = {}
    carried: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}
    for name in window.truth:
        if name == "pose":
            found[name] = _pose(arrays, number, here)
            continue
        array = arrays[name]
        channels = _CHANNELS[name]
        if array.ndim != 3 + len(channels) or array.shape[3:] != channels or min(array.shape[:3]) < 1:
            raise BadTruth(f"shape of {name}")
        size = (array.shape[1], array.shape[2])
        if size not in carried:
            carried[size] = _carry(meta, clip.geometry, size, window.size)
        linear, row, column, inside = carried[size]
        values = array[number[..., None, None], row, column]  # [V, T, H, W, ...]
        if name == "flow":
            values = np.nan_to_num(values.astype(np.float32) @ linear.T.astype(np.float32))
        known = here[..., None, None] & inside
        if channels:
            values = np.moveaxis(values, -1, 2)
            values = np.where(known[:, :, None], values, 0)
        else:
            values = np.where(known, values, 0)
        if name in ("flow", "depth"):
            most = float(np.finfo(np.float16).max)
            values = np.nan_to_num(values.astype(np.float32)).clip(-most, most)
        found[name] = Field(np.ascontiguousarray(values, dtype=_KIND[name]), known)
    return found


def source_frames(meta: Mapping[str, Any], frame_times: np.ndarray) -> np.ndarray:
    """Int64: number in the source of the frame that each frame of the clip (by when it begins) shows.

    Raises:
        BadTruth: the description does not say start and frame rates.
    """
    original = meta.get("original")
    source_rate = _number(original.get("frame_rate") if isinstance(original, Mapping) else None)
    start, rate = _number(meta.get("start")), _number(meta.get("frame_rate"))
    if source_rate <= 0 or rate <= 0:
        raise BadTruth("the description has no frame rate")
    middle = start + np.round(frame_times * rate) / rate + 0.5 / rate
    shown: np.ndarray = np.ceil((middle - TIE_SECONDS) * source_rate - 1e-6).astype(np.int64) - 1
    return shown


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadTruth("the description lacks a number")
    return float(value)


def _pose(arrays: Mapping[str, np.ndarray], number: np.ndarray, here: np.ndarray) -> Field:
    rotation, position = arrays["camera_rotation"], arrays["camera_position"]
    if rotation.shape[1:] != (3, 3) or position.shape[1:] != (3,):
        raise BadTruth("shape of the camera")
    pose = np.concatenate([rotation, position[: len(rotation), :, None]], axis=2)[number] * here[..., None, None]
    return Field(np.nan_to_num(pose).astype(np.float32), here)


def _carry(
    meta: Mapping[str, Any], geometry: np.ndarray, source: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Linear part [2, 2] of the map from truth pixels to frame pixels; row and column of the truth at each pixel of a
    frame, int64 [H, W]; bool [H, W], whether that lies in the source.
    """
    original = meta.get("original")
    coded = original if isinstance(original, Mapping) else {}
    scale = np.diag([_number(coded.get("width")) / source[1], _number(coded.get("height")) / source[0], 1.0])
    try:
        build = np.array(meta.get("affine"), dtype=np.float64)
        whole = _square(geometry) @ _square(build) @ scale
        back = np.linalg.inv(whole)
    except (ValueError, TypeError, np.linalg.LinAlgError):
        raise BadTruth("the description has no affine map") from None
    y, x = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5, indexing="ij")
    at = back @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    column, row = (np.floor(at[axis] + 1e-9).reshape(size) for axis in (0, 1))
    inside = (row >= 0) & (row < source[0]) & (column >= 0) & (column < source[1])
    column, row = column.clip(0, source[1] - 1).astype(np.int64), row.clip(0, source[0] - 1).astype(np.int64)
    return whole[:2, :2], row, column, inside


def _square(affine: np.ndarray) -> np.ndarray:
    if affine.shape != (2, 3) or not np.isfinite(affine).all():
        raise ValueError("no affine map")
    return np.vstack([affine, [0.0, 0.0, 1.0]])


#: what zipfile raises on archives that are damaged, encrypted (RuntimeError) or packed in an unknown way
#: (NotImplementedError), and the unpackers of its three methods on what is inside
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
    EOFError,
    OSError,
    KeyError,
    NotImplementedError,
    RuntimeError,
)


def load_arrays(data: bytes, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an archive (those of `names` that it has), nothing but plain numbers, none larger than `LARGEST`.

    Raises:
        BadTruth: it is something else.
    """
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if names is not None and name not in names:
                    continue
                if info.file_size > LARGEST:
                    raise BadTruth("array too large")
                with archive.open(info) as file:
                    found[name] = _load_array(file.read(LARGEST + 1))
    except BadTruth:
        raise
    except _BROKEN as error:
        raise BadTruth("no archive of arrays") from error
    return found


def _load_array(data: bytes) -> np.ndarray:
    """One array whose header promises no more than there is."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if kind.hasobject or kind.kind not in "biuf":
        raise BadTruth("not plain numbers")
    if any(side < 0 for side in shape) or math.prod(shape) * kind.itemsize > len(data):
        raise BadTruth("array cut short")
    return np.asarray(np.lib.format.read_array(io.BytesIO(data), allow_pickle=False))


def cut_truth(data: bytes, first: int, count: int) -> bytes:
    """The truth of `count` frames from `first` on (numbers in the source), or all of it where that is all it has.

    Raises:
        BadTruth: it is no archive of plain arrays, or has no array over frames.
    """
    arrays = load_arrays(data)
    known = [name for name in arrays if name in {filed for filed_as in _FILED.values() for filed in filed_as}]
    if not known:
        raise BadTruth("none of " + ", ".join(NAMES))
    frames = max(len(arrays[name]) for name in known)
    offset = int(arrays["first_frame"]) if "first_frame" in arrays else 0
    begin, end = max(first - offset, 0), min(first + count - offset, frames)
    if begin == 0 and end == frames:
        return data
    if end <= begin:
        raise BadTruth("it does not reach this clip")
    cut = {name: array[begin:end] if name in known else array for name, array in arrays.items()}
    cut["first_frame"] = np.array(offset + begin)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **cut)
    return file.getvalue()
