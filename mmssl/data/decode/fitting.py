"""From a decoded video frame to a picture of the wanted size: turned upright, scaled, cut, as planes or as RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from mmssl.clip import Pixels
from mmssl.data.media import BT601, MAX_PIXELS, MediaError, matrix_of, quarter_turns

HELD = 1 << 18  # pixels of decoded frames that wait to be shown: what all of them take stays in the caches
_UNCHANGED: np.ndarray = np.eye(2, 3)
_UNCHANGED.flags.writeable = False
_FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG
# FFmpeg's AVColorSpace -> the matrix that swscale is told; what is not here is left to it
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


def matrix_for(frame: Any) -> Colorspace | None:
    """What swscale is told of a frame's colour matrix."""
    return _MATRICES.get(matrix_of(frame))


@dataclass(frozen=True)
class Look:
    """How the decoded pixels of a stream are to be shown, where the frames themselves may not say it.

    Args:
        aspect: width of a source pixel over its height.
        turns: quarter turns clockwise; None takes each frame's own.
        matrix: FFmpeg's colour matrix; None takes each frame's own.
    """

    aspect: Fraction = Fraction(1)
    turns: int | None = None
    matrix: int | None = None


@lru_cache(maxsize=64)
def look_of(width: int, height: int, turns: int, matrix: int) -> Look:
    """A look of plain numbers; most clips of a corpus have one."""
    return Look(Fraction(width, height), turns, matrix)


