"""Does the map know when nothing in sight sounds? Clips whose source is seen, is outside the picture, or is silent.

A map always has a maximum; only its height can say that there is nothing to point to. Judged is the frame at each
clip's middle with the sound around it, and the map's maximum as the score of the clip, beside scores that no map is
needed for: the loudness (which alone tells silence), the motion in the picture, and the map's maximum for silence,
which sees the picture alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.data.stream import Stream
from mmssl.errors import UserError
from mmssl.localization.baselines import motion_saliency
from mmssl.localization.evaluate import MOTION_GAP
from mmssl.localization.maps import check_head, match_maps, sound_seconds
from mmssl.localization.truth import PRESENCES, boxes_at, in_clip, in_frame, presence
from mmssl.metrics.detection import average_precision, best_f1, separation_interval
from mmssl.metrics.localization import peak_in_box, union_truth
from mmssl.nn.encoders import Encoders
from mmssl.nn.matcher import Matcher
from mmssl.ops.loudness import loudness

PROTOCOL = "presence-v1"
SCORES = ("model", "silenced_sound", "loudness", "motion")


@dataclass(frozen=True)
class PresenceScores:
    """What is known of each judged clip.

    Args:
        keys: the clips.
        group: which of `PRESENCES` each is, [N].
        scores: row of `SCORES` -> float64 [N], higher where something in sight should sound.
        right: float64 [N], whether the model's peak lies in the box; 0 where there is none.
        left_out: why clips were not judged.
    """

    keys: tuple[str, ...]
    group: np.ndarray
    scores: Mapping[str, np.ndarray]
    right: np.ndarray
    left_out: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values: for each row the separation of the seen sources from the others, and what is found in all."""
        seen = self.group == "on_screen"
        others = {"off_screen": self.group == "off_screen", "silent": self.group == "silent", "either": ~seen}
        rows: dict[str, Any] = {}
        for name in SCORES:
            values = self.scores[name]
            rows[name] = {"median": {g: _median(values[self.group == g]) for g in PRESENCES}}
            for against, chosen in others.items():
                if not chosen.any() or not seen.any():
                    rows[name][against] = None
                    continue
                interval = separation_interval(values[seen], values[chosen])
                rows[name][against] = {"auc": interval.mean, "low": interval.low, "high": interval.high}
        model = self.scores["model"]
        return {
            "protocol": PROTOCOL,
            "clips": {g: int((self.group == g).sum()) for g in PRESENCES},
            "left_out": dict(self.left_out),
            "score": "maximum of the map of the middle frame; intervals resample the clips of both groups",
            "rows": rows,
            "peak_in_box": float(self.right[seen].mean()) if seen.any() else None,
            "average_precision": average_precision(model, self.right, seen),
            "best_f1": best_f1(model, self.right, seen),
            "average_precision_of_equal_scores": average_precision(np.zeros(len(model)), self.right, seen),
        }


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def evaluate_presence(
    encoders: Encoders,
    head: Matcher,
    shards: str,
    *,
    size: int | tuple[int, int] = 96,
    batch_size: int = 32,
    workers: int = 2,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> PresenceScores:
    """Scores over all clips whose description says whether their source is seen.

    Args:
        encoders: the bundle.
        head: the head that a task exported.
        shards: shard specification.
        size: (height, width) that the model sees.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoders run.
        progress: called with (clips done, clips in all).

    Raises:
        UserError: the head has no map, or no clip can be judged.
    """
    check_head(encoders, head)
    encoders, head = encoders.to(device).eval(), head.to(device).eval()
    shape = (size, size) if isinstance(size, int) else size
    sound = Span(sound_seconds(head), encoders[head.encoders["sound"]].rate)
    window = Window(picture=Span(2 * MOTION_GAP, 1 / MOTION_GAP), sound=sound, size=shape)
    found: dict[str, list[Any]] = defaultdict(list)
    left_out: dict[str, int] = defaultdict(int)
    stream = Stream(
        shards,
        window,
        batch_size,
        workers=workers,
        rank=0,
        world=1,
        shuffle=False,
        repeat=False,
        anchor="centre",
        device=device,
    )
    with stream as passing:
        total = passing.plan.samples
        for done, (batch, truth) in enumerate(passing, start=1):
            _judge(encoders, head, batch, truth, found, left_out)
            if progress is not None:
                progress(min(done * batch_size, total), total)
    if not found["key"]:
        causes = ", ".join(f"{n} {cause}" for cause, n in left_out.items())
        raise UserError(
            f"no clip of '{shards}' can be judged ({causes}); the truth must say whether its source is seen"
        )
    scores = {name: np.concatenate(found[name]).astype(np.float64) for name in SCORES}
    return PresenceScores(
        tuple(found["key"]), np.array(found["group"]), scores, np.array(found["right"], dtype=np.float64), left_out
    )


def _judge(
    encoders: Encoders,
    head: Matcher,
    batch: Batch,
    truth: Truth,
    found: dict[str, list[Any]],
    left_out: dict[str, int],
) -> None:
    """Append the scores of a batch's clips."""
    rows, truths = [], []
    size = (int(batch.frames.shape[-2]), int(batch.frames.shape[-1]))
    for row, key in enumerate(truth.keys):
        if not key:
            continue
        group = presence(truth.metas[row])
        if float(batch.weight[row]) == 0:
            left_out["could not be decoded"] += 1
        elif group is None:
            left_out["not known whether seen"] += 1
        elif not (bool(batch.has_picture[row]) and bool(batch.has_audio[row])):
            left_out["without picture or sound"] += 1
        else:
            meta, time = truth.metas[row], float(batch.frame_times[row, 0, 1])
            boxes = in_clip(meta, boxes_at(meta, time, key)) if group == "on_screen" else []
            boxes = in_frame(boxes, batch.geometry[row].cpu().numpy(), size)
            if group == "on_screen" and not boxes:
                left_out["source not seen at the middle"] += 1
                continue
            rows.append(row)
            truths.append(union_truth(boxes))
            found["key"].append(key)
            found["group"].append(group)
    if not rows:
        return
    frames, waves = batch.frames[rows, 0], batch.audio[rows, 0]
    maps = match_maps(encoders, head, frames[:, 1], waves).cpu().numpy()
    silenced = match_maps(encoders, head, frames[:, 1], torch.zeros_like(waves)).cpu().numpy()
    pixels = frames.cpu().numpy()
    found["model"].append(maps.max(axis=(1, 2)))
    found["silenced_sound"].append(silenced.max(axis=(1, 2)))
    found["loudness"].append(loudness(waves).cpu().numpy())
    found["motion"].append(motion_saliency(pixels[:, 0], pixels[:, 1]).max(axis=(1, 2)))
    found["right"] += peak_in_box(maps, np.stack(truths)).tolist()
