"""Rows of batches and examples: taken, spoiled, compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from mmssl.batch import Batch, Dense


def take_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """The batch of these rows alone."""
    index = torch.tensor(list(rows))
    changes: dict[str, Any] = {
        f.name: getattr(batch, f.name)[index]
        for f in dataclasses.fields(batch)
        if isinstance(getattr(batch, f.name), torch.Tensor)
    }
    changes["privileged"] = {n: Dense(*(part[index] for part in dense)) for n, dense in batch.privileged.items()}
    for name in ("keys", "sources", "sentences"):
        changes[name] = tuple(getattr(batch, name)[i] for i in rows)
    return dataclasses.replace(batch, **changes, _made={})


def changed(batch: Batch, **fields: Any) -> Batch:
    """The batch with other fields and nothing made from it yet."""
    return dataclasses.replace(batch, **fields, _made={})


def spoiled(batch: Batch, rows: Sequence[int]) -> Batch:
    """Other pictures, sounds, sentences, motion and truth in some rows: what stands in a hole must not matter."""
    index = torch.tensor(list(rows))
    frames, audio = batch.frames.clone(), batch.audio.clone()
    frames[index] = 255 - frames[index].roll(1, dims=-1)
    audio[index] = -0.5 * audio[index].roll(100, dims=-1)
    token_ids = batch.token_ids.clone()
    token_ids[index] = token_ids[index].roll(1, dims=1)
    motion = None if batch.motion is None else batch.motion.clone()
    if motion is not None:
        motion[index] = 3 - motion[index]
    dense = {n: Dense(d.values.clone(), d.known.clone()) for n, d in batch.privileged.items()}
    for values, _ in dense.values():
        values[index] = 3 - values[index].roll(1, dims=-1)
    return changed(batch, pixels=frames, audio=audio, token_ids=token_ids, motion=motion, privileged=dense)


def without(batch: Batch, what: str, rows: Sequence[int]) -> Batch:
    """The batch whose clips `rows` have no picture, sound, text or truth (zeros and a False mask, as collated)."""
    index = torch.tensor(list(rows))

    def blank(tensor: torch.Tensor) -> torch.Tensor:
        made = tensor.clone()
        made[index] = 0
        return made

    match what:
        case "picture":
            seen = {n: blank(m) for n in ("motion", "motion_known") if (m := getattr(batch, n)) is not None}
            return changed(batch, pixels=blank(batch.frames), has_picture=blank(batch.has_picture), **seen)
        case "sound":
            return changed(batch, audio=blank(batch.audio), has_audio=blank(batch.has_audio))
        case "text":
            silent = tuple(() if i in rows else s for i, s in enumerate(batch.sentences))
            return changed(
                batch,
                sentences=silent,
                has_text=blank(batch.has_text),
                sentence_mask=blank(batch.sentence_mask),
                sentence_times=blank(batch.sentence_times),
                token_ids=blank(batch.token_ids),
                token_mask=blank(batch.token_mask),
            )
        case "truth":
            dense = {n: Dense(blank(d.values), blank(d.known)) for n, d in batch.privileged.items()}
            return changed(batch, privileged=dense)
    raise ValueError(what)


def same_rows(whole: torch.Tensor, part: torch.Tensor, size: int, rows: Sequence[int]) -> bool:
    """Whether the rows of an example made from a whole batch equal the example made from those rows alone.

    An example may hold k rows a clip, together or one block after the other, and may be padded less when there are
    fewer clips (padding is 0).
    """
    index = torch.tensor(list(rows))
    many = whole.shape[0] // size
    assert whole.shape[0] == many * size, f"{list(whole.shape)} is no multiple of {size} clips"
    assert part.shape[0] == many * len(rows)
    together = whole.unflatten(0, (size, many))[index]
    apart = whole.unflatten(0, (many, size))[:, index]
    return any(_equal_but_padding(w.flatten(0, 1), part) for w in (together, apart))


def _equal_but_padding(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.ndim != b.ndim or a.dtype != b.dtype:
        return False
    for dim in range(1, a.ndim):
        shorter = min(a.shape[dim], b.shape[dim])
        for tensor in (a, b):
            if bool(tensor.narrow(dim, shorter, tensor.shape[dim] - shorter).any()):
                return False
        a, b = a.narrow(dim, 0, shorter), b.narrow(dim, 0, shorter)
    return torch.equal(a, b)
