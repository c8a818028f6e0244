"""The types that flow through mmssl, each with its clock: Span, Window, EncodedClip, Clip; batches are in `batch.py`.

All times are seconds on the *clip's clock*: 0 is the beginning of the encoded clip. Sound lives on the absolute
grid ``n / rate`` of that clock and pictures are resolved to the source frame that is on screen at a wanted time,
so that a task is given the same frames and samples whether it runs alone or shares its decode with others.

Importing this file does not import torch: decode workers need only numpy.

Shape legend: B clips of a batch, V views of a clip, T wanted times, H x W pixels, S samples, N sentences, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Pixels = Literal["rgb", "yuv"]
#: what a renderer may know of every frame (`mmssl.data.dense_truth` says what each is)
TRUTH_NAMES = ("flow", "depth", "normals", "instances", "pose")


def picture_shape(size: tuple[int, int], pixels: Pixels) -> tuple[int, ...]:
    """Shape of one picture of (height, width) `size`: [3, H, W], or [H * 3 / 2, W] of planes 4:2:0."""
    height, width = size
    return (3, height, width) if pixels == "rgb" else (height * 3 // 2, width)


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of time sampled evenly: frames when asked of the picture, samples when asked of the sound.

    Args:
        seconds: length, > 0.
        rate: frames or samples a second, > 0.
    """

    seconds: float
    rate: float

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ValueError(f"Span.seconds must be a positive number, got {self.seconds}")
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise ValueError(f"Span.rate must be a positive number, got {self.rate}")
        if self.count < 1:
            raise ValueError(f"a Span of {self.seconds} s at {self.rate}/s holds no sample")

    @property
    def count(self) -> int:
        """Number of frames or samples."""
        return round(self.seconds * self.rate)

    def start(self, anchor: Any, duration: Any) -> Any:
        """Start of the span: centred on the anchor and moved inside the clip, ``clamp(anchor - s/2, 0, d - s)``.

        Works on floats, arrays and tensors alike. A span longer than the clip starts at 0.
        A shorter span always lies inside a longer one with the same anchor.
        """
        latest = duration - self.seconds
        wanted = anchor - self.seconds / 2
        if isinstance(wanted, float | int) and isinstance(latest, float | int):
            return max(0.0, min(float(wanted), float(latest)))
        if isinstance(wanted, np.ndarray):
            return np.maximum(np.minimum(wanted, latest), 0.0)
        return wanted.minimum(latest).clamp(min=0.0)  # tensors

    def times(self, anchor: float, duration: float) -> np.ndarray:
        """Float64 [count]: the wanted times in one clip."""
        return float(self.start(anchor, duration)) + _evenly(self.count, self.rate)


@lru_cache(maxsize=64)
def _evenly(count: int, rate: float) -> np.ndarray:
    """Float64 [count]: the times of `count` frames or samples, from 0 on; the same array each time."""
    times: np.ndarray = np.arange(count, dtype=np.float64) / rate
    times.flags.writeable = False
    return times


def _spans(value: Span | tuple[Span, ...] | None) -> tuple[Span, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, Span) else tuple(value)


@dataclass(frozen=True)
class Window:
    """What must be decoded of a clip.

    Args:
        picture: the wanted frames; several spans after a union, each keeping its own wanted times.
        sound: the wanted samples; all spans of a window have one rate.
        text: whether the sentences are wanted.
        size: (height, width) of the frames, equal for every clip of a run.
        views: independent anchors a clip.
        motion: whether the codec's motion vectors are wanted too.
        truth: names of dense truth (of `TRUTH_NAMES`) at the wanted frames, for tasks that declare to need it.
    """

    picture: Span | tuple[Span, ...] | None = None
    sound: Span | tuple[Span, ...] | None = None
    text: bool = False
    size: tuple[int, int] = (96, 96)
    views: int = 1
    motion: bool = False
    truth: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ValueError(f"Window.views must be at least 1, got {self.views}")
        if min(self.size) < 1:
            raise ValueError(f"Window.size must be positive, got {self.size}")
        if len({span.rate for span in self.sounds}) > 1:
            raise ValueError(f"the sound spans of a window must share one rate, got {self.sounds}")
        if unknown := [name for name in self.truth if name not in TRUTH_NAMES]:
            raise ValueError(f"no dense truth '{unknown[0]}' (there are {', '.join(TRUTH_NAMES)})")
        if self.truth and not self.pictures:
            raise ValueError("dense truth is that of frames: give the window a picture span")

    @property
    def pictures(self) -> tuple[Span, ...]:
        """The picture spans, longest first."""
        return _spans(self.picture)

    @property
    def sounds(self) -> tuple[Span, ...]:
        """The sound spans, longest first."""
        return _spans(self.sound)

    @property
    def sound_rate(self) -> int:
        """Samples a second, or 0 without sound."""
        return round(self.sounds[0].rate) if self.sounds else 0

    @property
    def sound_span(self) -> Span | None:
        """The longest sound span; the others lie inside it."""
        return max(self.sounds) if self.sounds else None

    @property
    def picture_count(self) -> int:
        """Wanted frames a view, summed over the picture spans."""
        return sum(span.count for span in self.pictures)

    def __or__(self, other: Window) -> Window:
        """Union: everything that either window wants, each frame at its own wanted time."""
        if self.size != other.size:
            raise ValueError(f"windows of one run need one size, got {self.size} and {other.size}")

        def together(a: tuple[Span, ...], b: tuple[Span, ...]) -> tuple[Span, ...] | None:
            return tuple(sorted(set(a) | set(b), reverse=True)) or None

        return Window(
            picture=together(self.pictures, other.pictures),
            sound=together(self.sounds, other.sounds),
            text=self.text or other.text,
            size=self.size,
            views=max(self.views, other.views),
            motion=self.motion or other.motion,
            truth=tuple(sorted({*self.truth, *other.truth})),
        )

    def picture_times(self, anchor: float, duration: float) -> np.ndarray:
        """Float64 [picture_count]: the wanted times span after span (a time may be wanted twice)."""
        if not self.pictures:
            return np.zeros(0)
        if len(self.pictures) == 1:
            return self.pictures[0].times(anchor, duration)
        return np.concatenate([span.times(anchor, duration) for span in self.pictures])

    def sound_grid(self, anchor: float, duration: float) -> tuple[int, int]:
        """(first sample, number of samples) on the clip's absolute grid ``n / rate``."""
        span = self.sound_span
        if span is None:
            return 0, 0
        return round(span.start(anchor, duration) * span.rate), span.count


