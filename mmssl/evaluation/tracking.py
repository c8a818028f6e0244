"""How well features carry an object's first mask through a film, beside three ways that need no training.

The protocol is that of DAVIS-2017, semi-supervised: the first frame's mask is given, first and last frame are not
judged, J and F are means over an object's frames, then over all objects of all clips. Objects that the first frame does
not show are not judged. The rows beside the model: its architecture with random weights, the first mask left where it
is, and the first mask pulled along by optical flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mmssl.errors import UserError
from mmssl.evaluation.masked_clips import MaskedClip, masked_clips
from mmssl.evaluation.per_clip import PerClip
from mmssl.evaluation.propagation import Propagation, cell_features, flow_warped_masks, object_ids, propagated_masks
from mmssl.metrics.segmentation import boundary_accuracy, bounding_boxes, region_similarity
from mmssl.metrics.statistics import bootstrap, paired_difference, verdict
from mmssl.nn.encoders import Encoders

PROTOCOL = "propagation-davis-v1"
Labels = Literal["masks", "boxes"]
ROWS = ("model", "random_init", "copy_first", "flow_warp")
LEAST_CLIPS = 5  # with fewer, an interval over clips says nothing
LEAST_FRAMES = 3


@dataclass(frozen=True)
class PropagationScores:
    """J and F of each object under each way to follow it.

    Args:
        about: protocol, settings, what was left out.
        objects: (clip, id) of each of the N objects.
        region: row -> float64 [N], mean J over the object's frames.
        boundary: row -> float64 [N], mean F; NaN for boxes, which have no boundary of their own.
    """

    about: Mapping[str, Any]
    objects: tuple[tuple[str, int], ...]
    region: Mapping[str, np.ndarray]
    boundary: Mapping[str, np.ndarray]

    def means(self, row: str) -> np.ndarray:
        """Float64 [N]: what an object is judged by, (J + F) / 2, or J alone for boxes."""
        if self.about["labels"] == "boxes":
            return self.region[row]
        return np.asarray((self.region[row] + self.boundary[row]) / 2)

    def per_clip(self) -> PerClip:
        """What each object is judged by, for comparisons of runs."""
        keys = tuple(f"{clip}#{i}" for clip, i in self.objects)
        return PerClip(keys, tuple(clip for clip, _ in self.objects), {row: self.means(row)[None] for row in ROWS})

    def difference(self, row: str) -> dict[str, Any]:
        """The model minus a row: mean, 95 % interval over clips and a verdict; the mean alone with too few clips."""
        ours, theirs = self.means("model"), self.means(row)
        groups = np.array([clip for clip, _ in self.objects])
        if len(set(groups)) < LEAST_CLIPS:
            return {"mean": float((ours - theirs).mean()), "verdict": f"fewer than {LEAST_CLIPS} clips: no interval"}
        interval = paired_difference(ours, theirs, groups)
        return interval.as_dict() | {"verdict": verdict(interval)}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`, fractions."""
        groups = np.array([clip for clip, _ in self.objects])
        rows: dict[str, Any] = {}
        for row in ROWS:
            rows[row] = {"j": float(self.region[row].mean()), "j_and_f": float(self.means(row).mean())}
            if self.about["labels"] == "masks":
                rows[row]["f"] = float(self.boundary[row].mean())
            if len(set(groups)) >= LEAST_CLIPS:
                rows[row]["interval"] = bootstrap(self.means(row), groups).as_dict()
        if self.about["labels"] == "boxes":
            for row in ROWS:
                rows[row]["box_iou"] = rows[row].pop("j")
                del rows[row]["j_and_f"]
        return {
            "evaluation": "propagation",
            **self.about,
            "clips": len(set(groups)),
            "objects": len(self.objects),
            "baselines": {row: float(self.means(row).mean()) for row in ROWS[1:]},
            "rows": rows,
            "model_minus": {row: self.difference(row) for row in ROWS[1:]},
            "by_object": [
                {"clip": clip, "object": i, **{row: float(self.means(row)[n]) for row in ROWS}}
                for n, (clip, i) in enumerate(self.objects)
            ],
        }


def followed(
    clip: MaskedClip, encoders: Encoders, how: Propagation, encoder: str = "image", labels: Labels = "masks"
) -> torch.Tensor:
    """Uint8 [T, H, W]: the first mask (or its objects' boxes) of a clip, followed by an encoder's features."""
    device = next(encoders.parameters()).device
    features = cell_features(encoders, clip.frames.to(device), how, encoder)
    return propagated_masks(features, first_mask(clip, labels), how)


