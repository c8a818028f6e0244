"""Decoded clips to a batch of tensors, truth apart; sentences are tokenised and holes filled here, in the parent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from mmssl.batch import Batch, Dense, Planes, Truth
from mmssl.clip import Clip, Sentence, Window
from mmssl.data.decode.motion import field_shape
from mmssl.data.dense_truth import blank_field
from mmssl.data.sources import Place
from mmssl.data.worker import Decoded, Failure, Row
from mmssl.ops.colour import planes_to_rgb


class Tokenizes(Protocol):
    """What the collation needs of a tokenizer (`mmssl.nn.tokenizer.Tokenizer` has it)."""

    length: int

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Int64 [len(sentences), length], 0 where padded."""
        ...


def nearest_sentences(clip: Clip, limit: int) -> tuple[Sentence, ...]:
    """At most `limit` sentences, nearest to the clip's first anchor first."""
    anchor = float(clip.anchors[0])

    def distance(sentence: Sentence) -> float:
        return max(sentence.start - anchor, anchor - sentence.end, 0.0)

    return tuple(sorted(clip.sentences, key=lambda s: (distance(s), s.start, s.text))[:limit])


def collate_clips(
    clips: Sequence[Clip],
    *,
    keys: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    seeds: Sequence[int] | np.ndarray | None = None,
    weight: Sequence[float] | np.ndarray | None = None,
    tokenizer: Tokenizes | None = None,
    max_sentences: int = 8,
    frames: torch.Tensor | None = None,
    audio: torch.Tensor | None = None,
    counters: Mapping[str, int] | None = None,
) -> Batch:
    """A batch on the CPU.

    Args:
        clips: the clips, of one window.
        keys: the samples' keys where they are not the clips' own.
        sources: name of each clip's source.
        seeds: int64 `sample_seed` of each clip; zeros when left out.
        weight: 0 for a row that fills a hole.
        tokenizer: makes the token ids; without it they are padding of length 1.
        max_sentences: sentences kept of each clip.
        frames: the stacked frames where they exist already, else stacked here.
        audio: likewise.
        counters: decoder calls and decoded pictures.
    """
    rows = len(clips)
    kept = [nearest_sentences(clip, max_sentences) for clip in clips]
    length = tokenizer.length if tokenizer is not None else 1
    mask = torch.zeros(rows, max_sentences, dtype=torch.bool)
    times = torch.zeros(rows, max_sentences, 2, dtype=torch.float64)
    ids = torch.zeros(rows, max_sentences, length, dtype=torch.int64)
    for row, sentences in enumerate(kept):
        mask[row, : len(sentences)] = True
        for column, sentence in enumerate(sentences):
            times[row, column] = torch.tensor([sentence.start, sentence.end], dtype=torch.float64)
        if tokenizer is not None and sentences:
            ids[row, : len(sentences)] = torch.from_numpy(tokenizer.encode([s.text for s in sentences]))

    def stack(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(clip, name) for clip in clips]))

    return Batch(
        keys=tuple(clip.key for clip in clips) if keys is None else tuple(keys),
        sources=tuple(sources) if sources is not None else ("",) * rows,
        seeds=torch.as_tensor(np.asarray(seeds if seeds is not None else np.zeros(rows), dtype=np.int64)),
        weight=torch.as_tensor(np.asarray(weight if weight is not None else np.ones(rows), dtype=np.float32)),
        pixels=_pixels(clips, stack("frames") if frames is None else frames),
        wanted_times=stack("wanted_times"),
        frame_times=stack("frame_times"),
        audio=stack("audio") if audio is None else audio,
        audio_start=stack("audio_start"),
        audio_rate=clips[0].audio_rate,
        has_picture=torch.tensor([clip.has_picture for clip in clips]),
        has_audio=torch.tensor([clip.has_audio for clip in clips]),
        has_text=mask.any(dim=1),
        duration=torch.tensor([clip.duration for clip in clips], dtype=torch.float64),
        anchors=stack("anchors"),
        geometry=stack("geometry"),
        sentences=tuple(kept),
        sentence_mask=mask,
        sentence_times=times,
        token_ids=ids,
        token_mask=ids != 0,
        motion=None if clips[0].motion is None else stack("motion"),
        motion_known=None if clips[0].motion_known is None else stack("motion_known"),
        counters=dict(counters or {}),
    )


