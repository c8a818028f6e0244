"""From decoded video frames to the pictures of a window: which frame is on screen, and how it is fitted."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from mmssl.data.media import MediaError, matrix_of, quarter_turns

EDGE = 1e-6  # seconds: a frame's own time stamp, asked for in floating point, gives that frame
MAX_PIXELS = 36_000_000
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


class PictureFitter:
    """Turns a frame upright, scales it to cover the wanted size and cuts it around its centre.

    Args:
        reformatter: kept by the caller from clip to clip, since setting up a scaler costs more than using it.
        size: (height, width) of the pictures.
        aspect: width of a source pixel over its height.
    """

    def __init__(self, reformatter: VideoReformatter, size: tuple[int, int], aspect: Fraction = Fraction(1)) -> None:
        self._reformatter = reformatter
        self._size = size
        self._aspect = float(aspect)
        self.geometry = np.eye(2, 3)  # of the last frame: coded source pixels (x, y, 1) -> picture pixels

    def fit(self, frame: Any) -> np.ndarray:
        """Uint8 [3, H, W], RGB, of an `av.VideoFrame`.

        Raises:
            MediaError: the frame is too large.
        """
        if frame.width * frame.height > MAX_PIXELS:
            raise MediaError("picture too large", f"{frame.width} x {frame.height} pixels (at most {MAX_PIXELS})")
        height, width = self._size
        turns = quarter_turns(frame)
        shown = (frame.width * self._aspect, float(frame.height))
        if turns % 2:
            shown = shown[::-1]
        scale = max(width / shown[0], height / shown[1])
        upright = (max(width, round(shown[0] * scale)), max(height, round(shown[1] * scale)))
        scaled = upright[::-1] if turns % 2 else upright
        smaller = scaled[0] < frame.width or scaled[1] < frame.height
        # swscale takes a thread a core unless told otherwise, which makes two workers slower than one.
        rgb = self._reformatter.reformat(
            frame,
            width=scaled[0],
            height=scaled[1],
            format="rgb24",
            src_colorspace=_MATRICES.get(matrix_of(frame)),
            interpolation=Interpolation.AREA if smaller else Interpolation.BILINEAR,
            threads=1,
        ).to_ndarray()
        if turns:
            rgb = np.rot90(rgb, -turns)
        left, top = (upright[0] - width) // 2, (upright[1] - height) // 2
        self.geometry = _affine(scaled[0] / frame.width, scaled[1] / frame.height, scaled, turns, left, top)
        return rgb[top : top + height, left : left + width].transpose(2, 0, 1)


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


class PicturePicker:
    """Gives each wanted time the frame on screen, from frames that come in display order.

    That is the last frame whose time stamp is not after the wanted time; before the first frame it is the first,
    past the end the last. Each frame that is shown is converted once, however often it is wanted.

    Args:
        fitter: makes the pictures.
        times: float64 [K], sorted wanted times.
    """

    def __init__(self, fitter: PictureFitter, times: np.ndarray) -> None:
        self.times = times
        self.chosen: list[int] = []  # for each wanted time so far, which of `pictures`
        self.pictures: list[np.ndarray] = []
        self.stamps: list[float] = []  # when each of `pictures` began
        self.decoded = 0
        self.first_time = np.inf
        self._fitter = fitter
        self._held: Any = None
        self._held_time = -np.inf

    @property
    def complete(self) -> bool:
        """Whether every wanted time has its picture."""
        return len(self.chosen) == len(self.times)

    def add(self, frame: Any, time: float) -> None:
        """Take the next frame, on screen from `time` on; one that steps back in time is not shown."""
        self.decoded += 1
        self.first_time = min(self.first_time, time)
        if time < self._held_time:
            return
        if self._held is not None:
            self._take(until=time)
        self._held, self._held_time = frame, time

    def finish(self) -> None:
        """No frame follows: the last one stays on screen."""
        if self._held is not None:
            self._take(until=np.inf)

    def _take(self, until: float) -> None:
        """Give the held frame to all wanted times before `until`."""
        converted = False
        while not self.complete and self.times[len(self.chosen)] + EDGE < until:
            if not converted:
                self.pictures.append(self._fitter.fit(self._held))
                self.stamps.append(self._held_time)
                converted = True
            self.chosen.append(len(self.pictures) - 1)
