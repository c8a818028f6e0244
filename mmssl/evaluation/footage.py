"""Labelled clips as pixels for evaluations that train an encoder: drawn views to train on, even views to test on.

A corpus that fits a bound is decoded once and its frames stay in memory as uint8, because decoding again in every
epoch would take longer than training a small encoder does; a larger one is decoded anew by the stream. The choice is
in `about`: in memory a view begins at a kept frame, so up to 1 / rate seconds earlier than where the stream begins it.
A clip shorter than a view shows its last frame until the view ends, in both ways.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmssl.clip import Span, Window
from mmssl.data.order import Epochs
from mmssl.data.sources import Source
from mmssl.data.stream import Stream
from mmssl.data.worker import Anchor, anchors_of
from mmssl.errors import UserError
from mmssl.evaluation.crops import canvas_size
from mmssl.randomness import sample_seed

MEMORY = 2 << 30  # bytes of frames that are kept
LONGEST = 120.0  # seconds of a clip that is decoded at once
_NAME = "labelled clips"  # the source's name, which draws go by
_LOOK = 64  # side of the frame that a survey decodes

#: uint8 [B, T, 3, H, W], row of each clip int64 [B], seed of its draws int64 [B]
TrainingBatch = tuple[torch.Tensor, np.ndarray, torch.Tensor]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Survey:
    """What is known of N clips before any view of them is decoded.

    Args:
        shards: the sets they lie in.
        sizes: clips of each set.
        keys, labels, metas: as in a `FeatureTable`.
        durations: float64 [N], seconds.
        aspects: float64 [N], width / height.
        left_out: key -> cause, of clips that cannot be decoded or have no picture.
        decoder: what decoded them.
    """

    shards: tuple[str, ...]
    sizes: tuple[int, ...]
    keys: tuple[str, ...]
    labels: tuple[str | None, ...]
    metas: tuple[Mapping[str, Any], ...]
    durations: np.ndarray
    aspects: np.ndarray
    left_out: Mapping[str, str]
    decoder: str

    def __len__(self) -> int:
        return len(self.keys)


def survey(shards: Sequence[str], *, workers: int = 2, progress: Progress | None = None) -> Survey:
    """Look at one frame of every clip.

    Raises:
        UserError: a set has no clip with a picture.
    """
    keys: list[str] = []
    labels: list[str | None] = []
    metas: list[Mapping[str, Any]] = []
    durations: list[float] = []
    aspects: list[float] = []
    sizes: list[int] = []
    left_out: dict[str, str] = {}
    decoder = ""
    for one in shards:
        before = len(keys)
        with _stream(Source(_NAME, one), Span(0.1, 10), (_LOOK, _LOOK), 32, workers, views=1) as stream:
            total, decoder = stream.plan.samples, stream.settings.decoder
            for batch, truth in stream:
                for row, key in enumerate(truth.keys):
                    if not key:
                        continue
                    if float(batch.weight[row]) == 0 or not bool(batch.has_picture[row]):
                        left_out[key] = "has no picture" if float(batch.weight[row]) else "could not be decoded"
                        continue
                    keys.append(key)
                    labels.append(truth.labels[row])
                    metas.append(truth.metas[row])
                    durations.append(float(batch.duration[row]))
                    aspects.append(_aspect(truth.metas[row], batch.geometry[row].numpy()))
                if progress is not None:
                    progress(len(keys) - before, total)
        if len(keys) == before:
            raise UserError(f"no clip of '{one}' has a picture that can be decoded")
        sizes.append(len(keys) - before)
    return Survey(
        tuple(shards),
        tuple(sizes),
        tuple(keys),
        tuple(labels),
        tuple(metas),
        np.array(durations),
        np.array(aspects),
        left_out,
        decoder,
    )


class Footage(ABC):
    """The pixels of surveyed clips.

    Args:
        clips: the clips.
        picture: length and rate of a view.
        size: the shorter side of the frames, in pixels.
        workers: decode processes.
    """

    how: str

    def __init__(self, clips: Survey, picture: Span, size: int, workers: int) -> None:
        self.clips, self.picture, self.workers = clips, picture, workers
        self.canvas = canvas_size(size, clips.aspects)

    @abstractmethod
    def training(self, rows: np.ndarray, seed: int, batch_size: int, steps: int) -> Iterator[TrainingBatch]:
        """Batches of views at drawn times, epochs laid end to end, of the clips `rows`."""

    @abstractmethod
    def views(self, rows: np.ndarray, views: int, batch_size: int) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """Every clip of `rows` once: uint8 [B, V, T, 3, H, W], views at (i + 0.5) / V of its length, and its row."""

    def about(self) -> dict[str, Any]:
        """What must be known to compare scores."""
        return {
            "seconds": self.picture.seconds,
            "rate": self.picture.rate,
            "size": list(self.canvas),
            "decoder": self.clips.decoder,
            "frames": self.how,
            "shorter_than_a_view": int((self.clips.durations < self.picture.seconds - 0.5 / self.picture.rate).sum()),
            "left_out": dict(self.clips.left_out),
        }


def make_footage(
    clips: Survey,
    picture: Span,
    size: int,
    *,
    memory: int = MEMORY,
    workers: int = 2,
    progress: Progress | None = None,
) -> Footage:
    """Frames in memory where all of them fit `memory` bytes and no clip is too long to be decoded at once."""
    height, width = canvas_size(size, clips.aspects)
    needed = int(sum(_frames(d, picture.rate) for d in clips.durations)) * 3 * height * width
    if needed <= memory and float(clips.durations.max()) <= LONGEST:
        return KeptFootage(clips, picture, size, workers, progress)
    return StreamedFootage(clips, picture, size, workers)


class KeptFootage(Footage):
    """All frames at the wanted rate, decoded once, uint8 [T, 3, H, W] a clip."""

    def __init__(self, clips: Survey, picture: Span, size: int, workers: int, progress: Progress | None = None) -> None:
        super().__init__(clips, picture, size, workers)
        longest = Span(max(float(clips.durations.max()), 1 / picture.rate), picture.rate)
        row_of = {key: row for row, key in enumerate(clips.keys)}
        self.frames = [torch.empty(0, dtype=torch.uint8)] * len(clips)
        source = Source(_NAME, list(clips.shards), keys=frozenset(clips.keys))
        with _stream(source, longest, self.canvas, 4, workers, views=1) as stream:
            done = 0
            for batch, truth in stream:
                for place, key in enumerate(truth.keys):
                    if key:
                        row = row_of[key]
                        count = _frames(float(clips.durations[row]), picture.rate)
                        self.frames[row] = batch.frames[place, 0, :count].clone()
                        done += 1
                if progress is not None:
                    progress(done, len(clips))
        kept = sum(frames.numel() for frames in self.frames)
        self.how = f"decoded once, {kept / 2**20:.0f} MiB kept in memory"

    def _view(self, row: int, anchor: float) -> torch.Tensor:
        """Uint8 [T, 3, H, W] of the view around a time."""
        frames = self.frames[row]
        first = int(float(self.picture.start(anchor, float(self.clips.durations[row]))) * self.picture.rate + 1e-6)
        return frames[(first + torch.arange(self.picture.count)).clamp(max=len(frames) - 1)]

    def training(self, rows: np.ndarray, seed: int, batch_size: int, steps: int) -> Iterator[TrainingBatch]:
        """See `Footage`."""
        size = min(batch_size, len(rows))
        order = Epochs(seed, _NAME, np.array([len(rows)]), 1)
        for step in range(steps):
            positions = np.arange(step * size, (step + 1) * size)
            chosen = rows[order(positions)]
            epochs = positions // len(rows)
            seeds = [
                sample_seed(seed, epoch, _NAME, self.clips.keys[row])
                for row, epoch in zip(chosen.tolist(), epochs.tolist(), strict=True)
            ]
            views = [
                self._view(row, self._drawn(row, drawn)) for row, drawn in zip(chosen.tolist(), seeds, strict=True)
            ]
            yield torch.stack(views), chosen, torch.tensor(seeds, dtype=torch.int64)

    def _drawn(self, row: int, seed: int) -> float:
        """The time that a view lies around: the one that the stream would draw."""
        return float(anchors_of(seed, "random", 1, float(self.clips.durations[row]))[0])

    def views(self, rows: np.ndarray, views: int, batch_size: int) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """See `Footage`."""
        for first in range(0, len(rows), batch_size):
            some = rows[first : first + batch_size]
            yield (
                torch.stack(
                    [
                        torch.stack([self._view(r, a) for a in anchors_of(0, "even", views, self.clips.durations[r])])
                        for r in some.tolist()
                    ]
                ),
                some,
            )


class StreamedFootage(Footage):
    """Views decoded when they are due. A clip that fails now though the survey decoded it ends the evaluation."""

    how = "decoded again for every epoch"

    def training(self, rows: np.ndarray, seed: int, batch_size: int, steps: int) -> Iterator[TrainingBatch]:
        """See `Footage`."""
        size = min(batch_size, len(rows))
        source, row_of = self._source(rows)
        with _stream(source, self.picture, self.canvas, size, self.workers, seed=seed, anchor="random") as stream:
            for _, (batch, truth) in zip(range(steps), stream, strict=False):
                self._check(stream, float(batch.weight.min()))
                yield batch.frames[:, 0], np.array([row_of[key] for key in truth.keys]), batch.seeds

    def views(self, rows: np.ndarray, views: int, batch_size: int) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """See `Footage`."""
        source, row_of = self._source(rows)
        with _stream(source, self.picture, self.canvas, batch_size, self.workers, views=views) as stream:
            for batch, truth in stream:
                kept = [place for place, key in enumerate(truth.keys) if key]
                self._check(stream, float(batch.weight[kept].min()))
                yield batch.frames[kept], np.array([row_of[truth.keys[place]] for place in kept])

    def _source(self, rows: np.ndarray) -> tuple[Source, dict[str, int]]:
        row_of = {self.clips.keys[row]: row for row in rows.tolist()}
        return Source(_NAME, list(self.clips.shards), keys=frozenset(row_of)), row_of

    @staticmethod
    def _check(stream: Stream, weight: float) -> None:
        if weight == 0:
            why = stream.failures[-1] if stream.failures else "its worker died"
            raise UserError(f"a clip that could be decoded before cannot be now ({why}); are the shards being written?")


def _stream(
    source: Source,
    picture: Span,
    canvas: tuple[int, int],
    batch_size: int,
    workers: int,
    *,
    views: int = 1,
    seed: int = 0,
    anchor: Anchor = "even",
) -> Stream:
    """A pass over the clips at even times, or clips in drawn order at drawn times without end."""
    drawn = anchor == "random"
    return Stream(
        [source],
        Window(picture, size=canvas, views=views),
        batch_size,
        seed=seed,
        workers=workers,
        rank=0,
        world=1,
        shuffle=drawn,
        repeat=drawn,
        anchor=anchor,
    )


def _frames(duration: float, rate: float) -> int:
    """Frames kept of a clip."""
    return max(1, int(np.ceil(duration * rate - 1e-6)))


def _aspect(meta: Mapping[str, Any], geometry: np.ndarray) -> float:
    """Width / height as shown: as the description says, else by how the picture was fitted; 1 where neither tells."""
    width, height = meta.get("width"), meta.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return float(width / height)
    if abs(geometry[0, 1]) + abs(geometry[1, 0]) > 1e-9:
        return 1.0  # turned: what was cut off is not in the last column
    return float((_LOOK - 2 * geometry[0, 2]) / (_LOOK - 2 * geometry[1, 2]))