@dataclass(frozen=True)
class Sentence:
    """A subtitle sentence with its time on the clip's clock (negative or past the end when it is context)."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class EncodedClip:
    """A clip as it lies in a shard: bytes, never pixels. This is what queues hold.

    Args:
        key: the sample's key in its shard.
        source: name of the source it comes from.
        media: the encoded mp4.
        subtitles: the subtitle file, or empty.
        meta: the json member.
        packets: the packet table, or None.
        truth: the dense truth as it is stored, or empty.
        caption: a text without times, or empty.
    """

    key: str
    source: str
    media: bytes
    subtitles: bytes = b""
    meta: Mapping[str, Any] = field(default_factory=dict)
    packets: bytes | None = None
    truth: bytes = b""
    caption: bytes = b""


@dataclass(frozen=True)
class Clip:
    """A decoded clip on the CPU. Checks itself.

    Args:
        key: the sample's key.
        frames: uint8 [V, T, 3, H, W], RGB; or the planes of `Planes`, [V, T, H * 3 / 2, W], where `colour` is
            given. T is 0 when no picture was wanted.
        wanted_times: float64 [V, T], the times that were asked for.
        frame_times: float64 [V, T], when the frame shown at that time began.
        audio: float32 [V, S] in [-1, 1].
        audio_start: float64 [V], time of the first sample.
        audio_rate: samples a second, 0 when no sound was wanted.
        has_picture, has_audio: whether the clip has them (else the arrays are zeros and masked).
        sentences: the sentences, empty when none were wanted or there are none.
        duration: seconds.
        anchors: float64 [V].
        geometry: float64 [2, 3], affine map from source pixels (x, y, 1) to frame pixels.
        colour: (FFmpeg's number of the colour matrix, whether the range is full) of planes; None for RGB.
        motion: float32 [V, T, 2, h, w], the codec's motion vectors as content's movement (x, y), pixels of the frames
            a second, in cells of 8 x 8 pixels (`mmssl.data.decode.motion`); None when it was not wanted.
        motion_known: bool [V, T, h, w], where there was a vector.
        decoded_pictures, decoder_calls: counters for the law of one decode.
        fallback: why another decoder than the chosen one decoded it ("decord: edit list"), or empty.
        left_out: what was lost without losing the clip (malformed cues), counted by cause.
    """

    key: str
    frames: np.ndarray
    wanted_times: np.ndarray
    frame_times: np.ndarray
    audio: np.ndarray
    audio_start: np.ndarray
    audio_rate: int
    has_picture: bool
    has_audio: bool
    sentences: tuple[Sentence, ...]
    duration: float
    anchors: np.ndarray
    geometry: np.ndarray
    colour: tuple[int, bool] | None = None
    motion: np.ndarray | None = None
    motion_known: np.ndarray | None = None
    decoded_pictures: int = 0
    decoder_calls: int = 0
    fallback: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        planes = self.colour is not None
        fits = self.frames.ndim == 4 if planes else self.frames.ndim == 5 and self.frames.shape[2] == 3
        bytes_ = self.frames.dtype == np.uint8 or str(self.frames.dtype) == "torch.uint8"  # a tensor on a device
        if not fits or not bytes_:
            wanted = "[V, T, H * 3 / 2, W]" if planes else "[V, T, 3, H, W]"
            raise ValueError(
                f"clip {self.key}: frames must be uint8 {wanted}, got {self.frames.dtype} {self.frames.shape}"
            )
        views, count = self.frames.shape[:2]
        if self.audio.ndim != 2 or self.audio.shape[0] != views or self.audio.dtype != np.float32:
            raise ValueError(
                f"clip {self.key}: audio must be float32 [{views}, S], got {self.audio.dtype} {self.audio.shape}"
            )
        for name, found, shape in (
            ("wanted_times", self.wanted_times.shape, (views, count)),
            ("frame_times", self.frame_times.shape, (views, count)),
            ("audio_start", self.audio_start.shape, (views,)),
            ("anchors", self.anchors.shape, (views,)),
            ("geometry", self.geometry.shape, (2, 3)),
        ):
            if found != shape:
                raise ValueError(f"clip {self.key}: {name} must be {list(shape)}, got {list(found)}")

    def __repr__(self) -> str:
        return (
            f"Clip({self.key!r}, frames={list(self.frames.shape)}, audio={list(self.audio.shape)} at "
            f"{self.audio_rate} Hz, {len(self.sentences)} sentences, {self.duration:.3f} s)"
        )
