"""From decoded audio frames to samples of one rate, mono, each at its place on the source's clock."""

from __future__ import annotations

from collections import deque
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from mmssl.data.decode.sound import mono
from mmssl.data.media import frame_seconds

Samples = NDArray[np.int16]

JUMP_SECONDS = 0.05
DRIFT_SECONDS = 0.003


class SoundTimeline:
    """Resamples frames and places them by their time stamps.

    Frames that follow each other are resampled as one run, so that rounded time stamps (milliseconds in Matroska)
    cost nothing. A jump of more than 50 ms starts a new run: what lies between stays silent, what overlaps is cut
    off. Where the mean distance between stamps and samples grows past 3 ms (a drifting clock), the run is moved.
    """

    def __init__(self, rate: int, zero: float) -> None:
        self.rate = rate
        self.zero = zero
        self._pieces: deque[tuple[int, Samples]] = deque()
        self._resampler: Any = None
        self._form: tuple[str, str, int] | None = None
        self._run_start = 0.0  # time of the run's first sample, seconds from zero
        self._run_samples = 0  # samples put in, at the source's rate
        self._cursor = 0  # where the next resampled sample goes
        self._drift = 0.0
        self.reached = 0  # end of what has been placed, in samples from zero

    def push(self, frame: Any) -> None:
        """Take one decoded `av.AudioFrame`."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        stamp = frame_seconds(frame)
        expected = self._run_start + self._run_samples / frame.sample_rate
        time = expected if stamp is None else stamp - self.zero
        error = time - expected
        if self._form != form or abs(error) > JUMP_SECONDS:
            self.flush()
            self._form, self._run_start, self._run_samples, self._drift = form, time, 0, 0.0
            self._cursor = round(time * self.rate)
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=self.rate)
        else:
            self._drift += (error - self._drift) * min(frame.samples / frame.sample_rate, 1.0)
            if abs(self._drift) > DRIFT_SECONDS:
                self._cursor += round(self._drift * self.rate)
                self._run_start += self._drift
                self._drift = 0.0
        self._run_samples += frame.samples
        prepared = _with_known_layout(frame)
        prepared.pts = None
        self._place(self._resampler.resample(prepared))

    def flush(self) -> None:
        """Place what the resampler still holds; called at the end and before a new run."""
        if self._resampler is not None:
            self._place(self._resampler.resample(None))
            self._resampler = None
            self._form = None

    def between(self, first: int, last: int) -> tuple[Samples, float]:
        """Return the samples [first, last) (silence where there are none) and the share that the source has."""
        samples = np.zeros(last - first, np.int16)
        known = 0
        for position, piece in self._pieces:
            a, b = max(position, first), min(position + len(piece), last)
            if a < b:
                samples[a - first : b - first] = piece[a - position : b - position]
                known += b - a
        return samples, known / max(last - first, 1)

    def forget(self, before: int) -> None:
        """Drop pieces that end before a position, to bound the memory."""
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= before:
            self._pieces.popleft()

    def _place(self, frames: list[Any]) -> None:
        for frame in frames:
            samples = frame.to_ndarray().reshape(-1)
            overlap = max(self.reached - self._cursor, 0) if self._pieces else max(-self._cursor, 0)
            if overlap < len(samples):
                self._pieces.append((self._cursor + overlap, samples[overlap:].copy()))
                self.reached = self._cursor + len(samples)
            self._cursor += len(samples)


def _with_known_layout(frame: Any) -> Any:
    """Mix a frame whose channels have no names (a raw "3 channels") here, since swresample cannot."""
    if "channels" not in frame.layout.name:
        return frame
    result = av.AudioFrame.from_ndarray(mono(frame)[None], format="fltp", layout="mono")
    result.sample_rate, result.time_base = frame.sample_rate, frame.time_base
    return result


def loudness(samples: Samples) -> float | None:
    """Root mean square in decibels below full scale, 2 decimals; None for digital silence."""
    if not len(samples):
        return None
    power = float(np.mean((samples.astype(np.float32) / 32768.0) ** 2))
    return round(10 * float(np.log10(power)), 2) if power > 0 else None
