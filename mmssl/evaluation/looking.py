"""One pass over clips for whoever wants to look: what the encoder takes, what a person sees, and the encoder's maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.data.shards.index import expand_shards
from mmssl.data.stream import Stream
from mmssl.errors import UserError
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features

MODALITIES = ("image", "video", "audio")
MOST_SHARDS = 64  # whose clips are mixed when a sample is drawn


@dataclass(frozen=True)
class Seen:
    """Some clips of a pass.

    Args:
        keys, sources, labels: of the n clips.
        frames: uint8 [n, T, 3, H, W] on the CPU; zeros where a clip has no picture.
        starts: float64 [n, T], seconds on each clip's clock at which each frame began.
        inputs: what the encoder takes: images [n * T, 3, H, W], video [n, 3, T, H, W], log-mel [n, 1, M, F].
        modality: of the encoder.
    """

    keys: tuple[str, ...]
    sources: tuple[str, ...]
    labels: tuple[str | None, ...]
    frames: np.ndarray
    starts: np.ndarray
    inputs: torch.Tensor
    modality: str

    def __len__(self) -> int:
        return len(self.keys)

    def pooled(self, features: Features) -> torch.Tensor:
        """Float32 [n, D]; an image encoder's vectors are averaged over a clip's frames."""
        found = features.pooled.float()
        return torch.as_tensor(found.unflatten(0, (len(self), -1)).mean(dim=1) if self.modality == "image" else found)

    def level(self, features: Features, stride: int) -> torch.Tensor:
        """Float32 [n, C, t, h, w]; a spectrogram's level has t = 1, h along frequency and w along time."""
        found = features.levels[stride].float()
        if self.modality == "image":
            return torch.as_tensor(found.unflatten(0, (len(self), -1)).transpose(1, 2))
        return torch.as_tensor(found if found.ndim == 5 else found[:, :, None])

    def spectrogram(self, row: int) -> np.ndarray:
        """Uint8 [M, F, 3]: what an audio encoder heard of a clip, high pitch on top, dark where it is quiet."""
        return spectrogram_picture(self.inputs[row, 0])


def spectrogram_picture(log_mel: torch.Tensor) -> np.ndarray:
    """Uint8 [M, F, 3] of a log-mel spectrogram [M, F], grey from its least to its greatest value, high pitch on top."""
    values = log_mel.detach().float().cpu().numpy()[::-1]
    low, high = float(values.min()), float(values.max())
    grey = np.round(255 * (values - low) / max(high - low, 1e-9)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def seen_encoder(encoders: Encoders, encoder: str, levels: bool = False) -> Any:
    """The encoder of that name, refused where it is of another modality or gives no maps but should.

    Raises:
        UserError: it cannot be looked at.
    """
    part = encoders[encoder]
    if part.modality not in MODALITIES:
        raise UserError(
            f"encoder '{encoder}' is of modality '{part.modality}'; only {', '.join(MODALITIES)} encoders are inspected"
        )
    if levels and not part.strides:
        raise UserError(f"encoder '{encoder}' gives no maps (it has no levels); there is nothing to draw")
    return part


def look(
    encoders: Encoders,
    shards: str,
    *,
    encoder: str,
    picture: Span,
    size: int | tuple[int, int] = 96,
    batch_size: int = 32,
    workers: int = 2,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    seed: int | None = None,
    left_out: dict[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Seen]:
    """The clips of shards, each decoded once, around their middles.

    Args:
        encoders: the bundle.
        shards: shard specification.
        encoder: which encoder's inputs are made; an audio encoder hears the sound of `picture.seconds`.
        picture: length and rate of what is seen.
        size: height and width of the frames.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the inputs are put.
        limit: clips at most.
        seed: draws the clips in an order of its own, from up to 64 shards mixed; None takes them as they lie.
        left_out: filled with the keys of clips that cannot be shown to the encoder, and why.
        progress: called with (clips done, clips wanted).

    Raises:
        UserError: the encoder is missing or of another modality, or no clip has what it needs.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit}: at least 1 clip is needed")
    part = seen_encoder(encoders, encoder)
    causes = {} if left_out is None else left_out
    sound = Span(picture.seconds, part.rate) if part.modality == "audio" else None
    shape = (size, size) if isinstance(size, int) else size
    stream = Stream(
        shards,
        Window(picture, sound, size=shape),
        batch_size,
        seed=seed or 0,
        workers=workers,
        rank=0,
        world=1,
        shuffle=seed is not None,
        shuffle_shards=min(len(expand_shards(shards)), MOST_SHARDS),
        repeat=False,
        anchor="centre",
        device=device,
    )
    done = 0
    with stream:
        wanted = stream.plan.samples if limit is None else min(limit, stream.plan.samples)
        for batch, truth in stream:
            rows = _rows(batch, truth, part.modality, causes)[: None if limit is None else limit - done]
            if rows:
                done += len(rows)
                yield _seen(batch, truth, rows, picture, part)
            progress(done, wanted)
            if limit is not None and done >= limit:
                break
    if not done:
        raise UserError(
            f"no clip of '{shards}' can be shown to '{encoder}' ({'; '.join(sorted(set(causes.values())))})"
        )


def _rows(batch: Batch, truth: Truth, modality: str, left_out: dict[str, str]) -> list[int]:
    """Rows that the encoder can be shown; the others are noted (rows without a key only fill the batch up)."""
    has = (batch.has_audio if modality == "audio" else batch.has_picture).tolist()
    rows = []
    for row, key in enumerate(truth.keys):
        if key and float(batch.weight[row]) > 0 and has[row]:
            rows.append(row)
        elif key:
            lacks = "has no sound" if modality == "audio" else "has no picture"
            left_out[key] = "could not be decoded" if float(batch.weight[row]) == 0 else lacks
    return rows


def _seen(batch: Batch, truth: Truth, rows: list[int], picture: Span, part: Any) -> Seen:
    frames = batch.frames_of(picture)[rows]
    if part.modality == "audio":
        inputs = part.frontend(batch.audio[rows, 0])
    elif part.modality == "video":
        inputs = frames.float().transpose(1, 2) / 255
    else:
        inputs = frames.float().flatten(0, 1) / 255
    starts = batch.frame_times_at(batch.times(picture))[rows]
    return Seen(
        keys=tuple(truth.keys[row] for row in rows),
        sources=tuple(str(truth.metas[row].get("source") or truth.keys[row]) for row in rows),
        labels=tuple(truth.labels[row] for row in rows),
        frames=frames.cpu().numpy().copy(),
        starts=starts.cpu().numpy().copy(),
        inputs=inputs,
        modality=part.modality,
    )
