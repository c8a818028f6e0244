"""What maps that need no model, no picture and no sound score on a file of boxes: the floor under published numbers.

On the 5,158 clips of VGG-SS a centred disc without any learning scores what early trained models were published
with; see `mmssl.metrics.localization` for why half of the picture is always "sounding".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mmssl.localization.annotations import Annotations
from mmssl.localization.consensus import grouped, truth_mask
from mmssl.localization.scores import row_of
from mmssl.metrics.localization import (
    SIZE,
    centre_disc,
    ciou_ceiling,
    exact_ceiling,
    fixed_threshold_iou,
    median_mask,
    normalise_map,
    peak_in_box,
    published_ciou,
    success_auc,
    success_rate,
    whole_frame,
)
from mmssl.randomness import sample_seed

PROTOCOL = "localization-baselines-v1"
ROWS = ("centre_disc", "whole_frame", "random_pixels", "true_boxes", "oracle")
CHUNK = 32  # clips at a time


def oracle_maps(truths: np.ndarray) -> np.ndarray:
    """Float64 [N, h, w]: the truth [N, h, w], and elsewhere higher towards the centre; no two places are equal."""
    height, width = truths.shape[-2:]
    order = np.argsort(centre_disc(height).ravel() if height == width else np.zeros(height * width), kind="stable")
    rank = np.empty(height * width)
    rank[order] = np.arange(height * width)
    return np.asarray(truths + 1e-9 * rank.reshape(height, width))


def random_pixels(keys: Sequence[str], seed: int = 0) -> np.ndarray:
    """Float64 [N, 224, 224], uniform in each pixel, a function of (seed, key)."""
    made = []
    for key in keys:
        generator = torch.Generator().manual_seed(sample_seed(seed, 0, "random pixels", key))
        made.append(torch.rand(SIZE, SIZE, generator=generator, dtype=torch.float64).numpy())
    return np.stack(made)


class _Constant:
    """One map for all clips, cut once; gives what the metrics give.

    Args:
        one: float64 [h, w].
    """

    def __init__(self, one: np.ndarray) -> None:
        scaled, peaks = normalise_map(one), one == one.max()
        self._masks = np.stack([peaks / peaks.sum(), median_mask(scaled), scaled >= 0.5]).reshape(3, -1).astype(float)
        self._areas = self._masks.sum(axis=1)

    def against(self, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Float64 [N] each: peak in box, cIoU at the median, IoU at half of the range."""
        flat = truths.reshape(len(truths), -1)
        seen = (flat > 0).astype(np.float64)
        inside = seen @ self._masks.T  # [N, 3]
        found, whole = flat @ self._masks[1], flat.sum(axis=1) + self._areas[1] - inside[:, 1]
        iou = inside[:, 2] / (seen.sum(axis=1) + self._areas[2] - inside[:, 2])
        return inside[:, 0], found / whole, iou


def _append(values: dict[str, list[np.ndarray]], name: str, found: tuple[np.ndarray, ...]) -> None:
    for metric, of_clips in zip(("peak", "ciou", "iou"), found, strict=True):
        values[f"{name}/{metric}"].append(of_clips)


def annotation_baselines(
    annotations: Annotations, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Scores of trivial maps and of the best possible ones on every clip of a file of boxes, as plain values.

    Args:
        annotations: the boxes.
        seed: of the random maps.
        progress: called with (clips done, clips in all).
    """
    clips = annotations.clips
    values: dict[str, list[np.ndarray]] = {f"{row}/{name}": [] for row in ROWS for name in ("peak", "ciou", "iou")}
    areas, ceiling, exact = [], [], []
    fixed = {"centre_disc": _Constant(centre_disc()), "whole_frame": _Constant(whole_frame())}
    for begin in range(0, len(clips), CHUNK):
        some = clips[begin : begin + CHUNK]
        groups = [grouped(clip.boxes, clip.annotators) for clip in some]
        truths = np.stack([truth_mask(group) for group in groups])
        areas.append((truths > 0).mean(axis=(1, 2)))
        ceiling.append(ciou_ceiling(truths))
        exact += [exact_ceiling(group) for group in groups]
        for name, constant in fixed.items():
            _append(values, name, constant.against(truths))
        made = {
            "random_pixels": random_pixels([clip.key for clip in some], seed),
            "true_boxes": truths,
            "oracle": oracle_maps(truths),
        }
        for name, maps in made.items():
            found = (peak_in_box(maps, truths), published_ciou(maps, truths), fixed_threshold_iou(maps, truths))
            _append(values, name, found)
        if progress is not None:
            progress(min(begin + CHUNK, len(clips)), len(clips))
    keys = np.array([clip.key for clip in clips])
    rows: dict[str, Any] = {}
    for name in ROWS:
        peak, ciou, iou = (np.concatenate(values[f"{name}/{metric}"]) for metric in ("peak", "ciou", "iou"))
        rows[name] = row_of(peak, ciou, iou, keys)
    pixels, areas_of = np.concatenate(ceiling), np.concatenate(areas)
    return {
        "protocol": PROTOCOL,
        "annotations": {
            "file": annotations.path.name,
            "sha256": annotations.sha256,
            "kind": annotations.kind,
            "faults": list(annotations.faults),
        },
        "clips": len(clips),
        "boxes": sum(len(clip.boxes) for clip in clips),
        "clips_with_several_boxes": sum(len(clip.boxes) > 1 for clip in clips),
        "annotators": max(len(set(clip.annotators or ())) for clip in clips) or None,
        "true_area": {
            "median": float(np.median(areas_of)),
            "mean": float(areas_of.mean()),
            "below_a_quarter": float((areas_of < 0.25).mean()),
        },
        "truth": "consensus of the annotators" if clips[0].annotators else "union of the boxes",
        "map": f"at {SIZE} pixels, median threshold for ciou and auc, half of the range for iou_fixed",
        "seed": seed,
        "rows": rows,
        "ceiling": {
            "of_pixels": {"ciou": success_rate(pixels), "auc": success_auc(pixels)},
            "of_areas": {"ciou": success_rate(np.array(exact)), "auc": success_auc(np.array(exact))},
        },
    }
