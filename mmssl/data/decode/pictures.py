"""The pictures of a window in the making: which decoded frame is on screen at which wanted time."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmssl.data.decode.fitting import PictureFitter
from mmssl.data.decode.motion import MotionReader

EDGE = 1e-6  # seconds: a frame's own time stamp, asked for in floating point, gives that frame
_BYTE = np.dtype(np.uint8)


class Pictures:
    """The pictures of a window in the making, written where they are to lie.

    Args:
        fitter: makes the pictures.
        wanted: float64 [V, T], the wanted times.
        frames: uint8 [V, T, ...], what is written.
        motion: reads the motion vectors, where they are wanted.
    """

    def __init__(
        self, fitter: PictureFitter, wanted: np.ndarray, frames: np.ndarray, motion: MotionReader | None = None
    ) -> None:
        self.fitter = fitter
        self.wanted = wanted
        self.frames = frames
        self.stamps = wanted.copy()  # float64 [V, T], when the frame shown began
        self.decoded = 0
        self.motion = motion
        self._flat = frames.reshape(wanted.size, *frames.shape[2:])
        self._began = self.stamps.reshape(-1)
        self._targets: tuple[tuple[np.ndarray, tuple[int, int]], ...] | None = None

    def see(self, frame: Any, time: float) -> float | None:
        """Take notice of a decoded frame, in display order; what is returned goes with it to `show`."""
        self.decoded += 1
        return None if self.motion is None else self.motion.see(frame, time)

    def show(self, frame: Any, slots: list[int], began: float, since: float | None) -> None:
        """Convert a frame once and write it to all places (counted through [V, T]) that want it."""
        first = slots[0]
        if (frame.width, frame.height) == self.fitter.straight:
            self.copy(frame, first)
        else:
            self.fitter.fit_into(frame, self._flat[first])
        self._began[first] = began
        for slot in slots[1:]:
            self._flat[slot] = self._flat[first]
            self._began[slot] = began
        if self.motion is not None:
            self.motion.show(frame, slots, since, self.fitter.geometry)

    def copy(self, frame: Any, slot: int) -> None:
        """Write a frame that is `straight`: most of a clip's frames, so no detours."""
        if self._targets is None:
            self._targets = _targets(self._flat)
        (one, large), (two, small), (three, _) = self._targets
        a, b, c = self.fitter.converted(frame).planes
        one[slot] = np.ndarray(large, _BYTE, a, 0, (a.line_size, 1))
        two[slot] = np.ndarray(small, _BYTE, b, 0, (b.line_size, 1))
        three[slot] = np.ndarray(small, _BYTE, c, 0, (c.line_size, 1))


def _targets(pictures: np.ndarray) -> tuple[tuple[np.ndarray, tuple[int, int]], ...]:
    """Where the three planes of each picture go, and their (height, width).

    Args:
        pictures: uint8 [N, 3, H, W], whose planes come as green, blue, red; or [N, H * 3 / 2, W].
    """
    if pictures.ndim == 4:
        return tuple((pictures[:, channel], pictures.shape[2:]) for channel in (1, 2, 0))
    height, width = pictures.shape[1] * 2 // 3, pictures.shape[2]
    found, begin = [], 0
    for high, wide in ((height, width), (height // 2, width // 2), (height // 2, width // 2)):
        strides = (pictures.strides[0], wide, 1)
        place: np.ndarray = np.ndarray((len(pictures), high, wide), _BYTE, pictures, begin, strides)
        found.append((place, (high, wide)))
        begin += high * wide
    return tuple(found)


class PicturePicker:
    """Gives each wanted time the frame on screen, from frames that come in display order.

    That is the last frame whose time stamp is not after the wanted time; before the first frame it is the first,
    past the end the last. Each frame that is shown is converted once, however often it is wanted.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        times = pictures.wanted.reshape(-1)
        self._slots = np.argsort(times, kind="stable")
        self._times = times[self._slots]  # sorted
        self._next = 0
        self.first_time = np.inf
        self._held: Any = None
        self._held_time = -np.inf
        self._held_since: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every wanted time has its picture."""
        return self._next == len(self._times)

    @property
    def started(self) -> bool:
        """Whether a wanted time has its picture."""
        return self._next > 0

    def add(self, frame: Any, time: float) -> None:
        """Take the next frame, on screen from `time` on; one that steps back in time is not shown."""
        since = self._pictures.see(frame, time)
        self.first_time = min(self.first_time, time)
        if time < self._held_time:
            return
        if self._held is not None:
            self._take(until=time)
        self._held, self._held_time, self._held_since = frame, time, since

    def finish(self) -> None:
        """No frame follows: the last one stays on screen."""
        if self._held is not None:
            self._take(until=np.inf)

    def _take(self, until: float) -> None:
        """Give the held frame to all wanted times before `until`."""
        begin = self._next
        while not self.complete and self._times[self._next] + EDGE < until:
            self._next += 1
        if self._next > begin:
            slots = self._slots[begin : self._next].tolist()
            self._pictures.show(self._held, slots, self._held_time, self._held_since)
