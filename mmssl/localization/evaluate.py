"""Localization scores over clips with known boxes, the model beside every trivial way to point.

Judged is, by default, the frame at each clip's middle with the sound around it; with several frames they are evenly
spread and intervals are drawn over clips. Two passes over the stream: the sounds, then the pictures, so that each
picture can be shown the sound of any other clip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.data.shards.index import expand_shards
from mmssl.data.stream import Stream
from mmssl.errors import UserError
from mmssl.localization.baselines import motion_saliency, other_sounds, random_maps
from mmssl.localization.consensus import judged_truth
from mmssl.localization.maps import check_head, match_maps, sound_seconds
from mmssl.localization.prior import ROWS as PRIOR_ROWS
from mmssl.localization.prior import SHARE, object_prior, with_prior
from mmssl.localization.provenance import annotations_of
from mmssl.localization.scores import confidence, row_of
from mmssl.localization.truth import has_boxes, sound_kind
from mmssl.metrics.localization import (
    centre_disc,
    ciou_ceiling,
    fixed_threshold_iou,
    peak_in_box,
    published_ciou,
    success_auc,
    success_rate,
    whole_frame,
)
from mmssl.metrics.statistics import paired_difference, verdict
from mmssl.nn.encoders import Encoders
from mmssl.nn.matcher import Matcher

PROTOCOL = "localization-v2"
ROWS = (
    "model",
    "centre_disc",
    "whole_frame",
    "random_map",
    "motion_saliency",
    "shuffled_sound",
    "silenced_sound",
)
MOTION_GAP = 0.1  # seconds between the frames whose difference is the motion
Values = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class LocalizationScores:
    """What is known of each judged frame, and what follows.

    Args:
        about: protocol, frames, clips, what was left out.
        keys: the clip of each judged frame.
        peak: row -> float64 [N], peak in box; NaN where a row has no map for a frame.
        ciou: row -> float64 [N], cIoU at the median.
        iou: row -> float64 [N], IoU at half of the map's range.
        sure: row -> float64 [N], how sure the map is (`mmssl.localization.scores.confidence`).
        ceiling: float64 [N], the best cIoU that a half-area mask can reach.
    """

    about: Mapping[str, Any]
    keys: tuple[str, ...]
    peak: Mapping[str, np.ndarray]
    ciou: Mapping[str, np.ndarray]
    iou: Mapping[str, np.ndarray]
    sure: Mapping[str, np.ndarray]
    ceiling: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`, fractions: the rows, and the numbers that people look for first."""
        groups = np.array(self.keys)
        rows: dict[str, Any] = {}
        for name in self.peak:
            known = ~np.isnan(self.peak[name])
            if not known.any():
                rows[name] = None
                continue
            peak, ciou, iou, sure = (v[name][known] for v in (self.peak, self.ciou, self.iou, self.sure))
            rows[name] = row_of(peak, ciou, iou, groups[known], sure)
        rows["ceiling"] = {"ciou": success_rate(self.ceiling), "auc": success_auc(self.ceiling), "peak_in_box": 1.0}
        others = [name for name in self.peak if name != "model"]
        differences = {name: self._difference(name) for name in others if rows[name] is not None}
        first = {name: None if rows[name] is None else rows[name]["peak_in_box"] for name in ROWS[2:]}
        return {
            "evaluation": "localization",
            **self.about,
            "baselines": {name: value for name, value in first.items() if value is not None}
            | {"centre_disc": rows["centre_disc"]["peak_in_box"]},
            "peak_in_box": rows["model"]["peak_in_box"],
            "centre_prior": rows["centre_disc"]["peak_in_box"],
            **first,
            "ciou": rows["model"]["ciou"],
            "auc": rows["model"]["auc"],
            "average_precision": rows["model"]["ap_ciou"],
            "rows": rows,
            "model_minus": differences,
        }

    def _difference(self, name: str) -> dict[str, Any]:
        """Peak in box of the model minus that of a row, paired by frame."""
        known = ~np.isnan(self.peak[name])
        found = paired_difference(self.peak["model"][known], self.peak[name][known], np.array(self.keys)[known])
        return found.as_dict() | {"verdict": verdict(found)}


@dataclass(frozen=True)
class _Sounds:
    """The sounds of the clips that are judged."""

    keys: list[str]
    waves: np.ndarray  # float32 [N, V, S]
    other: np.ndarray  # int64 [N], whose sound is the wrong one; -1 if nobody's


