"""What is kept of the maps of a clip beside the pictures: the arrays as npz, and what a page needs to draw them.

A page draws the heat itself over the clip as it is, so it needs the maps and where in the picture they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmssl.localization.maps import ClipMaps
from mmssl.localization.movie import browser_media, frame_times, waveform, whole
from mmssl.localization.overlay import BoxesAt, normalise
from mmssl.localization.truth import Box, cut
from mmssl.metrics.localization import resize_map

FORMAT = "mmssl-maps-v1"
FINE = 96  # places along a side at which a peak is looked for


@dataclass(frozen=True)
class Watched:
    """A clip as a page shows it. Places are fractions of the upright picture, times seconds of the clip's clock.

    Args:
        media: the clip as browsers play it.
        npz: the arrays.
        duration: seconds.
        times: float64 [T], of the maps.
        heat: uint8 [T, h, w], 0 at the median of all maps of the clip, 255 at their maximum.
        range: the two values of the maps that became 0 and 255.
        area: (x0, y0, x1, y1) that the maps cover; the model sees a cut of a wide picture.
        confidence: float32 [T], maximum of each map.
        peaks: float32 [T, 2], (x, y) of it.
        frames: float32 [N], when each frame begins; empty where the file does not say.
        wave: uint8 [columns], largest sample of each part of the clip.
        boxes: (from, to, boxes) where true boxes are known.
    """

    media: Path
    npz: Path
    duration: float
    times: np.ndarray
    heat: np.ndarray
    range: tuple[float, float]
    area: Box
    confidence: np.ndarray
    peaks: np.ndarray
    frames: np.ndarray
    wave: np.ndarray
    boxes: Sequence[tuple[float, float, Sequence[Box]]]


def seen_area(maps: ClipMaps) -> Box:
    """(x0, y0, x1, y1): the part of the upright picture that the model saw."""
    (left, top), (width, height) = cut(maps.geometry, maps.size)
    return left / width, top / height, (left + maps.size[1]) / width, (top + maps.size[0]) / height


def peak_track(maps: ClipMaps) -> np.ndarray:
    """Float32 [T, 2]: the place (x, y) of the maximum of each map, in fractions of the upright picture.

    Looked for between the cells too; of equal maxima the mean place, so that a constant map has its peak in the middle.
    """
    fine = resize_map(maps.maps, FINE)
    top = fine >= fine.max(axis=(1, 2), keepdims=True)
    place = (np.arange(FINE) + 0.5) / FINE
    count = top.sum(axis=(1, 2))
    x0, y0, x1, y1 = seen_area(maps)
    x = (top.sum(axis=1) * place).sum(axis=1) / count
    y = (top.sum(axis=2) * place).sum(axis=1) / count
    return np.stack([x0 + x * (x1 - x0), y0 + y * (y1 - y0)], axis=1).astype(np.float32)


def write_npz(path: Path, maps: ClipMaps, key: str, source: str) -> None:
    """Write the maps of a clip with numpy alone; `docs/localization.md` says what is in the file."""
    with whole(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(
            file,
            format=np.array(FORMAT),
            key=np.array(key),
            source=np.array(source),
            times=maps.times.astype(np.float64),
            maps=maps.maps.astype(np.float32),
            geometry=maps.geometry.astype(np.float64),
            size=np.array(maps.size, dtype=np.int64),
            duration=np.array(maps.duration, dtype=np.float64),
            area=np.array(seen_area(maps), dtype=np.float64),
            confidence=maps.maps.max(axis=(1, 2)).astype(np.float32),
            peaks=peak_track(maps),
        )


def watched(media: bytes, maps: ClipMaps, boxes: BoxesAt, stem: Path, npz: Path) -> Watched:
    """Write the clip as browsers play it beside its maps, and gather what a page shows.

    Args:
        media: the clip.
        maps: its maps.
        boxes: true boxes at a time, in fractions of the clip's picture.
        stem: path without suffix that the clip is written under; its folder is made.
        npz: where the arrays lie.

    Raises:
        MediaError: the clip cannot be decoded.
    """
    stem.parent.mkdir(exist_ok=True)
    path = browser_media(media, stem)
    frames = frame_times(path.read_bytes())
    low, high = float(np.median(maps.maps)), float(maps.maps.max())
    return Watched(
        media=path,
        npz=npz,
        duration=maps.duration,
        times=maps.times,
        heat=np.round(normalise(maps.maps) * 255).astype(np.uint8),
        range=(low, high),
        area=seen_area(maps),
        confidence=maps.maps.max(axis=(1, 2)).astype(np.float32),
        peaks=peak_track(maps),
        frames=frames,
        wave=waveform(media, maps.duration),
        boxes=_stretches(boxes, frames if len(frames) else maps.times, maps.duration),
    )


def _stretches(boxes: BoxesAt, times: np.ndarray, duration: float) -> list[tuple[float, float, list[Box]]]:
    """The boxes at each frame, frames of equal boxes together."""
    found: list[tuple[float, float, list[Box]]] = []
    ends = [*(float(t) for t in times[1:]), max(duration, float(times[-1]))]
    for begin, end in zip((float(t) for t in times), ends, strict=True):
        here = list(boxes(begin))
        if found and found[-1][2] == here:
            found[-1] = (found[-1][0], end, here)
        else:
            found.append((begin, end, here))
    return [stretch for stretch in found if stretch[2]]
