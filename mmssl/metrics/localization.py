"""How well a map over the picture finds the sounding thing: cIoU@0.5, AUC, IoU at a fixed threshold, peak in box.

cIoU and AUC exactly as published (Senocak et al., CVPR 2018, arXiv 1803.03849; in the form of Chen et al., CVPR
2021, arXiv 2104.02691, and Mo and Morgado, ECCV 2022, arXiv 2203.09324): the map is resized bilinearly to 224 x
224, min-max normalised and cut at its median, so that half of the picture is always "sounding"; the truth is the
union of the boxes (VGG-SS) or the annotators' consensus (Flickr-SoundNet). With a true area f of the picture no map
without equal values can therefore reach more than min(2 f, 1 / (2 f)), and a centred disc without learning scores 34
cIoU on VGG-SS.

Boxes are [x0, y0, x1, y1] in fractions of the picture. Maps are any [h, w]; larger is likelier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

SIZE = 224
THRESHOLDS = np.arange(21) * 0.05

Boxes = Sequence[Sequence[float]]


def resize_map(maps: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Float64 [..., size, size] from maps [..., h, w]: bilinear, pixel centres aligned.

    (OpenCV's convention, as in the code of Chen et al.; EZ-VSL aligns the corners instead, which shifts the cells of
    a strided map against the picture by up to half a cell.)
    """
    maps = np.asarray(maps, dtype=np.float64)
    if maps.shape[-2:] == (size, size):
        return maps
    flat = torch.from_numpy(np.ascontiguousarray(maps.reshape(-1, 1, *maps.shape[-2:])))
    resized = torch.nn.functional.interpolate(flat, (size, size), mode="bilinear", align_corners=False)
    return np.asarray(resized.numpy().reshape(*maps.shape[:-2], size, size))


def normalise_map(maps: np.ndarray) -> np.ndarray:
    """Each map of [..., h, w] scaled to 0..1; a constant map becomes ones (it says: everywhere)."""
    low = maps.min(axis=(-2, -1), keepdims=True)
    extent = maps.max(axis=(-2, -1), keepdims=True) - low
    return np.asarray(np.where(extent > 0, (maps - low) / np.where(extent > 0, extent, 1.0), 1.0))


def median_mask(maps: np.ndarray) -> np.ndarray:
    """Bool [..., h, w]: the pixels at or above the map's median, element [h * w / 2] of the sorted values."""
    flat = maps.reshape(*maps.shape[:-2], -1)
    half = flat.shape[-1] // 2
    return np.asarray(maps >= np.partition(flat, half, axis=-1)[..., half][..., None, None])


def union_truth(boxes: Boxes, size: int = SIZE) -> np.ndarray:
    """Float64 [size, size]: 1 inside any box (VGG-SS). Corners are cut to whole pixels as in the published code."""
    return np.asarray(np.minimum(_box_counts(boxes, size), 1.0))


def consensus_truth(boxes: Boxes, size: int = SIZE) -> np.ndarray:
    """Float64 [size, size]: min(sum of the annotators' boxes / 2, 1), one box an annotator (Flickr-SoundNet)."""
    return np.minimum(_box_counts(boxes, size) / 2.0, 1.0)


def agreed_truth(groups: Sequence[Boxes], size: int = SIZE) -> np.ndarray:
    """Float64 [size, size]: the consensus of annotators with any number of boxes each; one's overlaps count once."""
    drawn = np.sum([union_truth(boxes, size) for boxes in groups], axis=0)
    return np.asarray(np.minimum(drawn / 2.0, 1.0))


def _box_counts(boxes: Boxes, size: int) -> np.ndarray:
    counts = np.zeros((size, size))
    for box in boxes:
        x0, y0, x1, y1 = (int(np.clip(v * size, 0, size)) for v in box)
        counts[y0:y1, x0:x1] += 1.0
    return counts


