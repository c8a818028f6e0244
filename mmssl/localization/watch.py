"""What is kept of the maps of a clip beside the pictures: the arrays as npz, and what a page needs to draw them.

A page draws the heat itself over the clip as it is, so it needs the maps and where in the picture they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from mmssl.localization.maps import ClipMaps
from mmssl.localization.movie import browser_media, frame_times, waveform, whole
from mmssl.localization.overlay import BoxesAt, normalise
from mmssl.localization.store import parts, value_range
from mmssl.localization.truth import Box, cut
from mmssl.metrics.localization import resize_map

FORMAT = "mmssl-maps-v1"
FINE = 96  # places along a side at which a peak is looked for
TOGETHER = 64  # maps in which it is looked for at a time
HEAT_BYTES = 12 << 20  # of the maps of a clip that a page holds at most
FRAMES = 500_000  # times of frames, likewise


@dataclass(frozen=True)
class Watched:
    """A clip as a page shows it. Places are fractions of the upright picture, times seconds of the clip's clock.

    Args:
        media: the clip as browsers play it.
        npz: the arrays.
        duration: seconds.
        times: float64 [T], of the maps that a page holds; all of them, unless `notes` says otherwise.
        heat: uint8 [T, h, w], 0 at the median of all maps of the clip, 255 at their maximum.
        range: the two values of the maps that became 0 and 255.
        area: (x0, y0, x1, y1) that the maps cover; the model sees a cut of a wide picture.
        confidence: float32 [T], maximum of each map.
        peaks: float32 [T, 2], (x, y) of it.
        frames: float32 [N], when each frame begins; empty where the file does not say.
        wave: uint8 [columns], largest sample of each part of the clip.
        boxes: (from, to, boxes) where true boxes are known.
        notes: sentences about what could not be read of the clip, and what is left out here.
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
    notes: tuple[str, ...] = ()


def seen_area(maps: ClipMaps) -> Box:
    """(x0, y0, x1, y1): the part of the upright picture that the model saw."""
    (left, top), (width, height) = cut(maps.geometry, maps.size)
    return left / width, top / height, (left + maps.size[1]) / width, (top + maps.size[0]) / height


def peak_track(maps: ClipMaps) -> np.ndarray:
    """Float32 [T, 2]: the place (x, y) of the maximum of each map, in fractions of the upright picture.

    Looked for between the cells too; of equal maxima the mean place, so that a constant map has its peak in the middle.
    """
    place = (np.arange(FINE) + 0.5) / FINE
    x0, y0, x1, y1 = seen_area(maps)
    track = np.empty((len(maps.maps), 2), np.float32)
    for begin in range(0, len(track), TOGETHER):
        fine = resize_map(maps.maps[begin : begin + TOGETHER], FINE)
        top = fine >= fine.max(axis=(1, 2), keepdims=True)
        count = top.sum(axis=(1, 2))
        x = (top.sum(axis=1) * place).sum(axis=1) / count
        y = (top.sum(axis=2) * place).sum(axis=1) / count
        track[begin : begin + TOGETHER] = np.stack([x0 + x * (x1 - x0), y0 + y * (y1 - y0)], axis=1)
    return track


def hottest(confidence: np.ndarray, together: int) -> np.ndarray:
    """Int64 [N]: of every `together` maps in a row the one with the highest maximum, so that no moment is lost."""
    begins = range(0, len(confidence), together)
    return np.array([begin + int(np.argmax(confidence[begin : begin + together])) for begin in begins])


def write_npz(path: Path, maps: ClipMaps, key: str, source: str) -> None:
    """Write the maps of a clip with numpy alone; `docs/localization.md` says what is in the file."""
    with whole(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(
            file,
            format=np.array(FORMAT),
            key=np.array(key),
            source=np.array(source),
            times=maps.times.astype(np.float64),
            maps=np.asanyarray(maps.maps, dtype=np.float32),
            geometry=maps.geometry.astype(np.float64),
            size=np.array(maps.size, dtype=np.int64),
            duration=np.array(maps.duration, dtype=np.float64),
            area=np.array(seen_area(maps), dtype=np.float64),
            confidence=maps.maps.max(axis=(1, 2)).astype(np.float32),
            peaks=peak_track(maps),
        )


def watched(media: bytes | Path, maps: ClipMaps, boxes: BoxesAt, stem: Path, npz: Path) -> Watched:
    """Write the clip as browsers play it beside its maps, and gather what a page shows.

    Of more maps than a page can hold (`HEAT_BYTES`) the hottest of every few in a row are kept; `notes` says so.

    Args:
        media: the clip, or its file.
        maps: its maps.
        boxes: true boxes at a time, in fractions of the clip's picture.
        stem: path without suffix that the clip is written under; its folder is made.
        npz: where the arrays lie.

    Raises:
        MediaError: the clip cannot be decoded.
    """
    stem.parent.mkdir(exist_ok=True)
    path = browser_media(media, stem)
    frames, notes = frame_times(path), [f"{said[0].upper()}{said[1:]}." for said in maps.faults]
    stretches = _stretches(boxes, frames if len(frames) else maps.times, maps.duration)
    if len(frames) > FRAMES:
        notes.append(f"The page steps by 1/25 s: it does not hold the times of the {len(frames)} frames.")
        frames = frames[:0]
    confidence, bounds = maps.maps.max(axis=(1, 2)).astype(np.float32), value_range(maps.maps)
    kept = np.arange(len(maps.maps))
    if maps.maps.size > HEAT_BYTES:
        together = -(-maps.maps.size // HEAT_BYTES)
        kept = hottest(confidence, together)
        notes.append(
            f"The page holds {len(kept)} of {len(maps.maps)} maps: of every {together} in a row the one with the "
            f"highest maximum. All of them are in {npz.name}, and drawn into the film with the heat."
        )
    return Watched(
        media=path,
        npz=npz,
        duration=maps.duration,
        times=maps.times[kept],
        heat=_heat(maps.maps, kept, bounds),
        range=bounds,
        area=seen_area(maps),
        confidence=confidence[kept],
        peaks=peak_track(maps)[kept],
        frames=frames,
        wave=waveform(media, maps.duration),
        boxes=stretches,
        notes=tuple(notes),
    )


def _heat(maps: np.ndarray, kept: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Uint8 [N, h, w]: the kept maps, normalised."""
    heat = np.empty((len(kept), *maps.shape[1:]), np.uint8)
    for part in parts(heat):
        heat[part] = np.round(normalise(maps[kept[part]], bounds) * 255)
    return heat


def _stretches(boxes: BoxesAt, times: np.ndarray, duration: float) -> list[tuple[float, float, list[Box]]]:
    """The boxes at each frame, frames of equal boxes together."""
    found: list[tuple[float, float, list[Box]]] = []
    ends = chain((float(t) for t in times[1:]), [max(duration, float(times[-1]))])
    for begin, end in zip((float(t) for t in times), ends, strict=True):
        here = list(boxes(begin))
        if found and found[-1][2] == here:
            found[-1] = (found[-1][0], end, here)
        else:
            found.append((begin, end, here))
    return [stretch for stretch in found if stretch[2]]
