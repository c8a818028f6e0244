"""What makes a filter answer most: for each channel of a level the clips with its highest values, one a source.

After Zeiler and Fergus, "Visualizing and understanding convolutional networks", arXiv 1311.2901, without the projection
back to pixels: shown is the frame, with the region that the winning cell can see. Memory holds the winners' frames
alone, however many clips pass by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.looking import Seen, look, seen_encoder
from mmssl.evaluation.receptive import Fields, receptive_fields
from mmssl.nn.encoders import Encoders

TOP = 9
MOST_FILTERS = 64


@dataclass(frozen=True)
class Hit:
    """The place in one source where a filter answers most.

    Args:
        value: the filter's output there.
        key, source, label: of the clip.
        seconds: on the clip's clock, where the shown frame (or a spectrogram's window) begins.
        picture: uint8 [H, W, 3]: the frame in the middle of what the cell sees, or the spectrogram.
        region: (left, top, right, bottom) in fractions of the picture: what the cell can see.
        frames: (first, past the last) of the frames that it can see, of those that the encoder was shown.
    """

    value: float
    key: str
    source: str
    label: str | None
    seconds: float
    picture: np.ndarray
    region: tuple[float, float, float, float]
    frames: tuple[int, int]


class Best:
    """The highest values of one filter over a stream, at most one a source; equal values stay with the first."""

    def __init__(self, count: int = TOP) -> None:
        self.count = count
        self.hits: dict[str, Hit] = {}

    def wants(self, value: float, source: str) -> bool:
        """Whether a value of a source would be kept."""
        held = self.hits.get(source)
        if held is not None:
            return value > held.value
        return len(self.hits) < self.count or value > min(hit.value for hit in self.hits.values())

    def add(self, hit: Hit) -> None:
        """Keep a hit that is wanted; the least one leaves when there are too many."""
        self.hits.pop(hit.source, None)
        self.hits[hit.source] = hit
        if len(self.hits) > self.count:
            del self.hits[min(self.hits, key=lambda source: self.hits[source].value)]

    def ranked(self) -> list[Hit]:
        """Highest first; of equal ones by key, so that the order of the stream does not matter."""
        return sorted(self.hits.values(), key=lambda hit: (-hit.value, hit.key))


@dataclass(frozen=True)
class TopActivations:
    """The winners of each filter.

    Args:
        filters: channel -> hits, highest first.
        about: encoder, level, its receptive field, how many clips were seen.
    """

    filters: Mapping[int, Sequence[Hit]]
    about: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `top_activations.json`."""
        return {
            **self.about,
            "filters": {
                str(channel): [
                    {
                        "value": hit.value,
                        "key": hit.key,
                        "label": hit.label,
                        "seconds": round(hit.seconds, 4),
                        "region": [round(v, 4) for v in hit.region],
                        "frames": list(hit.frames),
                    }
                    for hit in hits
                ]
                for channel, hits in self.filters.items()
            },
        }