def _pixels(clips: Sequence[Clip], frames: torch.Tensor) -> torch.Tensor | Planes:
    """The frames of a batch as RGB, or as planes with each clip's colour."""
    if clips[0].colour is None:
        return frames
    colours = [clip.colour or (0, False) for clip in clips]
    matrix, full = torch.tensor([m for m, _ in colours]), torch.tensor([full for _, full in colours])
    return Planes(frames, matrix, full, planes_to_rgb)


def collate(
    decoded: Decoded,
    places: Sequence[Place | None],
    seeds: Sequence[int],
    window: Window,
    *,
    tokenizer: Tokenizes | None = None,
    max_sentences: int = 8,
) -> tuple[Batch, Truth]:
    """A rank's batch and what is known about it.

    A row whose sample failed, or that lies past the end of one pass, keeps its own key and holds the pixels, sound
    and sentences of the first valid row with weight 0; without any valid row it holds zeros, and every mask is
    False. Its truth is empty.

    Args:
        decoded: the rows; its arrays become the batch's tensors.
        places: where the samples come from; None past the end of one pass.
        seeds: `sample_seed` of each row, 0 where there is none.
        window: what was decoded.
        tokenizer: see `collate_clips`.
        max_sentences: see `collate_clips`.
    """
    good = [number for number, row in enumerate(decoded.rows) if isinstance(row, Row)]
    spare = decoded.rows[good[0]] if good else None
    clips, metas, weight = [], [], []
    for number, row in enumerate(decoded.rows):
        if isinstance(row, Row):
            clips.append(row.clip)
            metas.append(row.meta)
            weight.append(1.0)
            continue
        if isinstance(spare, Row):
            decoded.frames[number], decoded.audio[number] = spare.clip.frames, spare.clip.audio
            clips.append(spare.clip)
        else:
            decoded.frames[number], decoded.audio[number] = 0, 0
            clips.append(blank(window, decoded.frames[number], decoded.audio[number]))
        metas.append({})
        weight.append(0.0)
    keys = tuple("" if place is None else place.entry.key for place in places)
    rows = [row for row in decoded.rows if isinstance(row, Row)]
    batch = collate_clips(
        clips,
        keys=keys,
        sources=["" if place is None else place.source for place in places],
        seeds=np.array(seeds, dtype=np.int64),
        weight=weight,
        tokenizer=tokenizer,
        max_sentences=max_sentences,
        frames=torch.as_tensor(decoded.frames),
        audio=torch.from_numpy(decoded.audio),
        counters={
            "decoder_calls": sum(row.clip.decoder_calls for row in rows),
            "decoded_pictures": sum(row.clip.decoded_pictures for row in rows),
            **Counter(f"fallback: {row.clip.fallback}" for row in rows if row.clip.fallback),
        },
    )
    labels = []
    for place, row in zip(places, decoded.rows, strict=True):
        label = row.meta.get("label") if isinstance(row, Row) else None
        if label is None and place is not None and isinstance(row, Row):
            label = place.entry.label  # shards that say it in a .cls member
        labels.append(None if label is None else str(label))
    return batch, Truth(keys, tuple(labels), tuple(metas), dense_of(decoded.rows, window))


def dense_of(rows: Sequence[Row | Failure | None], window: Window) -> dict[str, Dense]:
    """The dense truth that a window asks for; rows without it (and holes) are zeros of which nothing is known."""
    found = {}
    for name in window.truth:
        none = blank_field(name, window)
        fields = [row.dense.get(name, none) if isinstance(row, Row) else none for row in rows]
        values = torch.from_numpy(np.stack([field.values for field in fields]))
        if name == "normals":
            values = values.float() / 127
        elif name != "instances":
            values = values.float()
        found[name] = Dense(values, torch.from_numpy(np.stack([field.known for field in fields])))
    return found


def blank(window: Window, frames: np.ndarray, audio: np.ndarray) -> Clip:
    """A clip without picture and sound, over given zeros, for a batch in which no sample could be read."""
    times = np.stack([window.picture_times(0.0, 1.0)] * window.views)
    return Clip(
        key="",
        frames=frames,
        wanted_times=times,
        frame_times=times,
        audio=audio,
        audio_start=np.zeros(window.views),
        audio_rate=window.sound_rate,
        colour=(5, False) if frames.ndim == 4 else None,
        motion=np.zeros((*times.shape, 2, *field_shape(window.size)), np.float32) if window.motion else None,
        motion_known=np.zeros((*times.shape, *field_shape(window.size)), bool) if window.motion else None,
        has_picture=False,
        has_audio=False,
        sentences=(),
        duration=1.0,
        anchors=np.zeros(window.views),
        geometry=np.eye(2, 3),
    )
