"""From a decoded frame to the picture of a clip: scaled, upright, 8-bit 4:2:0 in BT.601 limited range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from mmssl.data.decode.fitting import matrix_for
from mmssl.data.media import MediaError
from mmssl.data.shards.settings import BuildSettings

TIE_SECONDS = 1e-3


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the picture of a source becomes that of its clips.

    `scaled` is the (height, width) before turning, `turns` the quarter turns clockwise, `size` the (height, width)
    of the clip, `offset` the (top, left) of the crop in the upright scaled picture.
    """

    scaled: tuple[int, int]
    turns: int
    size: tuple[int, int]
    offset: tuple[int, int]

    def affine(self, source: tuple[int, int]) -> list[list[float]]:
        """Return the 2x3 matrix from coded source pixels (x, y) to clip pixels, for a (height, width) source."""
        (scaled_h, scaled_w), (top, left) = self.scaled, self.offset
        sx, sy = scaled_w / source[1], scaled_h / source[0]
        rows = {
            0: [[sx, 0.0, 0.0], [0.0, sy, 0.0]],
            1: [[0.0, -sy, float(scaled_h)], [sx, 0.0, 0.0]],
            2: [[-sx, 0.0, float(scaled_w)], [0.0, -sy, float(scaled_h)]],
            3: [[0.0, sy, 0.0], [-sx, 0.0, float(scaled_w)]],
        }[self.turns]
        rows[0][2] -= left
        rows[1][2] -= top
        return rows


def plan_geometry(
    height: int, width: int, aspect: Fraction, turns: int, settings: BuildSettings, max_pixels: int
) -> Geometry:
    """Decide the size of a source's clips from its coded size, the shape of its pixels and its turns.

    Raises:
        MediaError: cause "picture too large".
    """
    if height < 2 or width < 2 or height * width > max_pixels:
        raise MediaError("picture too large", f"{width}x{height} pixels (at most {max_pixels} are taken)")
    shown_h, shown_w = float(height), float(width * aspect)
    if turns % 2:
        shown_h, shown_w = shown_w, shown_h
    if settings.size is None:
        factor = min(settings.short_side / min(shown_h, shown_w), 1.0)
        upright = size = (_even(shown_h * factor), _even(shown_w * factor))
    elif settings.fit == "stretch":
        upright = size = settings.size
    else:
        size = settings.size
        factor = max(size[0] / shown_h, size[1] / shown_w)
        upright = (max(_even(shown_h * factor), size[0]), max(_even(shown_w * factor), size[1]))
    offset = ((upright[0] - size[0]) // 4 * 2, (upright[1] - size[1]) // 4 * 2)
    scaled = upright[::-1] if turns % 2 else upright
    return Geometry((scaled[0], scaled[1]), turns, size, offset)


def _even(length: float) -> int:
    return max(2 * round(length / 2), 16)


class PictureFitter:
    """Fits the frames of one source; remembers the last one, since slow sources show a frame more than once."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._reformatter = VideoReformatter()

    def fit(self, frame: Any) -> Any:
        """Return a new `av.VideoFrame` yuv420p of the clip's size."""
        geometry = self.geometry
        small = self._reformatter.reformat(
            frame,
            width=geometry.scaled[1],
            height=geometry.scaled[0],
            format="yuv420p",
            src_colorspace=matrix_for(frame),
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        if geometry.turns or geometry.size != geometry.scaled:
            small = _turned_and_cropped(small, geometry)
        return small


def _turned_and_cropped(frame: Any, geometry: Geometry) -> Any:
    result = av.VideoFrame(geometry.size[1], geometry.size[0], "yuv420p")
    for index, (source, target) in enumerate(zip(frame.planes, result.planes, strict=True)):
        share = 1 if index == 0 else 2
        plane = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)[: source.height, : source.width]
        upright = np.rot90(plane, -geometry.turns)
        top, left = geometry.offset[0] // share, geometry.offset[1] // share
        height, width = geometry.size[0] // share, geometry.size[1] // share
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, :width] = upright[top : top + height, left : left + width]
        target.update(rows.tobytes())
    result.colorspace, result.color_range = 6, 1
    return result


def slots_until(time: float, start: float, rate: Fraction) -> int:
    """Return how many frames of a constant-rate clip starting at `start` are decided before a source frame at `time`.

    Frame k of the clip, shown from start + k/rate, shows what the source showed in the middle of that interval, the
    rule of FFmpeg's fps filter: an event moves by half an interval at most. Ties (within the millisecond to which
    Matroska rounds) go to the earlier source frame, so that halving a rate takes every second frame.
    """
    return max(math.floor((time + TIE_SECONDS - start) * float(rate) - 0.5) + 1, 0)
