"""Decoded sound placed on the clip's absolute sample grid by its time stamps, never by joining frames."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

# Frames whose stamp is nearer than this to the end of the one before are one run: Matroska rounds to milliseconds.
SAME_RUN = 0.004  # seconds


class SoundPlacer:
    """Collects audio frames of one stream into float32 samples on the grid ``n / rate``; gaps stay zeros.

    Sound that has the wanted rate is taken as the decoder gives it; only other rates are resampled, by swresample,
    whose output is aligned with its input.

    Args:
        rate: samples a second of the grid.
        first, count: the stretch of the grid that is wanted.
    """

    def __init__(self, rate: int, first: int, count: int) -> None:
        self.rate = rate
        self.first = first
        self.samples = np.zeros(count, dtype=np.float32)
        self.placed = 0
        self._resampler: Any = None
        self._form: tuple[str, str, int] | None = None
        self._next_time = 0.0  # where the current run's input ends, seconds
        self._next_index = 0  # where the current run's output goes on, samples of the grid

    @property
    def start(self) -> float:
        """Beginning of the wanted stretch in seconds."""
        return self.first / self.rate

    @property
    def end(self) -> float:
        """End of the wanted stretch in seconds."""
        return (self.first + len(self.samples)) / self.rate

    def add(self, frame: Any, time: float | None) -> None:
        """Take an `av.AudioFrame` whose first sample sounds at `time`; without one it follows the frame before."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form or (time is not None and abs(time - self._next_time) > SAME_RUN):
            self.flush()
            self._form = form
            self._next_time = self._next_time if time is None else time
            self._next_index = round(self._next_time * self.rate)
        self._next_time += frame.samples / frame.sample_rate
        if frame.sample_rate == self.rate:
            self._write(mono(frame))
            return
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=self.rate)
        for part in self._resampler.resample(_mono_frame(frame)):
            self._write(mono(part))

    def flush(self) -> None:
        """Write what the resampler still holds."""
        if self._resampler is not None:
            for part in self._resampler.resample(None):
                self._write(mono(part))
            self._resampler = None

    def _write(self, sound: np.ndarray) -> None:
        begin = self._next_index - self.first
        self._next_index += len(sound)
        low, high = max(begin, 0), min(begin + len(sound), len(self.samples))
        if low < high:
            self.samples[low:high] = sound[low - begin : high - begin]
            self.placed += high - low


def mono(frame: Any) -> np.ndarray:
    """Float32 [N] in [-1, 1]: the mean of a frame's channels (whose names may be unknown)."""
    if frame.format.name == "fltp" and len(frame.planes) == 1:
        return np.frombuffer(frame.planes[0], np.float32, frame.samples)
    data = frame.to_ndarray()
    if frame.format.is_packed:
        data = data.reshape(frame.samples, -1).T
    sound = data.mean(axis=0, dtype=np.float64)
    if data.dtype.kind == "u":
        sound = sound / 128.0 - 1.0
    elif data.dtype.kind == "i":
        sound = sound / -float(np.iinfo(data.dtype).min)
    return np.asarray(sound, dtype=np.float32)


def _mono_frame(frame: Any) -> Any:
    """The frame as one channel of floats, without a time stamp: runs are placed here, not by the resampler."""
    made = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono(frame))[None], format="fltp", layout="mono")
    made.sample_rate = frame.sample_rate
    return made