def ciou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Consensus IoU of a mask (bool [h, w]) with a truth (float [h, w] in [0, 1])."""
    found = float(truth[mask].sum())
    wrong = float((mask & (truth == 0)).sum())
    whole = float(truth.sum()) + wrong
    return found / whole if whole > 0 else 0.0


def published_ciou(maps: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Float64 [N]: cIoU of each map [N, h, w] cut at its median, against truths [N, 224, 224]."""
    masks = median_mask(normalise_map(resize_map(maps, truths.shape[-1])))
    found, whole = (masks * truths).sum(axis=(1, 2)), truths.sum(axis=(1, 2))
    return np.asarray(found / np.maximum(whole + (masks & (truths == 0)).sum(axis=(1, 2)), 1e-12))


def success_rate(values: np.ndarray, threshold: float = 0.5) -> float:
    """Share of the samples whose cIoU is at least the threshold: what papers call cIoU@0.5."""
    return float((np.asarray(values) >= threshold).mean())


def success_auc(values: np.ndarray) -> float:
    """Area under the success rate over the thresholds 0, 0.05, ..., 1 (trapezoids): what papers call AUC."""
    values = np.asarray(values)
    rates = np.array([(values >= t).mean() for t in THRESHOLDS])
    return float(((rates[1:] + rates[:-1]) / 2).sum() * 0.05)


def ciou_ceiling(truths: np.ndarray) -> np.ndarray:
    """Float64 [N]: the best cIoU that a mask of half the pixels can reach, for truths [N, h, w] in [0, 1].

    For the union of boxes of an area f that is min(2 f, 1 / (2 f)). A map with many equal values can be cut to more
    than half of the picture, and then pass it.
    """
    flat = np.sort(np.asarray(truths, dtype=np.float64).reshape(len(truths), -1), axis=1)[:, ::-1]
    half = flat.shape[1] // 2
    found, whole, seen = flat[:, :half].sum(axis=1), flat.sum(axis=1), (flat > 0).sum(axis=1)
    wrong = np.maximum(half - seen, 0)
    return np.asarray(found / np.maximum(whole + wrong, 1e-12))


def exact_ceiling(groups: Sequence[Boxes]) -> float:
    """`ciou_ceiling` of the boxes themselves, not of their pixels, by areas; boxes of each annotator."""
    xs, ys = (
        np.unique([0.0, 1.0, *(float(np.clip(v, 0, 1)) for boxes in groups for box in boxes for v in box[axis::2])])
        for axis in (0, 1)
    )
    areas = np.diff(ys)[:, None] * np.diff(xs)[None, :]
    x, y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
    drawn = np.zeros(areas.shape)
    for boxes in groups:
        inside = np.zeros(areas.shape, dtype=bool)
        for x0, y0, x1, y1 in boxes:
            inside |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]
        drawn += inside
    value = np.minimum(drawn / 2.0, 1.0) if len(groups) > 1 else drawn
    whole, found, wrong, room = float((value * areas).sum()), 0.0, 0.0, 0.5
    for level in np.unique(value)[::-1]:
        taken = min(float(areas[value == level].sum()), room)
        room -= taken
        found += float(level) * taken
        wrong += taken if level == 0 else 0.0
    return found / (whole + wrong) if whole > 0 else 0.0


def fixed_threshold_iou(maps: np.ndarray, truths: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Float64 [N]: plain IoU of {min-max map >= threshold} with {truth > 0}; the size of the map counts here."""
    masks = normalise_map(resize_map(maps, truths.shape[-1])) >= threshold
    true = truths > 0
    both = (masks & true).sum(axis=(-2, -1))
    either = (masks | true).sum(axis=(-2, -1))
    return np.asarray(both / np.maximum(either, 1))


def peak_in_box(maps: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Float64 [N] in [0, 1]: whether the map's peak lies where the truth is > 0.

    Several equal peaks count in proportion, so that a constant map scores the true area.
    """
    maps = resize_map(maps, truths.shape[-1])
    peaks = maps == maps.max(axis=(-2, -1), keepdims=True)
    inside = (peaks & (truths > 0)).sum(axis=(-2, -1))
    return np.asarray(inside / peaks.sum(axis=(-2, -1)))


def centre_disc(size: int = SIZE) -> np.ndarray:
    """Float64 [size, size] that falls from the centre: its median cut is the centred disc of half the area."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    return np.asarray(-np.hypot(axis[:, None], axis[None, :]))


def whole_frame(size: int = SIZE) -> np.ndarray:
    """Float64 [size, size], constant: its cut is the whole picture."""
    return np.ones((size, size))
