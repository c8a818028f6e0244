"""What tasks are given: Batch, decoded clips on the device; and what no task may see: Truth.

Times are seconds on each clip's clock, see `mmssl.clip`. Importing this file does not import torch.

Shape legend: B clips of a batch, V views of a clip, T wanted times, H x W pixels, S samples, N sentences, L tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mmssl.clip import Sentence, Span

if TYPE_CHECKING:
    import torch

    from mmssl.randomness import Draws

T = TypeVar("T")
TIME_TOLERANCE = 1e-6  # seconds; wanted times are looked up, never interpolated


class Dense(NamedTuple):
    """One name of the dense truth of a batch at the wanted times; zeros where it is not known.

    ``flow`` float32 [B, V, T, 2, H, W], pixels of the frames a second to the next frame of the source, x right and y
    down; ``depth`` float32 [B, V, T, H, W]; ``normals`` float32 [B, V, T, 3, H, W], unit vectors on the world's axes;
    ``instances`` uint8 [B, V, T, H, W], 0 the scene; ``pose`` float32 [B, V, T, 3, 4], camera to world.
    """

    values: torch.Tensor
    known: torch.Tensor  # bool [B, V, T, H, W]; of a pose bool [B, V, T]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Dense:
        """The same on another device."""
        return Dense(*(x.to(device, non_blocking=non_blocking) for x in self))


@dataclass(frozen=True)
class Truth:
    """What is known about the clips of a batch and no task may see: labels, boxes, the json member, dense truth.

    A task that declares `needs_truth` is given exactly those names of `dense` (`Batch.with_privileged`).

    Args:
        keys: the samples' keys.
        labels: the label of each clip, or None.
        metas: the json member of each clip.
        dense: the dense truth by name, as far as the window asks for it.
    """

    keys: tuple[str, ...]
    labels: tuple[str | None, ...]
    metas: tuple[Mapping[str, Any], ...]
    dense: Mapping[str, Dense] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Truth:
        """The same with its tensors on another device."""
        return dataclasses.replace(self, dense={n: d.to(device, non_blocking) for n, d in self.dense.items()})


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

    A stream's batches have no `privileged`; only the copy that is handed to a task with `needs_truth` has it.

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
        privileged: dense truth by name, exactly what the task that is given this copy declares to need.
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
    privileged: Mapping[str, Dense] = field(default_factory=dict)
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

    def frame_times_at(self, times: torch.Tensor, view: int = 0) -> torch.Tensor:
        """Float64 [B, K]: when the frames on screen at the wanted times began."""
        return self.frame_times[:, view].gather(1, self._places(times, view))

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

    def with_privileged(self, dense: Mapping[str, Dense]) -> Batch:
        """A copy with this truth and no other, for one task; what was made from the batch already is shared."""
        return dataclasses.replace(self, privileged=dict(dense))

    def privileged_at(self, name: str, times: torch.Tensor, view: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Values [B, K, ...] and where they are known, bool [B, K, H, W] (of a pose [B, K]), of the dense truth `name`.

        Args:
            name: one of the task's `needs_truth`; see `Dense` for shapes and units.
            times: float64 [B, K]; each must be a time that the window asked for.
            view: which of the V anchors.

        Raises:
            ValueError: the task does not declare to need it, or the window does not ask for these times.
        """
        import torch

        if name not in self.privileged:
            raise ValueError(
                f"a task asks for the truth '{name}' that it is not given; declare needs_truth=('{name}',) and give "
                f"its window truth=('{name}',)"
            )
        index = self._places(times, view)
        rows = torch.arange(len(self), device=self.device)[:, None]
        values, known = self.privileged[name]
        return values[rows, view, index], known[rows, view, index]

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
        dense = {name: d.to(device, non_blocking) for name, d in self.privileged.items()}
        return dataclasses.replace(self, **moved, privileged=dense, _made={})
