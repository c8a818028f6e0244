"""Which time stamp of a decoded picture is its time: presentation stamps, unless a container gives wrong ones.

AVI has none: FFmpeg derives them from the order of decoding, and behind a codec that puts pictures in order (MPEG-4
with B pictures) they step back. The stamps of decoding, as the decoder hands them on, then count the pictures as they
are shown. FFmpeg's own programs decide in this way, by which of the two has stepped back more often so far.
"""

from __future__ import annotations

from typing import Any


class PictureClock:
    """Times of the frames of one stream, which must come as the decoder gives them."""

    def __init__(self) -> None:
        self._last = [None, None]  # type: list[int | None]
        self._faults = [0, 0]
        self._base: tuple[int, int] | None = None  # of the frames' stamps, read once: it costs more than the rest

    def seconds(self, frame: Any) -> float | None:
        """Presentation time of the next frame in seconds; None where it has no time stamp at all."""
        stamps = (frame.pts, frame.dts)
        for kind, stamp in enumerate(stamps):
            if stamp is None:
                continue
            last = self._last[kind]
            self._faults[kind] += last is not None and stamp <= last
            self._last[kind] = stamp
        pts, dts = stamps
        stamp = pts if pts is not None and (dts is None or self._faults[0] <= self._faults[1]) else dts
        if stamp is None:
            return None
        if self._base is None:
            if frame.time_base is None:
                return None
            self._base = (frame.time_base.numerator, frame.time_base.denominator)
        return float(stamp * self._base[0] / self._base[1])
