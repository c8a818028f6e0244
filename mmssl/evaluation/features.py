"""Features of a frozen encoder over a set of clips, computed once for many probes.

Several bundles (the pretrained one and its random initialisations) share one pass over the stream: every clip is
decoded once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.data.stream import Stream
from mmssl.errors import UserError
from mmssl.evaluation.tokens import GIGABYTES, TokenStore, tokens_of
from mmssl.nn.encoders import Encoders

FORMAT = "mmssl-features-1"
Anchor = Literal["centre", "even"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FeatureTable:
    """Features of N clips.

    Args:
        keys: the clips' keys.
        features: float32 [N, V, D], one row a view.
        labels: the label of each clip, or None.
        metas: the json member of each clip.
        about: how they were made: encoder, spans, size, views, anchor, decoder, and the keys left out with the cause.
        tokens: float16 [N, V, L, C], the encoder's last map pooled to L places; None unless they were asked for.
    """

    keys: tuple[str, ...]
    features: np.ndarray
    labels: tuple[str | None, ...]
    metas: tuple[Mapping[str, Any], ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    tokens: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 3 or self.features.dtype != np.float32:
            raise ValueError(f"features must be float32 [N, V, D], got {self.features.dtype} {self.features.shape}")
        for name in ("keys", "labels", "metas"):
            if len(getattr(self, name)) != len(self.features):
                raise ValueError(f"{len(self.features)} features but {len(getattr(self, name))} {name}")
        if self.tokens is not None and (self.tokens.ndim != 4 or self.tokens.shape[:2] != self.features.shape[:2]):
            raise ValueError(f"tokens must be [N, V, L, C] of {self.features.shape[:2]}, got {self.tokens.shape}")

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        n, views, width = self.features.shape
        return f"FeatureTable({n} clips, {views} views, {width} dimensions, {len(set(self.labels))} labels)"

    def save(self, path: Path) -> None:
        """Write an ``.npz`` without pickles; the file appears whole."""
        rest = {"format": FORMAT, "keys": self.keys, "labels": self.labels, "metas": self.metas, "about": self.about}
        aside = path.with_name(f".{path.name}.{os.getpid()}.partial.npz")
        text = json.dumps(rest, default=dict).encode()
        arrays = {"features": self.features} | ({} if self.tokens is None else {"tokens": self.tokens})
        np.savez(aside, rest=np.frombuffer(text, dtype=np.uint8), **arrays)  # type: ignore[arg-type]
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> FeatureTable:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                rest = json.loads(stored["rest"].tobytes())
                features, tokens = stored["features"], stored["tokens"] if "tokens" in stored.files else None
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"features '{path}' cannot be read ({error}); extract them again") from error
        if rest.get("format") != FORMAT:
            raise UserError(f"features '{path}' have the format {rest.get('format')!r}, not {FORMAT!r}")
        return cls(tuple(rest["keys"]), features, tuple(rest["labels"]), tuple(rest["metas"]), rest["about"], tokens)


def join(tables: Sequence[FeatureTable]) -> FeatureTable:
    """The rows of several tables, made in one way, one after the other."""
    return FeatureTable(
        keys=tuple(key for table in tables for key in table.keys),
        features=np.concatenate([table.features for table in tables]),
        labels=tuple(label for table in tables for label in table.labels),
        metas=tuple(meta for table in tables for meta in table.metas),
        about=dict(tables[0].about) | {"left_out": {k: v for t in tables for k, v in t.about["left_out"].items()}},
        tokens=None if any(t.tokens is None for t in tables) else np.concatenate([t.tokens for t in tables]),  # type: ignore[misc]
    )


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
    progress: Progress | None = None,
    tokens: int = 0,
    token_gigabytes: float = GIGABYTES,
) -> list[FeatureTable]:
    """Features of every clip of the shards by several bundles of one architecture, each clip decoded once.

    The views lie at the clip's centre, or with several evenly spread at (i + 0.5) / V of its length. An image
    encoder sees the frames one by one and its vectors are averaged over a view; an audio encoder hears the sound of
    `picture.seconds`. Clips that cannot be decoded, or lack what the encoder needs, are left out and named in
    `about["left_out"]`.

    Args:
        bundles: the bundles.
        shards: shard specification.
        encoder: name of the encoder in each bundle; of modality image, video or audio.
        picture: length and rate of a view.
        size: height and width of the frames.
        views: views a clip.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoders run.
        autocast: whether they run in bfloat16; the features stay float32.
        progress: called with (clips done, clips in all).
        tokens: the most tokens a view that are kept of each bundle's last map; 0 keeps none.
        token_gigabytes: bound of the tokens' memory, all bundles together.

    Raises:
        UserError: the encoder is missing or of another modality, no clip has what it needs, or the tokens do not fit
            into their bound.
    """
    parts = [bundle[encoder].to(device).eval() for bundle in bundles]
    modality = parts[0].modality
    if modality not in ("image", "video", "audio"):
        raise UserError(f"encoder '{encoder}' is of modality '{modality}'; features are of image, video or audio")
    height, width = (size, size) if isinstance(size, int) else size
    sound = Span(picture.seconds, parts[0].rate) if modality == "audio" else None
    window = Window(None if sound else picture, sound, size=(height, width), views=views)
    anchor: Anchor = "centre" if views == 1 else "even"
    rows: list[list[np.ndarray]] = [[] for _ in bundles]
    store = TokenStore(len(bundles), tokens, token_gigabytes)
    keys: list[str] = []
    labels: list[str | None] = []
    metas: list[Mapping[str, Any]] = []
    left_out: dict[str, str] = {}
    stream = Stream(
        shards,
        window,
        batch_size,
        workers=workers,
        rank=0,
        world=1,
        shuffle=False,
        repeat=False,
        anchor=anchor,
        device=device,
    )
    with stream:
        total = stream.plan.samples
        for batch, truth in stream:
            kept = _kept_rows(batch, truth, modality, left_out)
            inputs = [_input(batch, modality, picture, view, parts[0]) for view in range(views)] if kept else []
            seen = [_encode(part, _as_seen(inputs, modality, part), autocast, tokens) for part in parts if kept]
            for own, (vectors, _) in zip(rows, seen, strict=False):
                own.append(vectors[kept])
            if tokens and kept:
                store.add([None if maps is None else maps[kept] for _, maps in seen], total)
            keys += [truth.keys[row] for row in kept]
            labels += [truth.labels[row] for row in kept]
            metas += [truth.metas[row] for row in kept]
            if progress is not None:
                progress(len(keys) + len(left_out), total)
        counters = dict(stream.counters)
    if not keys:
        causes = "; ".join(sorted(set(left_out.values())))
        raise UserError(f"no clip of '{shards}' gives features of the encoder '{encoder}' ({causes})")
    about = {
        "encoder": encoder,
        "seconds": picture.seconds,
        "rate": sound.rate if sound else picture.rate,
        "size": [height, width],
        "views": views,
        "anchor": anchor,
        "decoder": stream.settings.decoder,
        "precision": "bfloat16" if autocast else "float32",
        "decoder_calls": counters.get("decoder_calls", 0),
        "left_out": left_out,
    }
    shared = tuple(labels), tuple(metas), about
    return [
        FeatureTable(tuple(keys), np.concatenate(own).astype(np.float32), *shared, tokens=store.of(number))
        for number, own in enumerate(rows)
    ]


def _kept_rows(batch: Batch, truth: Truth, modality: str, left_out: dict[str, str]) -> list[int]:
    """Rows with what the encoder needs; the others are noted (rows without a key only fill the batch up)."""
    has = (batch.has_audio if modality == "audio" else batch.has_picture).tolist()
    kept = []
    for row, key in enumerate(truth.keys):
        if not key:
            continue
        if float(batch.weight[row]) == 0:
            left_out[key] = "could not be decoded"
        elif not has[row]:
            left_out[key] = "has no sound" if modality == "audio" else "has no picture"
        else:
            kept.append(row)
    return kept


def _input(batch: Batch, modality: str, picture: Span, view: int, part: Any) -> torch.Tensor:
    """What the encoder takes: video [B, 3, T, H, W], image [B, T, 3, H, W] (flattened later), log-mel [B, 1, M, F]."""
    if modality == "audio":
        spectrogram: torch.Tensor = part.frontend(batch.audio[:, view])
        return spectrogram
    frames = batch.frames_of(picture, view).float() / 255.0
    return frames.transpose(1, 2) if modality == "video" else frames


def _as_seen(inputs: Sequence[torch.Tensor], modality: str, part: Any) -> list[torch.Tensor]:
    """The inputs as an encoder of the other kind of pictures takes them: its clips are the other's frames."""
    turn = {modality, part.modality} == {"image", "video"}
    return [x.transpose(1, 2) if turn else x for x in inputs]


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
