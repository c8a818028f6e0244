"""A film read once from its beginning to its end, in stretches: pictures, and the sound about each.

Pictures and sound have a handle of their own on the file, and each is read only as far as the next map needs. So what
is held depends neither on the length of the film nor on how the file mixes the two. The frame of a time and the
samples about it are those of `mmssl.data.decode.base.Decoder`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mmssl.clip import EncodedClip
from mmssl.data.decode.fitting import Look, PictureFitter
from mmssl.data.decode.pictures import EDGE
from mmssl.data.decode.pyav import PyAVDecoder, measured_duration
from mmssl.data.decode.sound import SoundFlow
from mmssl.data.media import MediaError, audio_stream, clock_zero, open_media, pixel_aspect, video_stream
from mmssl.data.timestamps import PictureClock
from mmssl.errors import UserError
from mmssl.localization.reading import Faults, decoded

CUT_OFF = 1.0  # seconds before the end that a file says; less is how containers round


@dataclass(frozen=True)
class Film:
    """A video file, which stays on the disk.

    Args:
        key: its name.
        source: where it comes from.
        media: the file.
        meta: what is known of it.
    """

    key: str
    source: str
    media: Path
    meta: Mapping[str, Any] = field(default_factory=dict)


def duration_of(clip: EncodedClip | Film) -> float:
    """Length in seconds, as the description says or else the file.

    Raises:
        MediaError: nothing says it.
    """
    if isinstance(clip, EncodedClip):
        return PyAVDecoder().duration(clip)
    try:
        with open_media(clip.media) as container:
            return measured_duration(container)
    except av.FFmpegError as error:
        raise MediaError(type(error).__name__, f"{clip.key}: {error}") from error


@dataclass(frozen=True)
class Stretch:
    """What the maps of some following times are made of.

    Args:
        times: float64 [N], seconds on the film's clock.
        frames: uint8 [N, 3, H, W], on screen at these times.
        waves: float32 [N, S], the sound about them.
    """

    times: np.ndarray
    frames: np.ndarray
    waves: np.ndarray


class FilmReader:
    """Reads a film or clip once; what it knows besides the stretches is complete when they are.

    Args:
        clip: the film or clip.
        rate: wanted frames a second, from 0 on.
        size: (height, width) of the frames.
        sound_rate: samples a second.
        sound_seconds: length of the sound about each frame; centred on it, but moved inside the film.

    Raises:
        UserError: it has no sound or no picture.
        MediaError: it cannot be read at all.
    """

    def __init__(
        self, clip: EncodedClip | Film, rate: float, size: tuple[int, int], sound_rate: int, sound_seconds: float
    ) -> None:
        self.clip, self.rate, self.size = clip, rate, size
        self.sound_rate, self.sound_seconds = sound_rate, sound_seconds
        with open_media(clip.media) as container:
            if audio_stream(container) is None:
                raise UserError(f"'{clip.key}' has no sound; a map needs a sound")
            moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            if not moving:
                raise UserError(f"'{clip.key}' has no picture; a map needs one")
        self.duration = duration_of(clip)  # less, once a film has turned out to be cut off
        self.geometry = np.eye(2, 3)  # from the film's pixels, as coded, to those of the frames
        self.heard = False
        self.faults = Faults()

    def stretches(self, rows: int) -> Iterator[Stretch]:
        """The film in stretches of at most `rows` wanted times.

        Raises:
            MediaError: no frame can be decoded.
        """
        samples = round(self.sound_seconds * self.sound_rate)
        latest = self.duration - self.sound_seconds
        said = max(self.duration, 1e-6)
        count = max(round(max(self.duration, 1 / self.rate) * self.rate), 1)
        with ExitStack() as stack:
            screen = _Screen(stack.enter_context(open_media(self.clip.media)), self.size, self.faults)
            sound = _Sound(stack.enter_context(open_media(self.clip.media)), self.sound_rate, said, self.faults)
            for begin in range(0, count, rows):
                times = np.arange(begin, min(begin + rows, count)) / self.rate
                times = times[times < said]
                frames = np.empty((len(times), 3, *self.size), np.uint8)
                waves = np.empty((len(times), samples), np.float32)
                done = 0
                for time in times.tolist():
                    screen.show(time, frames[done])
                    start = max(min(time - self.sound_seconds / 2, latest), 0.0)
                    sound.between(round(start * self.sound_rate), waves[done])
                    if time > 0 and screen.ended and sound.ended and time >= self._end(screen, sound):
                        break
                    if screen.ended and time > screen.end + CUT_OFF:
                        self.faults.still = screen.end
                    done += 1
                self.geometry, self.heard = screen.geometry, sound.heard
                if done:
                    yield Stretch(times[:done], frames[:done], waves[:done])
                if done < len(times):
                    return

    def _end(self, screen: _Screen, sound: _Sound) -> float:
        """Where a film ends that says it is longer; infinity for one that is whole."""
        end = max(screen.end, sound.end)
        if self.duration - end <= CUT_OFF and self.faults.ended is None:
            return np.inf
        if self.faults.ended is None:
            self.faults.ended = (end, self.duration)
            self.duration = end
        return end


class _Screen:
    """What is on screen at rising times: the last frame whose time is not after it; before the first, the first."""

    def __init__(self, container: Any, size: tuple[int, int], faults: Faults) -> None:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        self._zero, self._clock = clock_zero(container), PictureClock()
        self._frames = decoded(container, stream, faults)
        self._fitter = PictureFitter(VideoReformatter(), size, Look(pixel_aspect(stream)))
        self._next: tuple[float, Any] | None = None
        self._now: tuple[float, Any] | None = None
        self._fitted: np.ndarray | None = None
        self.ended = False
        self.end = 0.0  # of the last frame, when it has come
        self._advance()
        if self._next is None:
            raise MediaError("no frame", "the picture stream holds no decodable frame")
        self._advance()

    @property
    def geometry(self) -> np.ndarray:
        """Float64 [2, 3], of the last picture."""
        return self._fitter.geometry

    def show(self, time: float, out: np.ndarray) -> None:
        """Write the picture of a time into uint8 [3, H, W]."""
        while self._next is not None and self._next[0] <= time + EDGE:
            self._advance()
        if self._fitted is None:
            assert self._now is not None
            self._fitted = self._fitter.fit(self._now[1])
        out[:] = self._fitted

    def _advance(self) -> None:
        """The next frame comes on screen, and the one after it is decoded; one that steps back in time is not shown."""
        if self._next is not None:
            self._now, self._fitted = self._next, None
        last = -np.inf if self._now is None else self._now[0]
        for frame in self._frames:
            stamp = self._clock.seconds(frame)
            if stamp is None or stamp - self._zero < last:
                continue
            length = frame.duration * frame.time_base if frame.duration and frame.time_base else 0
            self.end = max(self.end, stamp - self._zero + float(length))
            self._next = (stamp - self._zero, frame)
            return
        self._next, self.ended = None, True


class _Sound:
    """Samples of the grid ``n / rate`` from rising places on; zeros where there is no sound."""

    def __init__(self, container: Any, rate: int, longest: float, faults: Faults) -> None:
        stream: Any = audio_stream(container)
        stream.codec_context.thread_count = 1
        self._zero, self._base, self._longest = clock_zero(container), stream.time_base, longest
        self._frames = decoded(container, stream, faults)
        self._flow = SoundFlow(rate, self._take)
        self._held: deque[tuple[int, np.ndarray]] = deque()
        self._reached = 0
        self._last = 0.0
        self.ended = self.heard = False
        self.end = 0.0

    def between(self, first: int, out: np.ndarray) -> None:
        """Write the samples from `first` on into float32 [S]."""
        until = first + len(out)
        while not self.ended and self._reached < until:
            self._read()
        while self._held and self._held[0][0] + len(self._held[0][1]) <= first:
            self._held.popleft()
        out[:] = 0
        for index, sound in self._held:
            low, high = max(index, first), min(index + len(sound), until)
            if low < high:
                out[low - first : high - first] = sound[low - index : high - index]
                self.heard = True

    def _read(self) -> None:
        frame = next(self._frames, None)
        if frame is None:
            self._flow.flush()
            self.ended = True
            return
        stamp = frame.pts if frame.pts is not None else frame.dts
        time = None
        if stamp is not None:
            time = stamp * self._base.numerator / self._base.denominator - self._zero
            if time > self._longest:  # a stamp that lies would keep the rest of the film silent
                time = None
        self._last = (self._last if time is None else time) + frame.samples / frame.sample_rate
        self.end = max(self.end, self._last)
        self._flow.add(frame, time)

    def _take(self, index: int, sound: np.ndarray) -> None:
        self._held.append((index, sound))
        self._reached = index + len(sound)
