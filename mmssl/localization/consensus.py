"""The truth of a frame as a mask: the union of its boxes, or what several annotators agree on.

In the json member ``annotators`` beside ``boxes`` (in ``truth``, at the top or under ``extra``) names who drew each
box. With two annotators or more the truth is Flickr-SoundNet's consensus (Senocak et al., arXiv 1803.03849): half for
what one of them drew, one for what two or more did. One annotator's boxes, and those of nobody named, count as their
union.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmssl.errors import UserError
from mmssl.localization.truth import Box, boxes_at, in_clip, in_frame
from mmssl.metrics.localization import SIZE, agreed_truth, union_truth


def truth_mask(groups: Sequence[Sequence[Box]], size: int = SIZE) -> np.ndarray:
    """Float64 [size, size] in [0, 1] of the boxes of each annotator, in fractions of the frame."""
    if len(groups) < 2:
        return union_truth(groups[0] if groups else (), size)
    return agreed_truth(groups, size)


def grouped(boxes: Sequence[Box], annotators: Sequence[str] | None) -> list[list[Box]]:
    """The boxes by annotator, in order of appearance; all in one group where nobody is named."""
    if annotators is None:
        return [list(boxes)]
    groups: dict[str, list[Box]] = {}
    for box, annotator in zip(boxes, annotators, strict=True):
        groups.setdefault(annotator, []).append(box)
    return list(groups.values())


def annotators_of(meta: Mapping[str, Any], key: str = "") -> list[str] | None:
    """Who drew each box of a clip's description, or None where it does not say.

    Raises:
        UserError: there are not as many as boxes.
    """
    for holder in (meta.get("truth"), meta, meta.get("extra")):
        if not isinstance(holder, Mapping):
            continue
        boxes = _list(holder.get("boxes")) or _list(holder.get("bbox"))
        if not boxes:
            continue
        named = holder.get("annotators")
        if named is None or holder.get("box_times") is not None:
            return None
        count = len(boxes) if isinstance(boxes[0], list) else 1
        listed = _list(named)
        if listed is None or len(listed) != count:
            raise UserError(f"clip '{key}': {count} boxes need as many annotators, found {named!r}")
        return [str(name) for name in listed]
    return None


def _list(value: Any) -> list[Any] | None:
    if isinstance(value, str):  # a column of a CSV manifest
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, list) and value else None


def boxes_by_annotator(meta: Mapping[str, Any], time: float, key: str = "") -> list[list[Box]]:
    """The boxes that hold at a time (seconds, the clip's clock), by annotator, in fractions of the clip's picture.

    Raises:
        UserError: the boxes are no boxes, or the annotators do not fit them.
    """
    annotators = annotators_of(meta, key)
    boxes = boxes_at(meta, time, key)
    if annotators is None or not boxes:
        return [in_clip(meta, boxes)] if boxes else []
    if len(boxes) != len(annotators):
        raise UserError(f"clip '{key}': a box without a value among boxes with annotators; leave it out of both lists")
    return [in_clip(meta, group) for group in grouped(boxes, annotators)]


def judged_truth(
    meta: Mapping[str, Any], time: float, key: str, geometry: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, int] | None:
    """What is true of a decoded frame: (mask float64 [224, 224], number of annotators); None where nothing is seen.

    An annotator all of whose boxes were cut off the frame still counts as one who drew nothing in it.

    Args:
        meta: the clip's description.
        time: of the frame, seconds on the clip's clock.
        key: the clip's.
        geometry: float64 [2, 3], from the clip's pixels to the frame's.
        size: (height, width) of the frame.

    Raises:
        UserError: the boxes are no boxes, or the annotators do not fit them.
    """
    groups = [in_frame(group, geometry, size) for group in boxes_by_annotator(meta, time, key)]
    if not any(groups):
        return None
    return truth_mask(groups), len(groups)
