"""A clip read plainly from its beginning to its end: every picture, every sample, every time stamp.

This is what the stream's decoder, which seeks and skips, is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from mmssl.data.decode.sound import SAME_RUN, mono
from mmssl.data.media import audio_stream, clock_zero, frame_seconds, open_media, video_stream
from mmssl.data.timestamps import PictureClock

GAP = 0.05  # seconds: a smaller step between two sound frames is rounding


@dataclass(slots=True)
class PlainReading:
    """What lies in a clip.

    Args:
        stamps: time stamp of each picture in the order in which the decoder gives them, seconds on the clip's clock.
        sizes: (width, height) of the pictures.
        corrupt: pictures that the decoder marks as damaged.
        unstamped: pictures and sound frames without a time stamp.
        zero: what the file calls the clock's 0, seconds.
        rate: samples a second, 0 without sound.
        samples: samples of sound.
        sound_start, sound_end: of the sound, seconds on the clip's clock; None without sound.
        gaps: seconds missing between sound frames.
        overlaps: steps back in the sound's time stamps.
    """

    stamps: list[float] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    corrupt: int = 0
    unstamped: int = 0
    zero: float = 0.0
    rate: int = 0
    samples: int = 0
    sound_start: float | None = None
    sound_end: float | None = None
    gaps: float = 0.0
    overlaps: int = 0

    @property
    def interval(self) -> float:
        """Usual seconds from one picture to the next."""
        return float(np.median(np.diff(np.sort(self.stamps)))) if len(self.stamps) > 1 else 0.0

    @property
    def picture_end(self) -> float | None:
        """When the last picture ends, seconds on the clip's clock."""
        return max(self.stamps) + self.interval if self.stamps else None

    @property
    def steps_back(self) -> int:
        """Pictures that are not later than all before them."""
        if not self.stamps:
            return 0
        stamps = np.array(self.stamps)
        return int((stamps[1:] <= np.maximum.accumulate(stamps)[:-1]).sum())

    def on_screen(self, times: np.ndarray) -> np.ndarray:
        """Time stamps of the pictures on screen at `times` (the first one's before it begins).

        A picture that steps back in time is never on screen.
        """
        stamps = np.unique(np.maximum.accumulate(self.stamps))
        index = np.searchsorted(stamps, times + 1e-6, side="right") - 1
        shown: np.ndarray = stamps[np.maximum(index, 0)]
        return shown


def read_plainly(media: bytes, tick: Callable[[], None] = lambda: None) -> PlainReading:
    """Decode a whole clip; `tick` is called for every frame.

    Raises:
        MediaError: the file cannot be opened or holds neither picture nor sound.
        FFmpegError: (of `av`) a packet cannot be decoded.
    """
    reading = PlainReading()
    for kind, frame, time in _frames(media, reading):
        tick()
        if time is None:
            reading.unstamped += 1
        if kind == "video":
            reading.sizes.add((frame.width, frame.height))
            reading.corrupt += bool(frame.is_corrupt)
            if time is not None:
                reading.stamps.append(time)
            continue
        reading.rate = frame.sample_rate
        reading.samples += frame.samples
        if time is None:
            continue
        if reading.sound_end is None:
            reading.sound_start = time
        elif time > reading.sound_end + GAP:
            reading.gaps += time - reading.sound_end
        elif time < reading.sound_end - GAP:
            reading.overlaps += 1
        reading.sound_end = max(reading.sound_end or time, time + frame.samples / frame.sample_rate)
    return reading


def sound_plainly(media: bytes, rate: int, grids: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The sound of some stretches, float32 [count] each, placed by its time stamps in a pass without any seek.

    Args:
        media: the clip.
        rate: samples a second, those of the clip: nothing is resampled.
        grids: (first sample, number of samples) of each stretch.
    """
    stretches = [np.zeros(count, np.float32) for _, count in grids]
    following = -np.inf  # when the sound so far ends, seconds
    index = 0
    for kind, frame, time in _frames(media, PlainReading(), picture=False):
        if kind != "audio" or frame.sample_rate != rate:
            continue
        if time is not None and abs(time - following) > SAME_RUN:
            index, following = round(time * rate), time
        sound = mono(frame)
        for (first, count), stretch in zip(grids, stretches, strict=True):
            low, high = max(index, first), min(index + len(sound), first + count)
            if low < high:
                stretch[low - first : high - first] = sound[low - index : high - index]
        index += len(sound)
        following += len(sound) / rate
    return stretches


def _frames(media: bytes, reading: PlainReading, picture: bool = True) -> Any:
    """("video" or "audio", frame, seconds on the clip's clock) in the file's order."""
    with open_media(media) as container:
        sound = audio_stream(container)
        moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        video = video_stream(container) if moving or sound is None else None
        reading.zero = zero = clock_zero(container)
        streams = [s for s in (video if picture else None, sound) if s is not None]
        for stream in streams:
            stream.codec_context.thread_count = 1
        clock = PictureClock()
        for packet in container.demux(streams) if streams else ():
            for frame in packet.decode():
                time = clock.seconds(frame) if packet.stream is video else frame_seconds(frame)
                yield packet.stream.type, frame, None if time is None else time - zero
