"""Features of a frozen encoder over a set of clips, computed once for many probes.

Several bundles (the pretrained one and its random initialisations) share one pass over the stream: every clip is
decoded once. With a cache (`mmssl.evaluation.feature_cache`) only bundles whose features are not kept are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.data.flow import CodecFlow
from mmssl.data.stream import Stream
from mmssl.errors import UserError
from mmssl.evaluation.feature_cache import FeatureCache, is_lasting, shards_digest, table_key
from mmssl.evaluation.feature_table import FeatureTable, join
from mmssl.evaluation.tokens import GIGABYTES, TokenStore, tokens_of
from mmssl.nn.encoders import Encoders
from mmssl.ops.flow_input import to_pixels, without_pan

__all__ = ["FeatureTable", "Progress", "extract", "extract_all", "join"]

PICTURES = ("image", "video")
MODALITIES = (*PICTURES, "audio", "flow")
LACKS = {"audio": "has no sound", "flow": "has no motion vectors"}
DECODER = "pyav"
Anchor = Literal["centre", "even"]
Progress = Callable[[int, int], None]


def extract(
    encoders: Encoders,
    shards: str,
    *,
    encoder: str = "video",
    picture: Span = Span(2.0, 8.0),
    size: int | tuple[int, int] = 96,
    views: int = 1,
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> FeatureTable:
    """Features of every clip of the shards by one bundle; see `extract_all`."""
    return extract_all(
        [encoders],
        shards,
        encoder=encoder,
        picture=picture,
        size=size,
        views=views,
        batch_size=batch_size,
        workers=workers,
        device=device,
        autocast=autocast,
        cache=cache,
        progress=progress,
    )[0]


def extract_all(
    bundles: Sequence[Encoders],
    shards: str,
    *,
    encoder: str = "video",
    picture: Span = Span(2.0, 8.0),
    size: int | tuple[int, int] = 96,
    views: int = 1,
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
    tokens: int = 0,
    token_gigabytes: float = GIGABYTES,
) -> list[FeatureTable]:
    """Features of every clip of the shards by several bundles, each clip decoded once.

    The views lie at the clip's centre, or with several evenly spread at (i + 0.5) / V of its length. An image
    encoder sees the frames one by one and its vectors are averaged over a view; an audio encoder hears the sound of
    `picture.seconds`; a flow encoder sees the codec's motion vectors between the frames, without their mean movement,
    as the task `rgb_flow` shows them. Clips that cannot be decoded, or lack what the encoder needs, are left out and
    named in `about["left_out"]`. `about["decoder_calls"]` counts those made for this call, and
    `about["clips_from_cache"]` is the number of clips or 0.

    Args:
        bundles: the bundles; their encoders are of one modality (and of one rate, if they hear).
        shards: shard specification.
        encoder: name of the encoder in each bundle; of modality image, video, audio or flow.
        picture: length and rate of a view.
        size: height and width of the frames.
        views: views a clip.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoders run.
        autocast: whether they run in bfloat16; the features stay float32.
        cache: where tables are looked up and kept; nothing is kept without one.
        progress: called with (clips done, clips in all).
        tokens: the most tokens a view that are kept of each bundle's last map; 0 keeps none.
        token_gigabytes: bound of the tokens' memory, all bundles together.

    Raises:
        UserError: the encoder is missing or of another modality, no clip has what it needs, or the tokens do not fit
            into their bound.
    """
    parts = [bundle[encoder].to(device).eval() for bundle in bundles]
    view = _View.of(parts, encoder, picture, size, views)
    precision = "bfloat16" if autocast else "float32"
    store = TokenStore(len(parts), tokens, token_gigabytes)
    if cache is None:
        return _run(parts, shards, view, batch_size, workers, device, precision, progress, store)[0]
    digest = shards_digest(shards)
    keys = [
        table_key(
            part,
            bundle.builds.get(encoder),
            digest,
            view.window,
            DECODER,
            name=encoder,
            anchor=view.anchor,
            precision=precision,
            device=torch.device(device).type,
            tokens=tokens,
        )
        for part, bundle in zip(parts, bundles, strict=True)
    ]
    tables: dict[str, FeatureTable] = {}
    for key in dict.fromkeys(keys):
        if (kept := cache.get(key)) is not None:
            about = {**kept.about, "decoder_calls": 0, "clips_from_cache": len(kept)}
            tables[key] = replace(kept, about=about)
    # Bundles that share an encoder, as those do that differ in their heads alone, are run once.
    missing = {key: part for key, part in zip(keys, parts, strict=True) if key not in tables}
    if missing:
        wanted = list(missing.values())
        store = TokenStore(len(wanted), tokens, token_gigabytes)
        made, lasting = _run(wanted, shards, view, batch_size, workers, device, precision, progress, store)
        for key, table in zip(missing, made, strict=True):
            tables[key] = table
            if lasting:
                cache.put(key, table)
    return [tables[key] for key in keys]


@dataclass(frozen=True)
class _View:
    """What the encoders are shown of a clip."""

    encoder: str
    modality: str
    picture: Span
    window: Window
    anchor: Anchor

    @classmethod
    def of(cls, parts: Sequence[Any], encoder: str, picture: Span, size: int | tuple[int, int], views: int) -> _View:
        modality = parts[0].modality
        if modality not in MODALITIES:
            raise UserError(
                f"encoder '{encoder}' is of modality '{modality}'; features are of image, video, audio or flow"
            )
        # Encoders of frames and of clips are shown the same frames.
        kinds = {("pictures" if p.modality in PICTURES else p.modality, getattr(p, "rate", None)) for p in parts}
        if len(kinds) > 1:
            raise UserError(f"the encoders '{encoder}' take different inputs; extract their features one by one")
        if modality == "flow" and picture.count < 2:
            raise UserError("movement needs at least two frames; give a longer view or a higher rate")
        height, width = (size, size) if isinstance(size, int) else size
        sound = Span(picture.seconds, parts[0].rate) if modality == "audio" else None
        shown = None if sound else picture
        window = Window(shown, sound, size=(height, width), views=views, motion=modality == "flow")
        return cls(encoder, modality, picture, window, "centre" if views == 1 else "even")


def _run(
    parts: Sequence[Any],
    shards: str,
    view: _View,
    batch_size: int,
    workers: int,
    device: torch.device | str,
    precision: str,
    progress: Progress | None,
    store: TokenStore,
) -> tuple[list[FeatureTable], bool]:
    """One pass over the shards for all encoders; also whether another pass would leave the same clips out."""
    rows: list[list[np.ndarray]] = [[] for _ in parts]
    keys: list[str] = []
    labels: list[str | None] = []
    metas: list[Mapping[str, Any]] = []
    left_out: dict[str, str] = {}
    stream = Stream(
        shards,
        view.window,
        batch_size,
        workers=workers,
        rank=0,
        world=1,
        shuffle=False,
        repeat=False,
        anchor=view.anchor,
        decoder=DECODER,
        device=device,
    )
    with stream:
        total = stream.plan.samples
        for batch, truth in stream:
            kept = _kept_rows(batch, truth, view.modality, left_out)
            seen = []
            for own, part in zip(rows, parts, strict=True):
                if kept:
                    inputs = (_input(batch, view, number, part) for number in range(view.window.views))
                    vectors, maps = _encode(part, inputs, precision == "bfloat16", store.limit)
                    own.append(vectors[kept])
                    seen.append(None if maps is None else maps[kept])
            if store.limit and kept:
                store.add(seen, total)
            keys += [truth.keys[row] for row in kept]
            labels += [truth.labels[row] for row in kept]
            metas += [truth.metas[row] for row in kept]
            if progress is not None:
                progress(len(keys) + len(left_out), total)
        counters = dict(stream.counters)
    if not keys:
        causes = "; ".join(sorted(set(left_out.values())))
        raise UserError(f"no clip of '{shards}' gives features of the encoder '{view.encoder}' ({causes})")
    about = {
        "encoder": view.encoder,
        "seconds": view.picture.seconds,
        "rate": view.window.sounds[0].rate if view.window.sounds else view.picture.rate,
        "size": list(view.window.size),
        "views": view.window.views,
        "anchor": view.anchor,
        "decoder": stream.settings.decoder,
        "precision": precision,
        "decoder_calls": counters.get("decoder_calls", 0),
        "clips_from_cache": 0,
        "left_out": left_out,
    }
    shared = tuple(labels), tuple(metas), about
    tables = [
        FeatureTable(tuple(keys), np.concatenate(own).astype(np.float32), *shared, tokens=store.of(number))
        for number, own in enumerate(rows)
    ]
    return tables, is_lasting(counters)


def _kept_rows(batch: Batch, truth: Truth, modality: str, left_out: dict[str, str]) -> list[int]:
    """Rows with what the encoder needs; the others are noted (rows without a key only fill the batch up)."""
    has = (batch.has_audio if modality == "audio" else batch.has_picture).tolist()
    if modality == "flow" and batch.motion_known is not None:
        has = batch.motion_known[:, :, 1:].flatten(1).any(dim=1).tolist()
    kept = []
    for row, key in enumerate(truth.keys):
        if not key:
            continue
        if float(batch.weight[row]) == 0:
            left_out[key] = "could not be decoded"
        elif not has[row]:
            left_out[key] = LACKS.get(modality, "has no picture")
        else:
            kept.append(row)
    return kept


def _input(batch: Batch, view: _View, number: int, part: Any) -> torch.Tensor:
    """What the encoder takes of a view: video [B, 3, T, H, W], image [B, T, 3, H, W] (flattened later), flow
    [B, 2, T - 1, H, W], sound what the encoder's own `frontend` makes of it. Pictures are made once for all encoders.
    """
    if view.modality == "audio":
        heard: torch.Tensor = part.frontend(batch.audio[:, number])
        return heard
    make = _flow if view.modality == "flow" else _frames
    made = batch.once(("features", view, number), lambda: make(batch, view, number))
    return made.transpose(1, 2) if {view.modality, part.modality} == set(PICTURES) else made


def _frames(batch: Batch, view: _View, number: int) -> torch.Tensor:
    frames = batch.frames_of(view.picture, number).float() / 255.0
    return frames.transpose(1, 2) if view.modality == "video" else frames


def _flow(batch: Batch, view: _View, number: int) -> torch.Tensor:
    """Movement as the task `rgb_flow` shows it to its flow encoder, but never mirrored nor turned round."""
    times = batch.times(view.picture, number)
    values, known = batch.motion_at(times[:, 1:], number)
    flow = without_pan(values * known[:, :, None], known)
    return to_pixels(flow, CodecFlow.cell, view.window.size).transpose(1, 2)


@torch.inference_mode()
def _encode(
    part: Any, inputs: Iterable[torch.Tensor], autocast: bool, tokens: int = 0
) -> tuple[np.ndarray, np.ndarray | None]:
    """Float32 [B, V, D], and with `tokens` float16 [B, V, L, C] or None."""
    pooled, maps = [], []
    for x in inputs:
        frames = x.shape[1] if part.modality == "image" else 1
        with torch.autocast(x.device.type, torch.bfloat16) if autocast else nullcontext():
            found = part(x.flatten(0, 1) if part.modality == "image" else x)
        pooled.append(found.pooled.float().unflatten(0, (-1, frames)).mean(dim=1).cpu())
        if tokens:
            maps.append(tokens_of(found, frames, tokens))
    stacked = torch.stack(pooled, dim=1).numpy()
    if not np.isfinite(stacked).all():
        raise UserError("the encoder gives features that are not finite; its weights are broken, train it again")
    with_tokens = [m for m in maps if m is not None]
    return stacked, torch.stack(with_tokens, dim=1).numpy() if with_tokens else None