def first_mask(clip: MaskedClip, labels: Labels) -> torch.Tensor:
    """Uint8 [H, W]: the first frame's mask, or the filled boxes of its objects, smaller ones above larger ones."""
    mask = clip.masks[0]
    if labels == "masks":
        return mask
    ids = object_ids(mask)
    boxes = bounding_boxes(torch.stack([mask == i for i in ids]))
    made = torch.zeros_like(mask)
    for box, i in sorted(zip(boxes, ids, strict=True), key=lambda pair: -int(pair[0].sum())):
        made[box] = i
    return made


def judge(found: torch.Tensor, clip: MaskedClip, labels: Labels = "masks") -> tuple[np.ndarray, np.ndarray]:
    """(J, F), float64 [N] each, of masks [T, H, W] of the clip's N objects; F is NaN for boxes."""
    region, boundary = [], []
    for i in object_ids(clip.masks[0]):
        ours, truth = found[1:-1] == i, clip.masks[1:-1] == i
        if labels == "boxes":
            ours, truth = bounding_boxes(ours), bounding_boxes(truth)
        region.append(float(region_similarity(ours, truth).mean()))
        boundary.append(float(boundary_accuracy(ours, truth).mean()) if labels == "masks" else float("nan"))
    return np.array(region), np.array(boundary)


def evaluate_propagation(
    encoders: Path,
    clips: Path,
    *,
    how: Propagation | None = None,
    labels: Labels = "masks",
    split: str = "test",
    limit: int | None = None,
    encoder: str = "image",
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> PropagationScores:
    """Follow the objects of clips by a run's encoder, and by the ways that need no training.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        clips: a folder for `masked_clips`.
        how: settings of the propagation; the model and the random weights have the same ones.
        labels: "masks", or "boxes": the first frame's boxes are followed and the boxes around what was followed
            judged.
        split: part of a Soundstage corpus.
        limit: how many clips at most.
        encoder: a picture encoder of the bundle.
        seed: of the random weights.
        device: where the encoders run.
        progress: is called with the number of clips done.

    Raises:
        UserError: the folder has no such clips, or none with an object in its first frame.
    """
    how = how or Propagation()
    bundles = {
        "model": Encoders.from_pretrained(encoders).to(device),
        "random_init": Encoders.from_pretrained(encoders, random_init=True, seed=seed).to(device),
    }
    region: dict[str, list[np.ndarray]] = {row: [] for row in ROWS}
    boundary: dict[str, list[np.ndarray]] = {row: [] for row in ROWS}
    objects: list[tuple[str, int]] = []
    left_out: dict[str, str] = {}
    for number, clip in enumerate(_usable(masked_clips(clips, split, limit), left_out)):
        first = first_mask(clip, labels)
        masks = {row: followed(clip, bundle, how, encoder, labels) for row, bundle in bundles.items()}
        masks["copy_first"] = first.expand(len(clip.frames), -1, -1)
        masks["flow_warp"] = flow_warped_masks(clip.frames, first)
        for row in ROWS:
            j, f = judge(masks[row], clip, labels)
            region[row].append(j)
            boundary[row].append(f)
        objects += [(clip.key, i) for i in object_ids(clip.masks[0])]
        progress(number + 1)
    if not objects:
        raise UserError(f"no clip in '{clips}' shows an object in its first frame and lasts {LEAST_FRAMES} frames")
    about = {
        "protocol": PROTOCOL,
        "labels": labels,
        "encoder": encoder,
        "settings": asdict(how),
        "seed": seed,
        "seeds": 1,
        "views": "every frame",
        "decoder": "pyav" if (clips / "manifest.jsonl").is_file() else "pictures",
        "left_out": left_out,
    }
    together = ({row: np.concatenate(values) for row, values in found.items()} for found in (region, boundary))
    return PropagationScores(about, tuple(objects), *together)


def _usable(clips: Iterable[MaskedClip], left_out: dict[str, str]) -> Iterable[MaskedClip]:
    """The clips that can be judged; the others are noted with their cause."""
    for clip in clips:
        if len(clip.frames) < LEAST_FRAMES:
            left_out[clip.key] = f"has {len(clip.frames)} frames"
        elif not object_ids(clip.masks[0]):
            left_out[clip.key] = "no object in the first frame"
        else:
            yield clip
