"""Handing a stream's samples to a webdataset pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from mmssl.batch import Batch, Truth
from mmssl.data.stream import Stream
from mmssl.errors import UserError


def as_webdataset(stream: Stream) -> AsWebDataset:
    """The stream's samples as the first stage of a webdataset pipeline.

    ::

        pipeline = wds.DataPipeline(as_webdataset(stream), wds.to_tuple("frames", "audio", "cls"), wds.batched(16))

    Each sample is a dict with the fields of `sample_of`. Order, resume and counters are the stream's; the position
    counts whole batches, so let the stream's batch size be that of the pipeline where it matters. Samples that could
    not be read are left out, so that ranks may get unequal numbers: take as many steps as the smallest rank has.
    """
    return AsWebDataset(stream)


class AsWebDataset(IterableDataset):  # type: ignore[type-arg]
    """See `as_webdataset`.

    Raises:
        UserError: it is iterated in a worker of a torch `DataLoader`; the stream has workers of its own.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if get_worker_info() is not None:
            raise UserError("the stream decodes in workers of its own: give the DataLoader num_workers=0")
        for batch, truth in self.stream:
            places = self.stream.places
            for row, place in enumerate(places):
                if place is not None and float(batch.weight[row]) > 0:
                    yield sample_of(batch, truth, row) | {"__url__": str(place.shard)}


def sample_of(batch: Batch, truth: Truth, row: int) -> dict[str, Any]:
    """One row of a batch as a dict of webdataset's form; fields that the window did not ask for are left out.

    ``__key__``, ``__source__``, and ``__url__`` (the shard), which the stage adds; ``frames`` uint8 [V, T, 3, H, W],
    ``frame_times`` float64 [V, T]; ``audio`` float32 [V, S], ``audio_start`` float64 [V]; ``txt`` the sentences
    that the batch has (`Stream(max_sentences=...)`), in the order of time, joined by lines; ``cls`` the label or "";
    ``json`` the description. A clip without picture or sound has zeros, and ``has_picture`` or ``has_audio`` is False.
    """
    # Each tensor is its own: rows would otherwise keep their whole batch alive in a shuffle buffer.
    tensors: dict[str, torch.Tensor] = {}
    if batch.frames.shape[2]:
        tensors |= {"frames": batch.frames[row], "frame_times": batch.frame_times[row]}
    if batch.audio.shape[2]:
        tensors |= {"audio": batch.audio[row], "audio_start": batch.audio_start[row]}
    return {
        "__key__": batch.keys[row],
        "__source__": batch.sources[row],
        **{name: tensor.clone() for name, tensor in tensors.items()},
        "has_picture": bool(batch.has_picture[row]),
        "has_audio": bool(batch.has_audio[row]),
        "txt": "\n".join(sentence.text for sentence in sorted(batch.sentences[row], key=lambda s: (s.start, s.end))),
        "cls": truth.labels[row] or "",
        "json": dict(truth.metas[row]),
    }
