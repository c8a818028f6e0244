"""One row of a table of localization: the numbers of a kind of map over all judged frames, with their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmssl.metrics.detection import average_precision, published_average_precision
from mmssl.metrics.localization import THRESHOLDS, resize_map, success_auc, success_rate
from mmssl.metrics.statistics import bootstrap


def auc_of_each(ciou: np.ndarray) -> np.ndarray:
    """Float64 [N] whose mean is `success_auc`: the area is linear in the samples."""
    passed = (ciou[:, None] >= THRESHOLDS[None, :]).astype(np.float64)
    return np.asarray(((passed[:, 1:] + passed[:, :-1]) / 2).sum(axis=1) * 0.05)


def confidence(maps: np.ndarray) -> np.ndarray:
    """Float64 [N]: mean of the highest quarter of each map [N, h, w] at 224 pixels, SLAVC's score of a clip."""
    flat = resize_map(maps).reshape(len(maps), -1)
    quarter = flat.shape[1] // 4
    return np.asarray(np.partition(flat, -quarter, axis=1)[:, -quarter:].mean(axis=1))


def row_of(
    peak: np.ndarray, ciou: np.ndarray, iou: np.ndarray, groups: np.ndarray, sure: np.ndarray | None = None
) -> dict[str, Any]:
    """Plain values of a row, fractions.

    Args:
        peak: float64 [N], peak in box.
        ciou: float64 [N], cIoU at the median.
        iou: float64 [N], IoU at half of the map's range.
        groups: [N], the clip of each frame; intervals resample clips.
        sure: float64 [N], `confidence` of each map; adds the average precisions.
    """
    row: dict[str, Any] = {
        "peak_in_box": float(peak.mean()),
        "ciou": success_rate(ciou),
        "auc": success_auc(ciou),
        "mean_ciou": float(ciou.mean()),
        "iou_fixed": float(iou.mean()),
        "n": len(peak),
        "interval": {
            "peak_in_box": bootstrap(peak, groups).as_dict(),
            "ciou": bootstrap((ciou >= 0.5).astype(float), groups).as_dict(),
            "auc": bootstrap(auc_of_each(ciou), groups).as_dict(),
        },
    }
    if sure is not None:
        right, there = (ciou >= 0.5).astype(np.float64), np.ones(len(ciou), dtype=bool)
        different = len(np.unique(sure)) > 1
        row |= {
            "ap_ciou": average_precision(sure, right, there),
            "ap_peak": average_precision(sure, peak, there),
            "ap_published": published_average_precision(sure, right, there) if different else None,
        }
    return row
