"""The types that flow through mmssl, each with its clock: Span, Window, EncodedClip, Clip, Batch, Truth.

All times are seconds on the *clip's clock*: 0 is the beginning of the encoded clip. Sound lives on the absolute
grid ``n / rate`` of that clock and pictures are resolved to the source frame that is on screen at a wanted time,
so that a task is given the same frames and samples whether it runs alone or shares its decode with others.

Importing this file does not import torch: decode workers need only numpy.

Shape legend: B clips of a batch, V views of a clip, T wanted times, H x W pixels, S samples, N sentences, L tokens.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

    from mmssl.randomness import Draws

T = TypeVar("T")
Pixels = Literal["rgb", "yuv"]
TIME_TOLERANCE = 1e-6  # seconds; wanted times are looked up, never interpolated


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
        return float(self.start(anchor, duration)) + np.arange(self.count, dtype=np.float64) / self.rate


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
    """

    picture: Span | tuple[Span, ...] | None = None
    sound: Span | tuple[Span, ...] | None = None
    text: bool = False
    size: tuple[int, int] = (96, 96)
    views: int = 1
    motion: bool = False

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ValueError(f"Window.views must be at least 1, got {self.views}")
        if min(self.size) < 1:
            raise ValueError(f"Window.size must be positive, got {self.size}")
        if len({span.rate for span in self.sounds}) > 1:
            raise ValueError(f"the sound spans of a window must share one rate, got {self.sounds}")

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
        )

    def picture_times(self, anchor: float, duration: float) -> np.ndarray:
        """Float64 [picture_count]: the wanted times span after span (a time may be wanted twice)."""
        if not self.pictures:
            return np.zeros(0)
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
        subtitles: the WebVTT text, or empty.
        meta: the json member.
        packets: the packet table, or None.
    """

    key: str
    source: str
    media: bytes
    subtitles: bytes = b""
    meta: Mapping[str, Any] = field(default_factory=dict)
    packets: bytes | None = None


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
        if not fits or str(self.frames.dtype) not in ("uint8", "torch.uint8"):  # a tensor where it lies on a device
            wanted = "[V, T, H * 3 / 2, W]" if planes else "[V, T, 3, H, W]"
            raise ValueError(
                f"clip {self.key}: frames must be uint8 {wanted}, got {self.frames.dtype} {self.frames.shape}"
            )
        views, count = self.frames.shape[:2]
        for name in ("wanted_times", "frame_times"):
            if getattr(self, name).shape != (views, count):
                raise ValueError(f"clip {self.key}: {name} must be [{views}, {count}], got {getattr(self, name).shape}")
        if self.audio.ndim != 2 or self.audio.shape[0] != views or self.audio.dtype != np.float32:
            raise ValueError(
                f"clip {self.key}: audio must be float32 [{views}, S], got {self.audio.dtype} {self.audio.shape}"
            )
        for name in ("audio_start", "anchors"):
            if getattr(self, name).shape != (views,):
                raise ValueError(f"clip {self.key}: {name} must be [{views}], got {getattr(self, name).shape}")
        if self.geometry.shape != (2, 3):
            raise ValueError(f"clip {self.key}: geometry must be [2, 3], got {self.geometry.shape}")

    def __repr__(self) -> str:
        return (
            f"Clip({self.key!r}, frames={list(self.frames.shape)}, audio={list(self.audio.shape)} at "
            f"{self.audio_rate} Hz, {len(self.sentences)} sentences, {self.duration:.3f} s)"
        )


@dataclass(frozen=True)
class Truth:
    """What is known about the clips of a batch and no task may see: labels, boxes, the json member.

    Args:
        keys: the samples' keys.
        labels: the label of each clip, or None.
        metas: the json member of each clip.
    """

    keys: tuple[str, ...]
    labels: tuple[str | None, ...]
    metas: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Planes:
    """Pictures as YUV 4:2:0, half the bytes of RGB, turned into RGB on the device (`mmssl.ops.colour`).

    Args:
        data: uint8 [B, V, T, H * 3 / 2, W]: the rows of the luma, then both chroma planes, each H/2 x W/2 samples
            one after the other.
        matrix: int64 [B], FFmpeg's number of the colour matrix (1 BT.709, 5 and 6 BT.601, 9 BT.2020).
        full_range: bool [B], whether 0 to 255 is used, else 16 to 235.
        convert: makes RGB of the three (`mmssl.ops.colour.planes_to_rgb`, which this file may not know).
    """

    data: torch.Tensor
    matrix: torch.Tensor
    full_range: torch.Tensor
    convert: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = field(repr=False)

    def rgb(self) -> torch.Tensor:
        """Uint8 [B, V, T, 3, H, W]."""
        return self.convert(self.data, self.matrix, self.full_range)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Planes:
        """The same on another device."""
        data, matrix, full = (
            x.to(device, non_blocking=non_blocking) for x in (self.data, self.matrix, self.full_range)
        )
        return Planes(data, matrix, full, self.convert)


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips on the device, decoded once for all tasks. Holds no label.

    Args:
        keys, sources: the samples' keys and the sources they come from.
        seeds: int64 [B], `randomness.sample_seed` of each sample.
        weight: float32 [B], 0 for a row that fills the hole of a failed sample, else 1.
        pixels: uint8 [B, V, T, 3, H, W], RGB, or `Planes`; `frames` is RGB either way.
        wanted_times, frame_times: float64 [B, V, T].
        audio: float32 [B, V, S].
        audio_start: float64 [B, V].
        audio_rate: samples a second.
        has_picture, has_audio, has_text: bool [B].
        duration: float64 [B].
        anchors: float64 [B, V].
        geometry: float64 [B, 2, 3].
        sentences: the sentences of each clip, at most N, nearest to the anchor first.
        sentence_mask: bool [B, N].
        sentence_times: float64 [B, N, 2], start and end.
        token_ids: int64 [B, N, L], 0 where padded.
        token_mask: bool [B, N, L].
        motion, motion_known: float32 [B, V, T, 2, h, w] and bool [B, V, T, h, w], see `Clip`; None when not wanted.
        counters: decoder calls and decoded pictures behind this batch.
    """

    keys: tuple[str, ...]
    sources: tuple[str, ...]
    seeds: torch.Tensor
    weight: torch.Tensor
    pixels: torch.Tensor | Planes
    wanted_times: torch.Tensor
    frame_times: torch.Tensor
    audio: torch.Tensor
    audio_start: torch.Tensor
    audio_rate: int
    has_picture: torch.Tensor
    has_audio: torch.Tensor
    has_text: torch.Tensor
    duration: torch.Tensor
    anchors: torch.Tensor
    geometry: torch.Tensor
    sentences: tuple[tuple[Sentence, ...], ...]
    sentence_mask: torch.Tensor
    sentence_times: torch.Tensor
    token_ids: torch.Tensor
    token_mask: torch.Tensor
    motion: torch.Tensor | None = None
    motion_known: torch.Tensor | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return (
            f"Batch({len(self)} clips, frames={self._frames_shape()}, audio={list(self.audio.shape)}, "
            f"tokens={list(self.token_ids.shape)}, {int(self.has_audio.sum())} with sound, "
            f"{int(self.has_text.sum())} with text)"
        )

    def _frames_shape(self) -> list[int]:
        if not isinstance(self.pixels, Planes):
            return list(self.pixels.shape)
        *rows, height, width = self.pixels.data.shape
        return [*rows, 3, height * 2 // 3, width]

    @property
    def frames(self) -> torch.Tensor:
        """Uint8 [B, V, T, 3, H, W], RGB; planes are converted once a batch."""
        if isinstance(self.pixels, Planes):
            return self.once("frames", self.pixels.rgb)
        return self.pixels

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.audio.device

    def draws(self, task: str) -> Draws:
        """The random draws of these samples for one task."""
        from mmssl.randomness import Draws

        return Draws(self.seeds, task)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gives, made once a batch: tasks that want the same view share one tensor."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def times(self, span: Span, view: int = 0) -> torch.Tensor:
        """Float64 [B, count]: the times that `span` asks for in each clip."""
        import torch

        start = span.start(self.anchors[:, view], self.duration)
        steps = torch.arange(span.count, dtype=torch.float64, device=self.device) / span.rate
        return torch.as_tensor(start[:, None] + steps)

    def frames_at(self, times: torch.Tensor, view: int = 0) -> torch.Tensor:
        """Uint8 [B, K, 3, H, W]: the frames on screen at the wanted times.

        Args:
            times: float64 [B, K]; each must be a time that the window asked for.
            view: which of the V anchors.

        Raises:
            ValueError: a time was not asked for by the window.
        """
        index = self._places(times, view)
        count = index.shape[1]
        first = int(index[0, 0]) if index.numel() else 0
        import torch

        if bool((index == first + torch.arange(count, device=self.device)).all()):
            return self.frames[:, view, first : first + count]  # a whole span: a view, not a copy
        rows = torch.arange(len(self), device=self.device)[:, None]
        return self.frames[rows, view, index]

    def motion_at(self, times: torch.Tensor, view: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Float32 [B, K, 2, h, w] and bool [B, K, h, w]: motion and where it is known, of the frames at the times.

        Raises:
            ValueError: the window does not ask for motion, or not for these times.
        """
        import torch

        if self.motion is None or self.motion_known is None:
            raise ValueError("a task asks for motion that its window does not want; give it Window(motion=True)")
        index = self._places(times, view)
        rows = torch.arange(len(self), device=self.device)[:, None]
        return self.motion[rows, view, index], self.motion_known[rows, view, index]

    def _places(self, times: torch.Tensor, view: int) -> torch.Tensor:
        """Int64 [B, K]: which of the wanted times these are."""
        distance = (self.wanted_times[:, view, None, :] - times[:, :, None]).abs()
        nearest, index = distance.min(dim=2)
        if float(nearest.max()) > TIME_TOLERANCE:
            raise ValueError(
                f"a task asks for a frame {float(nearest.max()):.6f} s away from every time of its window; "
                "ask only for times of the spans in the task's window"
            )
        return index

    def frames_of(self, span: Span, view: int = 0) -> torch.Tensor:
        """Uint8 [B, count, 3, H, W]: all frames of a span of the window."""
        return self.frames_at(self.times(span, view), view)

    def audio_between(self, start: torch.Tensor, seconds: float, view: int = 0) -> torch.Tensor:
        """Float32 [B, round(seconds * rate)]: the sound from `start` (float64 [B], seconds) on.

        Raises:
            ValueError: the stretch is not inside the sound that the window asked for.
        """
        import torch

        count = round(seconds * self.audio_rate)
        first = torch.round(start * self.audio_rate).long()
        offset = first - torch.round(self.audio_start[:, view] * self.audio_rate).long()
        low, high = int(offset.min()), int(offset.max()) + count
        # One sample of grace on either side: a start is rounded to the grid here and when it was decoded.
        if low < -1 or high > self.audio.shape[-1] + 1:
            raise ValueError(
                f"a task asks for samples {low}..{high} of a sound window of {self.audio.shape[-1]} samples; "
                "ask only for sound inside the spans of the task's window"
            )
        offset = offset.clamp(0, self.audio.shape[-1] - count)
        index = offset[:, None] + torch.arange(count, device=self.device)
        return self.audio[:, view].gather(1, index)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        import torch

        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
            for f in dataclasses.fields(self)
            if isinstance(getattr(self, f.name), torch.Tensor | Planes)
        }
        return dataclasses.replace(self, **moved, _made={})