def top_activations(
    encoders: str,
    shards: str,
    *,
    encoder: str = "image",
    level: int | None = None,
    channels: Sequence[int] | None = None,
    filters: int = 16,
    top: int = TOP,
    picture: Span = Span(2.0, 4.0),
    size: int | tuple[int, int] = 96,
    limit: int | None = None,
    random_init: bool = False,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 2,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TopActivations:
    """The clips that make filters answer most, over all clips of the shards in one pass.

    Args:
        encoders: run folder, or its encoders folder.
        shards: shard specification.
        encoder: which encoder: image, video or audio.
        level: stride of the level; the coarsest one unless given.
        channels: which filters; evenly spread ones unless given.
        filters: how many, where `channels` does not say.
        top: winners a filter.
        picture: length and rate of what is seen.
        size: height and width of the frames.
        limit: clips at most.
        random_init: look at the same architecture with random weights.
        seed: of these.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoder runs.
        progress: called with (clips done, clips wanted).

    Raises:
        UserError: there is no such level or filter, or a number makes no sense.
    """
    bundle = Encoders.from_pretrained(encoders, random_init=random_init, seed=seed).to(device)
    part = seen_encoder(bundle, encoder, levels=True)
    stride = max(part.strides) if level is None else level
    if stride not in part.strides:
        raise UserError(
            f"encoder '{encoder}' has no level at stride {stride}; choose of {', '.join(map(str, part.strides))}"
        )
    chosen = _chosen(part.level_widths[stride], channels, filters)
    if top < 1:
        raise UserError(f"top={top}: at least 1 clip a filter is needed")
    best = [Best(top) for _ in chosen]
    fields: Fields | None = None
    left_out: dict[str, str] = {}
    count = 0
    for seen in look(
        bundle, shards, encoder=encoder, picture=picture, size=size, batch_size=batch_size, workers=workers,
        device=device, limit=limit, left_out=left_out, progress=progress,
    ):  # fmt: skip
        if fields is None:
            fields = receptive_fields(part, stride, tuple(seen.inputs.shape[1:]))
        with torch.inference_mode():
            maps = seen.level(part(seen.inputs), stride)[:, chosen]  # [n, K, t, h, w]
        if not bool(maps.isfinite().all()):
            raise UserError("the encoder gives maps that are not finite; its weights are broken, train it again")
        values, places = maps.flatten(2).max(dim=2)
        _keep(best, seen, values.cpu().numpy(), places.cpu().numpy(), tuple(maps.shape[2:]), fields)
        count += len(seen)
    assert fields is not None
    about = {
        "encoder": encoder,
        "level": stride,
        "channels": chosen,
        "of_channels": part.level_widths[stride],
        "weights": f"random, seed {seed}" if random_init else "trained",
        "receptive_field": list(fields.largest),
        "shards": shards,
        "clips": count,
        "left_out": left_out,
        "seconds": picture.seconds,
        "rate": picture.rate,
        "size": [size, size] if isinstance(size, int) else list(size),
        "decoder": "pyav",
        "modality": part.modality,
    }
    return TopActivations({c: one.ranked() for c, one in zip(chosen, best, strict=True)}, about)


def _chosen(width: int, channels: Sequence[int] | None, filters: int) -> list[int]:
    """The filters to look at, rising."""
    if channels is not None:
        wrong = [c for c in channels if not 0 <= c < width]
        if wrong or not channels:
            raise UserError(f"no filter {wrong[0] if wrong else ''}: the level has {width}, counted from 0")
        found = sorted(set(channels))
    else:
        found = sorted(set(np.linspace(0, width - 1, min(max(filters, 1), width)).round().astype(int).tolist()))
    if len(found) > MOST_FILTERS or filters < 1:
        raise UserError(f"{len(found) if filters >= 1 else filters} filters: 1 to {MOST_FILTERS} fit on a page")
    return found


def _keep(
    best: Sequence[Best],
    seen: Seen,
    values: np.ndarray,
    places: np.ndarray,
    shape: tuple[int, ...],
    fields: Fields,
) -> None:
    """Give each filter the clips that it wants of a batch: values and places [n, K], places within `shape`."""
    for number, one in enumerate(best):
        for row in np.argsort(-values[:, number], kind="stable").tolist():
            value = float(values[row, number])
            if one.wants(value, seen.sources[row]):
                cell = tuple(int(v) for v in np.unravel_index(int(places[row, number]), shape))
                one.add(_hit(seen, row, value, cell, fields))


def _hit(seen: Seen, row: int, value: float, cell: tuple[int, ...], fields: Fields) -> Hit:
    """What a cell (t, h, w) of a clip's map has seen."""
    if seen.modality == "audio":
        picture = seen.spectrogram(row)
        (low, high), (left, right) = fields.box(cell[1:])
        top, bottom = picture.shape[0] - high, picture.shape[0] - low  # high pitch is drawn on top
        frames, middle = (0, seen.frames.shape[1]), 0
    else:
        (top, bottom), (left, right) = fields.box(cell[1:]) if len(fields.axes) == 2 else fields.box(cell)[1:]
        frames = (cell[0], cell[0] + 1)
        if seen.modality == "video":
            frames = fields.box(cell)[0] if len(fields.axes) == 3 else (0, seen.frames.shape[1])
        middle = (frames[0] + frames[1] - 1) // 2
        picture = np.ascontiguousarray(seen.frames[row, middle].transpose(1, 2, 0))
    height, width = picture.shape[:2]
    region = (left / width, top / height, right / width, bottom / height)
    seconds = float(seen.starts[row, middle])
    return Hit(value, seen.keys[row], seen.sources[row], seen.labels[row], seconds, picture.copy(), region, frames)