class PictureFitter:
    """Turns a frame upright, scales it to cover the wanted size and cuts it around its centre.

    Args:
        reformatter: kept by the caller from clip to clip, since setting up a scaler costs more than using it.
        size: (height, width) of the pictures.
        look: what the frames do not say.
        pixels: "rgb", or "yuv" for 8-bit planes 4:2:0 in one array (`mmssl.batch.Planes`).
    """

    def __init__(
        self,
        reformatter: VideoReformatter,
        size: tuple[int, int],
        look: Look | None = None,
        pixels: Pixels = "rgb",
    ) -> None:
        self._reformatter = reformatter
        self._size = size
        self._look = look or Look()
        self._yuv = pixels == "yuv"
        self._plan: tuple[Any, ...] | None = None
        self._packed = self._whole = False  # how the plan's frames become RGB
        self.straight: tuple[int, int] | None = None  # (width, height) of frames that `converted` takes
        self._to_rgb: dict[str, Any] = {}
        self.geometry = _UNCHANGED  # of the last frame: coded source pixels (x, y, 1) -> picture pixels
        self.colour: tuple[int, bool] | None = None  # of the last frame: matrix, full range; None when it is RGB

    def holds(self, frame: Any) -> int:
        """How many such frames wait for one another: shown in one go, they cost less than each after its decoding."""
        return max(HELD // int(frame.width * frame.height), 1)

    def fit(self, frame: Any) -> np.ndarray:
        """Uint8 [3, H, W], RGB, of an `av.VideoFrame`; with planes uint8 [H * 3 / 2, W].

        Raises:
            MediaError: the frame is too large.
        """
        height, width = self._size
        out: np.ndarray = np.empty((height * 3 // 2, width) if self._yuv else (3, height, width), np.uint8)
        self.fit_into(frame, out)
        return out

    def fit_into(self, frame: Any, out: np.ndarray) -> None:
        """As `fit`, into `out`."""
        width, height = frame.width, frame.height
        turns = self._look.turns
        turns = quarter_turns(frame) if turns is None else turns
        if self._plan is None or self._plan[:3] != (width, height, turns):
            self._plan = self._planned(width, height, turns)
            scaled = self._plan[3]
            # swscale's way to planes without scaling leaves the last columns unwritten at some widths (FFmpeg 8.1,
            # width % 16 from 1 to 8), and rounds more than 8 bits unlike its way to packed pixels, which other
            # libraries take.
            unscaled = scaled == (width, height)
            self._packed = unscaled and (0 < width % 16 <= 8 or frame.format.components[0].bits > 8)
            self._whole = not self._packed and turns == 0 and scaled == self._size[::-1]
        scaled, left, top, interpolation = self._plan[3:]
        matrix = matrix_of(frame) if self._look.matrix is None else self._look.matrix
        if self._yuv:
            self._copy_planes(self._as_planes(frame, scaled, matrix, interpolation), out, turns, left, top)
            return
        # swscale takes a thread a core unless told otherwise, which makes two workers slower than one. Planes of RGB
        # are copied as they are; packed pixels would have to be taken apart, which costs more than converting them.
        how = {"width": scaled[0], "height": scaled[1], "format": "rgb24" if self._packed else "gbrp"}
        how |= {"src_colorspace": _MATRICES.get(matrix), "interpolation": interpolation, "threads": 1}
        rgb = self._reformatter.reformat(frame, **how)
        if self._whole:
            if self._look.turns is not None and self._look.matrix is not None:
                self.straight, self._to_rgb = (frame.width, frame.height), how
            green, blue, red = rgb.planes
            width, height = scaled
            out[0], out[1], out[2] = _rows(red, width, height), _rows(green, width, height), _rows(blue, width, height)
            return
        if self._packed:
            channels = list(rgb.to_ndarray().transpose(2, 0, 1))
        else:
            channels = [_rows(rgb.planes[number], *scaled) for number in (2, 0, 1)]
        self._put(channels, out, turns, left, top)

    def converted(self, frame: Any) -> Any:
        """The frame whose planes, as they are, make the picture, of a frame that is `straight`.

        Three planes of YUV 4:2:0, or green, blue and red.
        """
        return self._reformatter.reformat(frame, **self._to_rgb) if self._to_rgb else frame

    def _put(self, channels: Sequence[np.ndarray], out: np.ndarray, turns: int, left: int, top: int) -> None:
        """Red, green and blue, turned and cut, into uint8 [3, H, W] `out`."""
        high, wide = self._size
        for target, picture in zip(out, channels, strict=True):
            upright = np.rot90(picture, -turns) if turns else picture
            target[:] = upright[top : top + high, left : left + wide]

    def fit_rgb_into(self, rgb: np.ndarray, turns: int, out: np.ndarray) -> None:
        """The same for what another library has decoded, into uint8 [3, H, W] `out`.

        Args:
            rgb: uint8 [h, w, 3], as coded, not turned.
            turns: quarter turns clockwise that bring it upright.
            out: what is written.

        Raises:
            MediaError: the picture is too large.
        """
        height, width = rgb.shape[:2]
        if self._plan is None or self._plan[:3] != (width, height, turns):
            self._plan = self._planned(width, height, turns)
        scaled, left, top, interpolation = self._plan[3:]
        channels = list(rgb.transpose(2, 0, 1))
        if scaled != (width, height):
            # As if they were three planes of YUV: swscale scales each by itself then.
            frame = av.VideoFrame.from_ndarray(np.stack(channels), format="yuv444p")
            frame = self._reformatter.reformat(
                frame, width=scaled[0], height=scaled[1], interpolation=interpolation, threads=1
            )
            channels = [_rows(plane, *scaled) for plane in frame.planes]
        self._put(channels, out, turns, left, top)

    def _planned(self, width: int, height: int, turns: int) -> tuple[Any, ...]:
        """What does not change from frame to frame."""
        *plan, self.geometry = _planned(self._size, self._look, self._yuv, width, height, turns)
        return tuple(plan)

    def _as_planes(self, frame: Any, size: tuple[int, int], matrix: int, interpolation: Interpolation) -> Any:
        """The frame as 8-bit yuv420p of (width, height) `size`, in its own matrix and range."""
        full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        if frame.format.is_rgb:
            matrix, full = BT601, False
        self.colour = (matrix, full)
        if frame.format.name in ("yuv420p", "yuvj420p") and size == (frame.width, frame.height):
            if size == self._size[::-1] and self._look.turns == 0 and self._look.matrix is not None:
                self.straight = size
            return frame
        kept = ColorRange.JPEG if full else ColorRange.MPEG
        return self._reformatter.reformat(
            frame,
            width=size[0],
            height=size[1],
            format="yuv420p",
            interpolation=interpolation,
            src_color_range=None if frame.format.is_rgb else kept,
            dst_color_range=kept,
            dst_colorspace=Colorspace.ITU601 if frame.format.is_rgb else None,
            threads=1,
        )

    def _copy_planes(self, frame: Any, out: np.ndarray, turns: int, left: int, top: int) -> None:
        """Luma rows, then those of both chroma planes, each half a luma row long."""
        high, wide = self._size
        flat = out.reshape(-1)
        at = 0
        for plane, part in zip(frame.planes, (1, 2, 2), strict=True):
            picture = _rows(plane, frame.width // part, frame.height // part)
            if turns:
                picture = np.rot90(picture, -turns)
            h, w = high // part, wide // part
            if left or top or picture.shape != (h, w):
                picture = picture[top // part : top // part + h, left // part : left // part + w]
            flat[at : at + h * w].reshape(h, w)[:] = picture
            at += h * w


@lru_cache(maxsize=64)
def _planned(size: tuple[int, int], look: Look, yuv: bool, width: int, height: int, turns: int) -> tuple[Any, ...]:
    """How frames of (width, height) are scaled and cut; last the affine map that this is, read-only."""
    if width * height > MAX_PIXELS:
        raise MediaError("picture too large", f"{width} x {height} pixels (at most {MAX_PIXELS})")
    high, wide = size
    shown = (width * float(look.aspect), float(height))
    if turns % 2:
        shown = shown[::-1]
    scale = max(wide / shown[0], high / shown[1])
    upright = (max(wide, round(shown[0] * scale)), max(high, round(shown[1] * scale)))
    left, top = (upright[0] - wide) // 2, (upright[1] - high) // 2
    if yuv:  # chroma has half the resolution: cuts lie between its samples
        upright = (upright[0] + upright[0] % 2, upright[1] + upright[1] % 2)
        left, top = left - left % 2, top - top % 2
    scaled = upright[::-1] if turns % 2 else upright
    smaller = scaled[0] < width or scaled[1] < height
    interpolation = Interpolation.AREA if smaller else Interpolation.BILINEAR
    geometry = _affine(scaled[0] / width, scaled[1] / height, scaled, turns, left, top)
    geometry.flags.writeable = False
    return (width, height, turns, scaled, left, top, interpolation, geometry)


def _rows(plane: Any, width: int, height: int) -> np.ndarray:
    """Uint8 [height, width]: a plane of 8-bit samples, without the padding of its rows."""
    length = plane.line_size
    rows: np.ndarray = np.frombuffer(plane, np.uint8, length * height).reshape(height, length)
    return rows if length == width else rows[:, :width]


def _affine(sx: float, sy: float, scaled: tuple[int, int], turns: int, left: int, top: int) -> np.ndarray:
    """Scaling, then `turns` quarter turns clockwise of a picture of (width, height) `scaled`, then the cut."""
    width, height = float(scaled[0]), float(scaled[1])
    rows = {
        0: [[sx, 0.0, 0.0], [0.0, sy, 0.0]],
        1: [[0.0, -sy, height], [sx, 0.0, 0.0]],
        2: [[-sx, 0.0, width], [0.0, -sy, height]],
        3: [[0.0, sy, 0.0], [-sx, 0.0, width]],
    }[turns]
    matrix = np.array(rows)
    matrix[:, 2] -= (left, top)
    return matrix
