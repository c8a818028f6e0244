"""Pictures, sounds and sentences of clips embedded by exported heads, each clip decoded once for all models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.data.stream import Stream
from mmssl.errors import UserError
from mmssl.evaluation.sentences import RULES, SentenceRule, chosen_sentences, words
from mmssl.evaluation.sides import Side
from mmssl.nn.encoders import Encoders
from mmssl.nn.matcher import Matcher

Model = tuple[Encoders, Matcher]
FRAME = Span(1 / 8, 8.0)  # one frame
MODALITIES = ("picture", "sound", "text")


@dataclass(frozen=True)
class Pairs:
    """Clips that have both modalities of a head, without their vectors.

    Args:
        modalities: the two modalities of the head, for instance ("picture", "sound").
        keys: the clips' keys.
        labels: their own labels, or None.
        metas: their descriptions.
        texts: what the sentences of each clip say, word by word, in small letters; empty without text.
        about: how they were made.
        left_out: key -> cause.
    """

    modalities: tuple[str, str]
    keys: tuple[str, ...]
    labels: tuple[str | None, ...]
    metas: tuple[Mapping[str, Any], ...]
    texts: tuple[tuple[str, ...], ...]
    about: Mapping[str, Any]
    left_out: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.keys)


def modalities_of(encoders: Encoders, head: Matcher) -> tuple[str, str]:
    """The two modalities that a head compares, the picture first.

    Raises:
        UserError: it compares something else than picture, sound and text, or the bundle lacks an encoder.
    """
    names = tuple(sorted(head.encoders, key=lambda n: MODALITIES.index(n) if n in MODALITIES else -1))
    if len(names) != 2 or not set(names) <= set(MODALITIES):
        raise UserError(
            f"the head {type(head).__name__} compares {' and '.join(names)}; retrieval needs two of "
            f"{', '.join(MODALITIES)}"
        )
    for encoder in head.encoders.values():
        encoders[encoder]  # raises for one that is missing
    if "text" in names and encoders.tokenizer is None:
        raise UserError("the encoders have no tokenizer.json, so sentences cannot be read")
    return names[0], names[1]


def embed_pairs(
    models: Sequence[Model],
    shards: str,
    *,
    sentences: SentenceRule = "nearest",
    seconds: float | None = None,
    rate: float = 8.0,
    size: int | tuple[int, int] = 96,
    views: int = 1,
    max_sentences: int = 8,
    batch_size: int = 32,
    workers: int = 2,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Pairs, list[dict[str, Side]]]:
    """The clips of the shards that have both modalities, and their vectors by each model.

    An image encoder sees the frame at a view's middle, a video encoder `seconds` around it; a sound is as long as the
    head was trained with. Clips that lack a modality, or cannot be decoded, are left out and named.

    Args:
        models: bundles and heads of one architecture.
        shards: shard specification.
        sentences: which sentences of a clip are its text, see `RULES`.
        seconds: length of the picture of a video encoder (and of the sound, where the head does not say its own);
            the head's length of sound, else 2 s, unless given.
        rate: frames a second.
        size: height and width of the frames.
        views: views a clip, evenly spread; 1 is the middle.
        max_sentences: sentences of a clip that are looked at, nearest to its middle first.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoders run.
        autocast: whether they run in bfloat16; vectors stay float32.
        progress: called with (clips done, clips in all).

    Raises:
        UserError: the head compares something else, a setting makes no sense, or no clip has both modalities.
    """
    if sentences not in RULES:
        raise UserError(f"sentences must be one of {', '.join(RULES)}, got '{sentences}'")
    encoders, head = models[0]
    modalities = modalities_of(encoders, head)
    heard = getattr(head, "sound_seconds", None)
    length = float(seconds if seconds is not None else heard or 2.0)
    shape = (size, size) if isinstance(size, int) else size
    try:
        still = encoders[head.encoders["picture"]].modality == "image" if "picture" in modalities else True
        picture = FRAME if still else Span(length, rate)
        sound = Span(float(heard or length), encoders[head.encoders["sound"]].rate) if "sound" in modalities else None
        window = Window(
            picture if "picture" in modalities else None, sound, "text" in modalities, size=shape, views=views
        )
    except ValueError as error:
        raise UserError(f"seconds={seconds}, rate={rate}, size={size}, views={views}: {error}") from error
    reader = _Reader(modalities, picture, still, sentences, autocast)
    models = [(bundle.to(device).eval(), matcher.to(device).eval()) for bundle, matcher in models]
    found: list[dict[str, list[np.ndarray]]] = [{name: [] for name in modalities} for _ in models]
    keys: list[str] = []
    labels: list[str | None] = []
    metas: list[Mapping[str, Any]] = []
    texts: list[tuple[str, ...]] = []
    left_out: dict[str, str] = {}
    stream = Stream(
        shards,
        window,
        batch_size,
        workers=workers,
        rank=0,
        world=1,
        max_sentences=max_sentences,
        shuffle=False,
        repeat=False,
        anchor="centre" if views == 1 else "even",
        device=device,
    )
    with stream:
        total = stream.plan.samples
        for batch, truth in stream:
            said = reader.said(batch)
            kept = _kept_rows(batch, truth, modalities, said, left_out)
            if kept:
                reader.count(said, kept, encoders)
                for (bundle, matcher), sides in zip(models, found, strict=True):
                    for name, vectors in reader.embed(batch, said, kept, bundle, matcher).items():
                        sides[name].append(vectors)
            keys += [truth.keys[row] for row in kept]
            labels += [truth.labels[row] for row in kept]
            metas += [truth.metas[row] for row in kept]
            texts += [tuple(words(text) for text in said[row]) for row in kept]
            if progress is not None:
                progress(len(keys) + len(left_out), total)
        decoder = stream.settings.decoder
    if not keys:
        causes = "; ".join(sorted(set(left_out.values())))
        raise UserError(f"no clip of '{shards}' has {' and '.join(modalities)} ({causes})")
    about: dict[str, Any] = {"modalities": list(modalities), "views": views, "decoder": decoder}
    about |= {"precision": "bfloat16" if autocast else "float32"}
    if "picture" in modalities:
        about["picture"] = {"seconds": 0.0 if still else length, "rate": rate, "size": list(shape)}
    if sound is not None:
        about["sound"] = {"seconds": sound.seconds, "rate": sound.rate}
    if "text" in modalities:
        about["text"] = {"rule": RULES[sentences], "max_sentences": max_sentences, "full_length": reader.filled}
    pairs = Pairs(modalities, tuple(keys), tuple(labels), tuple(metas), tuple(texts), about, left_out)
    return pairs, [{name: _side(parts) for name, parts in sides.items()} for sides in found]


class _Reader:
    """Vectors of the kept rows of a batch."""

    def __init__(
        self, modalities: tuple[str, str], picture: Span, still: bool, rule: SentenceRule, autocast: bool
    ) -> None:
        self.modalities, self.picture, self.still = modalities, picture, still
        self.rule, self.autocast = rule, autocast
        self.filled = 0  # texts that fill the tokenizer's length: what they say beyond it is not read

    def said(self, batch: Batch) -> list[list[str]]:
        """The texts of every row."""
        if "text" not in self.modalities:
            return [[] for _ in batch.keys]
        rows = zip(batch.sentences, batch.duration.tolist(), strict=True)
        return [chosen_sentences(row, duration, self.rule) for row, duration in rows]

    def count(self, said: list[list[str]], kept: list[int], bundle: Encoders) -> None:
        """Count the texts that fill the tokenizer's length."""
        if bundle.tokenizer is not None:
            ids = bundle.tokenizer.encode([text for row in kept for text in said[row]])
            self.filled += int((ids[:, -1] != 0).sum())

    @torch.inference_mode()
    def embed(
        self, batch: Batch, said: list[list[str]], kept: list[int], bundle: Encoders, head: Matcher
    ) -> dict[str, np.ndarray]:
        """Modality -> float32 [n, V, P, D]; sentences that a clip lacks are NaN."""
        made = {}
        for name in self.modalities:
            with torch.autocast(batch.device.type, torch.bfloat16) if self.autocast else nullcontext():
                vectors = (
                    self._texts([said[row] for row in kept], bundle, head, batch.device)
                    if name == "text"
                    else torch.stack([self._seen_or_heard(name, batch, v, bundle, head) for v in self._views(batch)], 1)
                )
            rows = vectors.float() if name == "text" else vectors[kept].float()
            if name != "text" and not bool(rows.isfinite().all()):
                raise UserError(f"the head gives vectors of the {name} that are not finite; its weights are broken")
            made[name] = rows.cpu().numpy()
        return made

    def _views(self, batch: Batch) -> range:
        return range(batch.anchors.shape[1])

    def _seen_or_heard(self, name: str, batch: Batch, view: int, bundle: Encoders, head: Matcher) -> torch.Tensor:
        """[B, P, D] of a view."""
        part = bundle[head.encoders[name]]
        if name == "sound":
            return head.parts(name, part(part.frontend(batch.audio[:, view])))
        frames = batch.frames_of(self.picture, view).float() / 255.0
        return head.parts(name, part(frames[:, 0] if self.still else frames.transpose(1, 2)))

    def _texts(self, said: list[list[str]], bundle: Encoders, head: Matcher, device: torch.device) -> torch.Tensor:
        """[n, 1, M, D], NaN beyond a clip's sentences."""
        assert bundle.tokenizer is not None  # checked by modalities_of
        flat = [text for texts in said for text in texts]
        ids = torch.from_numpy(bundle.tokenizer.encode(flat)).to(device)
        rows = head.parts("text", bundle[head.encoders["text"]](ids, ids != 0))[:, 0]
        if not bool(rows.isfinite().all()):
            raise UserError("the head gives vectors of the text that are not finite; its weights are broken")
        most = max(len(texts) for texts in said)
        made = rows.new_full((len(said), 1, most, rows.shape[1]), torch.nan)
        first = 0
        for row, texts in enumerate(said):
            made[row, 0, : len(texts)] = rows[first : first + len(texts)]
            first += len(texts)
        return made


def _kept_rows(
    batch: Batch, truth: Truth, modalities: tuple[str, str], said: list[list[str]], left_out: dict[str, str]
) -> list[int]:
    """Rows with both modalities; the others are noted (rows without a key only fill the batch up)."""
    has = {"picture": batch.has_picture.tolist(), "sound": batch.has_audio.tolist(), "text": [bool(s) for s in said]}
    kept = []
    for row, key in enumerate(truth.keys):
        if not key:
            continue
        lacking = [name for name in modalities if not has[name][row]]
        if float(batch.weight[row]) == 0:
            left_out[key] = "could not be decoded"
        elif lacking:
            left_out[key] = f"has no {' and no '.join(lacking)}"
        else:
            kept.append(row)
    return kept


def _side(batches: Sequence[np.ndarray]) -> Side:
    """The rows of all batches, padded to the most parts."""
    most = max(part.shape[2] for part in batches)
    padded = [
        np.pad(part, ((0, 0), (0, 0), (0, most - part.shape[2]), (0, 0)), constant_values=np.nan) for part in batches
    ]
    vectors = np.concatenate(padded).astype(np.float32)
    there = np.isfinite(vectors[:, 0, :, 0])
    return Side(np.nan_to_num(vectors), there)
