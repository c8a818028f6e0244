"""Decoded sound placed on the clip's absolute sample grid by its time stamps, never by joining frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import av
import numpy as np

# Frames whose stamp is nearer than this to the end of the one before are one run: Matroska rounds to milliseconds.
SAME_RUN = 0.004  # seconds
_MOST_PLANES = 7  # of a frame of PyAV, which looks for an end that eight and more do not have
LONGEST_LEAD = 1024  # samples; 441 are enough between the usual rates


class SoundPlacer:
    """Collects audio frames of one stream into float32 samples on the grid ``n / rate``; gaps stay zeros.

    Sound that has the wanted rate is taken as the decoder gives it; only other rates are resampled, by swresample,
    whose first output sample lies at its first input sample. A run is therefore begun with so many zeros that this is
    a place of the grid: else sound would be up to half a sample off, and by how much would depend on where decoding
    began.

    Args:
        rate: samples a second of the grid.
        first: sample of the grid with which the wanted stretch begins.
        samples: float32 [S], what is written: sound, and zeros where there is none (`finish`).
    """

    def __init__(self, rate: int, first: int, samples: np.ndarray) -> None:
        self.rate = rate
        self.first = first
        self.samples = samples
        self.placed = 0
        self._blank = False  # whether what no sound was written to holds zeros
        self._run: list[np.ndarray] = []  # sound of another rate, resampled as a whole when its run ends
        self._form: tuple[str, str, int] | None = None
        self._next_time = 0.0  # where the current run's input ends, seconds
        self._next_index = 0  # where the current run's output goes on, samples of the grid
        self._run_index = 0  # where its sound begins, after the zeros

    @property
    def start(self) -> float:
        """Beginning of the wanted stretch in seconds."""
        return self.first / self.rate

    @property
    def end(self) -> float:
        """End of the wanted stretch in seconds."""
        return (self.first + len(self.samples)) / self.rate

    def add(self, frame: Any, time: float | None, skip: int = 0, drop: int = 0) -> None:
        """Take an `av.AudioFrame` whose first sample sounds at `time`; without one it follows the frame before.

        `skip` samples at its beginning and `drop` at its end are not part of the sound.
        """
        sound = mono(frame)
        if skip or drop:
            sound = sound[skip : len(sound) - drop]
        if not len(sound):
            return
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form or (time is not None and abs(time - self._next_time) > SAME_RUN):
            self.flush()
            self._form = form
            self._next_time = self._next_time if time is None else time
            zeros = 0 if frame.sample_rate == self.rate else _lead(self._next_time, frame.sample_rate, self.rate)
            self._next_index = round((self._next_time - zeros / frame.sample_rate) * self.rate)
            self._run_index = round(self._next_time * self.rate)
            if zeros:
                self._run.append(np.zeros(zeros, np.float32))
        self._next_time += len(sound) / frame.sample_rate
        if frame.sample_rate == self.rate:
            self._write(sound)
        else:
            self._run.append(sound)

    def flush(self) -> None:
        """Write the sound that waits for its run to end."""
        if not self._run:
            return
        assert self._form is not None
        whole = av.AudioFrame.from_ndarray(np.concatenate(self._run)[None], format="fltp", layout="mono")
        whole.sample_rate = self._form[2]  # no time stamp: runs are placed here, not by the resampler
        self._run.clear()
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=self.rate)
        for part in (*resampler.resample(whole), *resampler.resample(None)):
            self._write(mono(part))

    def _write(self, sound: np.ndarray) -> None:
        begin = self._next_index
        self._next_index += len(sound)
        self.write(sound, begin, max(0, self._run_index - begin))

    def write(self, sound: np.ndarray, index: int, skip: int = 0) -> None:
        """Put samples (float32, mono) at `index` of the grid, without the first `skip`."""
        begin = index - self.first
        low, high = max(begin + skip, 0), min(begin + len(sound), len(self.samples))
        if low < high:
            self._clear(low, high)
            self.samples[low:high] = sound[low - begin : high - begin]
            self.placed += high - low

    def write_run(self, parts: list[np.ndarray], index: int) -> None:
        """Put samples (float32, mono) that follow on one another at `index` of the grid and after."""
        begin = index - self.first
        high = min(begin + sum(map(len, parts)), len(self.samples))
        low, wanted = max(begin, 0), []
        if low >= high:
            return
        for part in parts:
            end = begin + len(part)
            if end > low and begin < high:
                wanted.append(part[max(low - begin, 0) : high - begin] if begin < low or end > high else part)
            begin = end
        self._clear(low, high)
        np.concatenate(wanted, out=self.samples[low:high])
        self.placed += high - low

    def finish(self) -> None:
        """No more sound comes: where none came there are zeros."""
        self._clear(0, 0)

    def _clear(self, low: int, high: int) -> None:
        """Zeros everywhere but from `low` to `high`, which is written next, if nothing was written yet."""
        if not self._blank:
            self.samples[:low] = 0
            self.samples[high:] = 0
            self._blank = True


class SoundFlow(SoundPlacer):
    """As `SoundPlacer`, but of any length: each frame's sound is resampled and handed on as it comes.

    Args:
        rate: samples a second of the grid.
        take: is given where on the grid sound begins, and float32 [S]; the last word on a sample holds.
    """

    def __init__(self, rate: int, take: Callable[[int, np.ndarray], None]) -> None:
        super().__init__(rate, 0, np.zeros(0, np.float32))
        self._take = take
        self._resampler: Any = None

    def add(self, frame: Any, time: float | None, skip: int = 0, drop: int = 0) -> None:
        """See `SoundPlacer.add`."""
        super().add(frame, time, skip, drop)
        if not self._run:
            return
        assert self._form is not None
        sound = av.AudioFrame.from_ndarray(np.concatenate(self._run)[None], format="fltp", layout="mono")
        sound.sample_rate = self._form[2]
        self._run.clear()
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=self.rate)
        for part in self._resampler.resample(sound):
            self._write(mono(part))

    def flush(self) -> None:
        """Hand on what the resampler still holds: a run has ended."""
        if self._resampler is not None:
            for part in self._resampler.resample(None):
                self._write(mono(part))
            self._resampler = None

    def write(self, sound: np.ndarray, index: int, skip: int = 0) -> None:
        """Hand on samples (float32, mono) at `index` of the grid, without the first `skip`."""
        if len(sound) > skip:
            self._take(index + skip, sound[skip:])


def mono(frame: Any) -> np.ndarray:
    """Float32 [N] in [-1, 1]: the mean of a frame's channels (whose names may be unknown)."""
    count = frame.layout.nb_channels
    if count > _MOST_PLANES and frame.format.is_planar:
        # PyAV would read what is no memory of the frame's.
        packed = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate).resample(frame)
        parts = [np.frombuffer(part.planes[0], np.float32, part.samples * count) for part in packed]
        return np.asarray(np.concatenate(parts).reshape(-1, count).mean(axis=1, dtype=np.float64), np.float32)
    if frame.format.name == "fltp":
        channels = [np.frombuffer(plane, np.float32, frame.samples) for plane in frame.planes]
        if len(channels) == 1:
            return channels[0]
        if len(channels) == 2:
            return (channels[0] + channels[1]) * np.float32(0.5)
    data = frame.to_ndarray()
    if frame.format.is_packed:
        data = data.reshape(frame.samples, -1).T
    sound = data.mean(axis=0, dtype=np.float64)
    if data.dtype.kind == "u":
        sound = sound / 128.0 - 1.0
    elif data.dtype.kind == "i":
        sound = sound / -float(np.iinfo(data.dtype).min)
    return np.asarray(sound, dtype=np.float32)


def _lead(time: float, rate: int, wanted_rate: int) -> int:
    """Samples of `rate` to go back from `time` to come as near as possible to the grid of `wanted_rate`."""
    back = np.arange(min(rate // math.gcd(rate, wanted_rate), LONGEST_LEAD))
    places = (time - back / rate) * wanted_rate
    off = np.abs(places - np.round(places))
    return int(np.flatnonzero(off <= off.min() + 1e-4)[0])