def evaluate_localization(
    encoders: Encoders,
    head: Matcher,
    shards: str,
    *,
    size: int | tuple[int, int] = 96,
    frames: int = 1,
    batch_size: int = 32,
    workers: int = 2,
    device: torch.device | str = "cpu",
    seed: int = 0,
    prior: Encoders | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LocalizationScores:
    """Scores over all clips of the shards that have boxes and sound.

    Args:
        encoders: the bundle.
        head: the head that a task exported.
        shards: shard specification.
        size: (height, width) that the model sees.
        frames: frames judged a clip; 1 is the middle.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoders run.
        seed: of the random maps and of whose sound is the wrong one.
        prior: a bundle whose image encoder gives an object prior; adds the rows ``object_prior`` and
            ``model_with_object_prior`` and changes no other.
        progress: called with (clips done, clips in all), over both passes.

    Raises:
        UserError: the head has no map, or no clip has boxes and sound.
    """
    check_head(encoders, head)
    encoders, head = encoders.to(device).eval(), head.to(device).eval()
    prior = None if prior is None else prior.to(device).eval()
    shape = (size, size) if isinstance(size, int) else size
    anchor: Literal["centre", "even"] = "centre" if frames == 1 else "even"

    def stream(window: Window) -> Stream:
        return Stream(
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

    rate = encoders[head.encoders["sound"]].rate
    heard = Window(sound=Span(sound_seconds(head), rate), size=shape, views=frames)
    left_out: dict[str, int] = defaultdict(int)
    with stream(heard) as passing:
        total = 2 * passing.plan.samples
        sounds = _collect_sounds(passing, left_out, seed, lambda n: progress(n, total) if progress else None)
    if not sounds.keys:
        causes = ", ".join(f"{n} {cause}" for cause, n in left_out.items())
        raise UserError(f"no clip of '{shards}' can be judged ({causes}); localization scores need boxes and sound")
    seen = Window(picture=Span(2 * MOTION_GAP, 1 / MOTION_GAP), size=shape, views=frames)
    place = {key: row for row, key in enumerate(sounds.keys)}
    peak: Values = defaultdict(list)
    ciou: Values = defaultdict(list)
    iou: Values = defaultdict(list)
    sure: Values = defaultdict(list)
    metas: dict[str, Mapping[str, Any]] = {}
    annotators: set[int] = set()
    ceiling: list[np.ndarray] = []
    keys: list[str] = []
    with stream(seen) as passing:
        for done, (batch, truth) in enumerate(passing, start=1):
            for view in range(frames):
                judged = _judged_rows(batch, truth, view, place)
                if judged:
                    picked = [row for row, _, _ in judged]
                    keys += [truth.keys[row] for row in picked]
                    metas |= {truth.keys[row]: truth.metas[row] for row in picked}
                    annotators |= {count for _, _, count in judged}
                    made = _maps(encoders, head, batch, view, picked, sounds, place, seed)
                    if prior is not None:
                        frames_seen = batch.frames[picked, view, 1]
                        made |= _prior_maps(made["model"], object_prior(prior, frames_seen))
                    truths = np.stack([mask for _, mask, _ in judged])
                    ceiling.append(ciou_ceiling(truths))
                    for name, maps in made.items():
                        _judge(name, maps, truths, peak, ciou, iou, sure)
            if progress is not None:
                progress(min(total // 2 + done * batch_size, total), total)
    if not keys:
        raise UserError(f"no frame of '{shards}' shows a sounding thing at the judged time; raise --frames")
    about: dict[str, Any] = {
        "protocol": PROTOCOL,
        "clips": len(set(keys)),
        "n": len(keys),
        "frames_per_clip": frames,
        "views": frames,
        "seed": seed,
        "seeds": 1,
        "judged": "the frame at the clip's middle" if frames == 1 else f"{frames} frames evenly spread over the clip",
        "sound_seconds": sound_seconds(head),
        "size": list(shape),
        "decoder": passing.settings.decoder,
        "left_out": dict(left_out),
        "truth": _said_of(annotators),
        "annotations": annotations_of(metas, expand_shards(shards)),
        "map": "upsampled bilinearly to 224, median threshold for ciou and auc, half of the range for iou_fixed",
    }
    if prior is not None:
        about["object_prior"] = {"share": SHARE, "rows": list(PRIOR_ROWS), "map": "mean absolute feature, no sound"}
    peaks, cious, ious, sures = (
        {name: np.concatenate(parts) for name, parts in values.items()} for values in (peak, ciou, iou, sure)
    )
    return LocalizationScores(about, tuple(keys), peaks, cious, ious, sures, np.concatenate(ceiling))


def _said_of(annotators: set[int]) -> str:
    """How many drew the boxes of a clip, in words."""
    if annotators <= {1}:
        return "union of the boxes"
    several = ", ".join(str(count) for count in sorted(annotators - {1}))
    mixed = "; union of the boxes where one drew them" if 1 in annotators else ""
    return f"consensus of {several} annotators{mixed}"


def _collect_sounds(stream: Stream, left_out: dict[str, int], seed: int, tell: Callable[[int], None]) -> _Sounds:
    keys: list[str] = []
    kinds: list[str | None] = []
    sources: list[str] = []
    waves: list[np.ndarray] = []
    done = 0
    for batch, truth in stream:
        for row, key in enumerate(truth.keys):
            if not key:
                continue
            done += 1
            if float(batch.weight[row]) == 0:
                left_out["could not be decoded"] += 1
            elif not has_boxes(truth.metas[row]):
                left_out["without boxes"] += 1
            elif not bool(batch.has_audio[row]):
                left_out["without sound"] += 1
            else:
                keys.append(key)
                kinds.append(sound_kind(truth.metas[row], truth.labels[row]))
                sources.append(str(truth.metas[row].get("source") or key))
                waves.append(batch.audio[row].cpu().numpy().copy())
        tell(done)
    other = other_sounds(keys, kinds, sources, seed)
    return _Sounds(keys, np.stack(waves) if waves else np.zeros((0, 1, 1), np.float32), other)


def _judged_rows(batch: Batch, truth: Truth, view: int, place: Mapping[str, int]) -> list[tuple[int, np.ndarray, int]]:
    """(row, true mask, annotators) of the clips whose sounding thing is seen in the judged frame."""
    found = []
    size = (int(batch.frames.shape[-2]), int(batch.frames.shape[-1]))
    for row, key in enumerate(truth.keys):
        if key not in place or float(batch.weight[row]) == 0 or not bool(batch.has_picture[row]):
            continue
        meta, time = truth.metas[row], float(batch.frame_times[row, view, 1])
        try:
            seen = judged_truth(meta, time, key, batch.geometry[row].cpu().numpy(), size)
        except UserError as error:
            raise UserError(f"{error} (cut from '{meta.get('source') or 'a source that is not named'}')") from error
        if seen is not None:
            found.append((row, *seen))
    return found


def _maps(
    encoders: Encoders,
    head: Matcher,
    batch: Batch,
    view: int,
    rows: list[int],
    sounds: _Sounds,
    place: Mapping[str, int],
    seed: int,
) -> dict[str, np.ndarray]:
    """The maps [n, h, w] of every row of the table; NaN where nobody's sound could be the wrong one."""
    frames = batch.frames[rows, view]  # [n, 2, 3, H, W]: before, judged
    own = np.array([place[batch.keys[row]] for row in rows])

    def listen(waves: np.ndarray) -> np.ndarray:
        wave = torch.from_numpy(np.ascontiguousarray(waves)).to(batch.device)
        return match_maps(encoders, head, frames[:, 1], wave).cpu().numpy()

    wrong = sounds.other[own]
    model = listen(sounds.waves[own, view])
    shuffled = listen(sounds.waves[np.where(wrong < 0, own, wrong), view])
    shuffled[wrong < 0] = np.nan
    pixels = frames.cpu().numpy()
    names = [f"{batch.keys[row]}/{view}" for row in rows]
    n = len(rows)
    return {
        "model": model,
        "centre_disc": np.repeat(centre_disc()[None], n, axis=0),
        "whole_frame": np.repeat(whole_frame()[None], n, axis=0),
        "random_map": random_maps(names, (model.shape[1], model.shape[2]), seed),
        "motion_saliency": motion_saliency(pixels[:, 0], pixels[:, 1]),
        "shuffled_sound": shuffled,
        "silenced_sound": listen(np.zeros_like(sounds.waves[own, view])),
    }


def _prior_maps(model: np.ndarray, prior: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(PRIOR_ROWS, (prior, with_prior(model, prior)), strict=True))


def _judge(
    name: str, maps: np.ndarray, truths: np.ndarray, peak: Values, ciou: Values, iou: Values, sure: Values
) -> None:
    """Append the metrics of the maps; NaN for a map that is not there."""
    here = ~np.isnan(maps).any(axis=(1, 2))
    for values, metric in ((peak, peak_in_box), (ciou, published_ciou), (iou, fixed_threshold_iou)):
        found = np.full(len(maps), np.nan)
        if here.any():
            found[here] = metric(maps[here], truths[here])
        values[name].append(found)
    scores = np.full(len(maps), np.nan)
    scores[here] = confidence(maps[here]) if here.any() else np.nan
    sure[name].append(scores)
