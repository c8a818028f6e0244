"""Semantic segmentation by a linear head on frozen maps, protocol ``segmentation-linear-v1``.

The score is the mean IoU of one confusion matrix over all pixels of the test pictures at their own size. Beside the
encoder: the same architecture with random weights, the same head on the colour and place of each pixel, and the most
frequent class everywhere. Seed s means another random initialisation (of the baseline), another 80 % of the train
clips, other cells of their maps; the head's penalty is one of four, chosen for each row and seed by the mean IoU of a
fifth of those clips, then the head is fitted on all of them. Rows are compared by resampling the confusion
matrices of the test clips, paired by seed and clip.

Beside the score, `by_clip` is the mean over clips of each clip's own mean IoU over the classes that it shows (the
per-image mean IoU of Wang et al., arXiv 2310.19252, where a clip is one picture): clips count alike, small ones too.
Runs are judged against each other by it, because it is a mean over clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmssl.errors import UserError
from mmssl.evaluation.folds import TRAIN_SHARE, drawn_part, validation_rows
from mmssl.evaluation.labelled_pixels import PixelClip, pixel_sets
from mmssl.evaluation.per_clip import PerClip
from mmssl.evaluation.picture_encoder import picture_encoder
from mmssl.evaluation.pixel_head import ColourMaps, FrozenMaps, Maps, PixelHead, drawn_cells, fit_pixel_heads
from mmssl.evaluation.soundstage_bodies import Kind
from mmssl.metrics.pixel_classes import IGNORED, class_iou, mean_iou, pixel_accuracy, pixel_confusion
from mmssl.metrics.statistics import bootstrap_score, verdict
from mmssl.nn.encoders import Encoders

PROTOCOL = "segmentation-linear-v1"
ROWS = ("pretrained", "random_init", "colours", "majority")
STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4)
LEAST_CLIPS = 5  # with fewer, an interval over clips says nothing
NO_MEAN = "a mean IoU is of all pixels together and no mean over clips; judged is the IoU of each clip (`by clip`)"


@dataclass(frozen=True)
class SegmentationScores:
    """Confusion matrices of every row, seed and test clip.

    Args:
        about: protocol and settings.
        confusions: row -> int64 [S, N, C, C], true classes first.
        keys: of the clips.
    """

    about: Mapping[str, Any]
    confusions: Mapping[str, np.ndarray]
    keys: tuple[str, ...]

    def by_clip(self, row: str) -> np.ndarray:
        """Float64 [S, N]: each clip's mean IoU over the classes it shows; NaN where no pixel of it is judged."""
        table = self.confusions[row]
        judged = table.any(axis=(-2, -1))
        found = np.full(judged.shape, np.nan)
        found[judged] = mean_iou(table[judged])
        return found

    def per_clip(self) -> PerClip:
        """The IoU of each clip, for comparisons of runs."""
        return PerClip(self.keys, self.keys, {f"by_clip/{row}": self.by_clip(row) for row in ROWS})

    def minus(self, row: str) -> dict[str, Any]:
        """Pretrained minus a row: difference of the mean IoUs, its 95 % interval over seeds and clips, a verdict."""
        tables = [self.confusions[name].astype(np.float64) for name in ("pretrained", row)]
        seeds, clips, classes = tables[0].shape[:3]
        by_clip = [table.swapaxes(0, 1).reshape(clips, -1) for table in tables]

        def score(of_seeds: np.ndarray, of_clips: np.ndarray) -> float:
            ours, theirs = (mean_iou((of_clips @ flat).reshape(seeds, classes, classes)) for flat in by_clip)
            return float(of_seeds @ (ours - theirs) / of_seeds.sum())

        if clips < LEAST_CLIPS:
            mean = score(np.ones(seeds), np.ones(clips))
            return {"mean": mean, "verdict": f"fewer than {LEAST_CLIPS} clips: no interval"}
        interval = bootstrap_score(score, seeds, clips)
        return interval.as_dict() | {"verdict": verdict(interval)}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`, fractions; a class that the test pictures lack has no IoU."""
        rows: dict[str, Any] = {}
        by_clip: dict[str, Any] = {}
        for row in ROWS:
            whole = self.confusions[row].sum(axis=1)
            by_seed = mean_iou(whole)
            of_clips = np.nanmean(self.by_clip(row), axis=1)
            ious = class_iou(whole).mean(axis=0)
            rows[row] = {
                "mean_iou": float(by_seed.mean()),
                "std": _std(by_seed),
                "seeds": [float(v) for v in by_seed],
                "pixel_accuracy": float(pixel_accuracy(whole).mean()),
                "class_iou": {
                    name: None if np.isnan(iou) else float(iou)
                    for name, iou in zip(self.about["classes"], ious, strict=True)
                },
            }
            by_clip[row] = {
                "clip_iou": float(of_clips.mean()),
                "std": _std(of_clips),
                "seeds": [float(v) for v in of_clips],
            }
        return {
            "evaluation": "segmentation",
            **self.about,
            "rows": rows,
            "by_clip": {"rows": by_clip},
            "no_mean_over_clips": {"mean_iou": NO_MEAN},
            "pretrained_minus": {row: self.minus(row) for row in ROWS if row != "pretrained"},
            "confusion": self.confusions["pretrained"].sum(axis=(0, 1)).tolist(),
        }


def _std(by_seed: np.ndarray) -> float:
    return float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0


@dataclass(frozen=True)
class Pictures:
    """Pictures of clips as one tensor, with the masks at their own size beside it.

    Args:
        keys: of the N clips.
        clip: int64 [P], the clip of each picture.
        pixels: uint8 [P, 3, S, S].
        small: uint8 [P, S, S], masks at that size (nearest pixel).
        masks: uint8 [H, W] each, as they are.
    """

    keys: tuple[str, ...]
    clip: np.ndarray
    pixels: torch.Tensor
    small: torch.Tensor
    masks: tuple[torch.Tensor, ...]

    def of_clips(self, chosen: np.ndarray) -> np.ndarray:
        """Int64: pictures of the chosen clips, bool [N]."""
        return np.flatnonzero(chosen[self.clip])


def together(clips: Sequence[PixelClip], size: int) -> Pictures:
    """Pictures of clips brought to one square size."""
    pixels, small = [], []
    for clip in clips:
        for picture, mask in zip(clip.pictures, clip.masks, strict=True):
            if picture.shape[-2:] != (size, size):
                scaled = F.interpolate(picture[None].float(), (size, size), mode="bilinear", antialias=True)
                picture = scaled[0].round().clamp(0, 255).to(torch.uint8)
            pixels.append(picture)
            small.append(F.interpolate(mask[None, None].float(), (size, size), mode="nearest-exact")[0, 0].byte())
    counts = [len(clip.pictures) for clip in clips]
    return Pictures(
        tuple(clip.key for clip in clips),
        np.repeat(np.arange(len(clips)), counts),
        torch.stack(pixels),
        torch.stack(small),
        tuple(mask for clip in clips for mask in clip.masks),
    )


def evaluate_segmentation(
    encoders: Path | str,
    data: Path,
    *,
    classes: Kind = "shapes",
    frames: int = 2,
    encoder: str = "image",
    size: int = 96,
    strides: Sequence[int] | None = None,
    cells: int = 20_000,
    limit: int | None = None,
    test_limit: int | None = None,
    seeds: int = 5,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SegmentationScores:
    """Evaluate the picture encoder of a run on pictures with a class for every pixel.

    Args:
        encoders: run folder or `encoders` folder.
        data: a folder for `pixel_sets`.
        classes: what the bodies of a Soundstage corpus are told by.
        frames: of each Soundstage clip.
        encoder: a picture encoder of the bundle.
        size: pictures are brought to this square size for the encoder.
        strides: levels that the head stands on; all unless given.
        cells: of the train pictures' maps that a head is fitted to, at most.
        limit: train clips at most.
        test_limit: test clips at most.
        seeds: how many seeds.
        device: where encoders and heads run.
        progress: is called with (fits done, fits in all).

    Raises:
        UserError: the pictures or a setting cannot be used.
    """
    for name, value, least in (("seeds", seeds, 1), ("size", size, 16), ("cells", cells, 100)):
        if value < least:
            raise UserError(f"{name}={value}: at least {least} is needed")
    pretrained = picture_encoder(Encoders.from_pretrained(encoders), encoder, strides)
    sets = pixel_sets(data, classes, frames, limit, test_limit)
    train, test = (together(clips, size) for clips in (sets.train, sets.test))
    if both := sorted(set(train.keys) & set(test.keys)):
        raise UserError(f"{len(both)} clips are in train and in test, the first is '{both[0]}'")
    count = len(sets.classes)
    confusions = {row: np.zeros((seeds, len(test.keys), count, count), dtype=np.int64) for row in ROWS}
    strengths: dict[str, list[float]] = {row: [] for row in ROWS[:3]}

    def maps_of(row: str, seed: int, pictures: Pictures) -> Maps:
        if row == "colours":
            return ColourMaps(pictures.pixels, device)
        if row == "pretrained":
            return FrozenMaps(pretrained, pictures.pixels, strides, device)
        bundle = Encoders.from_pretrained(encoders, random_init=True, seed=seed)
        return FrozenMaps(picture_encoder(bundle, encoder), pictures.pixels, strides, device)

    done = 0
    for row in ROWS[:3]:
        maps: tuple[Maps, Maps] | None = None
        for seed in range(seeds):
            if maps is None or row == "random_init":
                maps = (maps_of(row, seed, train), maps_of(row, seed, test))
            part = drawn_part(train.keys, np.zeros(len(train.keys), dtype=np.int64), seed)
            head = fit_chosen_head(maps[0], train, part, count, cells, seed)
            confusions[row][seed] = clip_confusions(head, maps[1], test, count)
            strengths[row].append(head.strength)
            if row == "pretrained":
                most = _most_frequent(train, train.of_clips(part), count)
                confusions["majority"][seed] = _everywhere(most, test, count)
            done += 1
            progress(done, 3 * seeds)
    about = {
        "protocol": PROTOCOL,
        "encoder": encoder,
        "strides": list(strides or pretrained.strides),
        "size": size,
        "classes": list(sets.classes),
        "train_clips": len(train.keys),
        "test_clips": len(test.keys),
        "train_pictures": len(train.pixels),
        "test_pictures": len(test.pixels),
        "train_share": TRAIN_SHARE,
        "cells": cells,
        "strengths": strengths,
        "decoder": sets.decoder,
        "views": "every picture by itself",
        "seeds": seeds,
        "left_out": sets.left_out,
    }
    return SegmentationScores(about, confusions, test.keys)


def fit_chosen_head(maps: Maps, pictures: Pictures, part: np.ndarray, classes: int, cells: int, seed: int) -> PixelHead:
    """A head fitted on the clips `part`, bool [N], its penalty chosen on a fifth of those clips."""
    clips = np.flatnonzero(part)
    held = np.zeros(len(part), dtype=bool)
    held[clips] = validation_rows(np.zeros(len(clips), dtype=np.int64), clips, seed)
    strength = STRENGTHS[len(STRENGTHS) // 2]
    if held.any():
        x, y = drawn_cells(maps, pictures.small, pictures.of_clips(part & ~held), classes, cells, seed)
        heads = fit_pixel_heads(x, y, STRENGTHS)
        judged = [mean_iou(clip_confusions(head, maps, pictures, classes, held).sum(axis=0)) for head in heads]
        strength = STRENGTHS[int(np.argmax(judged))]
    x, y = drawn_cells(maps, pictures.small, pictures.of_clips(part), classes, cells, seed)
    return fit_pixel_heads(x, y, (strength,))[0]


def clip_confusions(
    head: PixelHead, maps: Maps, pictures: Pictures, classes: int, chosen: np.ndarray | None = None
) -> np.ndarray:
    """Int64 [N, C, C]: confusions of each clip's pixels, at the size of their masks; 0 where it is not `chosen`."""
    found = np.zeros((len(pictures.keys), classes, classes), dtype=np.int64)
    for row, mask in enumerate(pictures.masks):
        if chosen is not None and not chosen[pictures.clip[row]]:
            continue
        size = (mask.shape[0], mask.shape[1])
        predicted = head.classes(maps(torch.tensor([row])), size)[0]
        found[pictures.clip[row]] += pixel_confusion(predicted.cpu().numpy(), mask.numpy(), classes)
    return found


def _most_frequent(pictures: Pictures, rows: np.ndarray, classes: int) -> int:
    counts = sum(np.bincount(pictures.masks[row].numpy().ravel(), minlength=256) for row in rows)
    return int(np.asarray(counts)[:IGNORED][:classes].argmax())


def _everywhere(label: int, pictures: Pictures, classes: int) -> np.ndarray:
    """Int64 [N, C, C]: confusions of saying one class everywhere."""
    found = np.zeros((len(pictures.keys), classes, classes), dtype=np.int64)
    for row, mask in enumerate(pictures.masks):
        values = mask.numpy()
        found[pictures.clip[row]] += pixel_confusion(np.full_like(values, label), values, classes)
    return found
