"""Pictures with boxes around things: of a Soundstage corpus with dense truth, or of COCO's annotation files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmssl.errors import UserError
from mmssl.evaluation.soundstage_bodies import BodyClip, Kind, body_clips
from mmssl.metrics.box_precision import TrueBoxes
from mmssl.randomness import sample_seed, uniform_numpy

LEAST_PIXELS = 16  # a body of Soundstage that shows fewer need not be found
SLACK = 1.0  # pixels that a box may lie outside of its picture; it is cut


@dataclass(frozen=True)
class BoxedPicture:
    """A picture, read when it is wanted, and its true boxes.

    Args:
        key: its name.
        clip: pictures of one clip are resampled together.
        load: gives uint8 [3, H, W].
        size: H, W.
        truth: boxes in pixels, classes 0..C-1.
    """

    key: str
    clip: str
    load: Callable[[], torch.Tensor]
    size: tuple[int, int]
    truth: TrueBoxes


@dataclass(frozen=True)
class BoxedSets:
    """Train and test pictures.

    Args:
        train: pictures.
        test: pictures.
        classes: names of the classes.
        notes: what was found odd on the way, counted.
        decoder: what decoded them: "pictures", or the decoder of the clips they are frames of.
    """

    train: tuple[BoxedPicture, ...]
    test: tuple[BoxedPicture, ...]
    classes: tuple[str, ...]
    notes: Mapping[str, int] = field(default_factory=dict)
    decoder: str = "pictures"


def soundstage_boxes(
    corpus: Path, kind: Kind = "shapes", frames: int = 1, limit: int | None = None, test_limit: int | None = None
) -> BoxedSets:
    """Frames of a Soundstage corpus; a body's box is the smallest one around its visible pixels.

    A body that shows fewer than 16 pixels is a crowd: not trained on, and neither right nor wrong if found.

    Args:
        corpus: with dense truth.
        kind: what bodies are told by.
        frames: of each clip, evenly spread.
        limit: train clips at most.
        test_limit: test clips at most.
    """
    found = [list(body_clips(corpus, split, kind, frames, n)) for split, n in (("train", limit), ("test", test_limit))]
    names = tuple(sorted({name for clips in found for clip in clips for name in clip.kinds}))
    parts = [[picture for clip in clips for picture in _frames(clip, names)] for clips in found]
    small = sum(int(picture.truth.crowd.sum()) for part in parts for picture in part)
    return replace(_checked(parts[0], parts[1], names, {"bodies_hardly_seen": small}), decoder="pyav")


def _frames(clip: BodyClip, names: Sequence[str]) -> list[BoxedPicture]:
    made = []
    for number, (frame, instances) in enumerate(zip(clip.frames, clip.instances.numpy(), strict=True)):
        boxes, labels, crowd = [], [], []
        for body in np.unique(instances[instances > 0]):
            rows, columns = np.nonzero(instances == body)
            boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            labels.append(names.index(clip.kinds[int(body) - 1]))
            crowd.append(len(rows) < LEAST_PIXELS)
        size = (int(frame.shape[1]), int(frame.shape[2]))
        key = f"{clip.key}/{number}"
        made.append(BoxedPicture(key, clip.key, _given(frame), size, _true(boxes, labels, crowd)))
    return made


def _given(frame: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: frame


def _true(boxes: Sequence[Any], labels: Sequence[int], crowd: Sequence[bool]) -> TrueBoxes:
    return TrueBoxes(
        np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(labels, dtype=np.int64), np.array(crowd, dtype=bool)
    )


def coco_boxes(
    train: Path,
    test: Path,
    images: Path,
    test_images: Path | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
) -> BoxedSets:
    """Pictures of two annotation files in COCO's format.

    Args:
        train: annotations of the train pictures.
        test: annotations of the test pictures.
        images: folder of the train pictures, and of the test pictures unless `test_images` is given.
        test_images: folder of the test pictures.
        limit: train pictures at most, drawn from their names.
        test_limit: test pictures at most, drawn from their names.

    Raises:
        UserError: a file is no such annotation, or a box lies outside of its picture.
    """
    notes: dict[str, int] = {"empty_boxes": 0}
    files = [_annotations(path) for path in (train, test)]
    names = tuple(sorted({str(c["name"]) for file in files for c in file["categories"]}))
    parts = [
        _pictures(path, file, folder, names, most, notes)
        for path, file, folder, most in zip(
            (train, test), files, (images, test_images or images), (limit, test_limit), strict=True
        )
    ]
    return _checked(parts[0], parts[1], names, notes)


def _annotations(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"annotations '{path}' cannot be read ({error})") from error
    keys = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name")}
    keys["annotations"] = ("image_id", "category_id", "bbox")
    for name, wanted in keys.items():
        rows = found.get(name) if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"annotations '{path}' have no list '{name}'; COCO's format for detection is wanted")
        for row in rows:
            if not isinstance(row, dict) or (lacking := [key for key in wanted if key not in row]):
                raise UserError(f"annotations '{path}': an entry of '{name}' has no {lacking[0]}: {str(row)[:80]}")
    return found  # type: ignore[no-any-return]


def _pictures(
    path: Path, file: Mapping[str, Any], folder: Path, names: Sequence[str], limit: int | None, notes: dict[str, int]
) -> list[BoxedPicture]:
    label = {c["id"]: names.index(str(c["name"])) for c in file["categories"]}
    by_image: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in file["images"]}
    for one in file["annotations"]:
        if one["image_id"] not in by_image or one["category_id"] not in label:
            raise UserError(f"annotations '{path}': a box is of an image or a category that is not listed: {one}"[:300])
        by_image[one["image_id"]].append(one)
    images = sorted(file["images"], key=lambda image: str(image["file_name"]))
    if limit is not None:
        seeds = [sample_seed(0, 0, "evaluation", str(image["file_name"])) for image in images]
        draws = uniform_numpy(np.array(seeds, dtype=np.int64), "picture limit")[:, 0]
        images = [images[i] for i in sorted(np.argsort(draws, kind="stable")[:limit])]
    made = []
    for image in images:
        size = (int(image["height"]), int(image["width"]))
        boxes, labels, crowd = [], [], []
        for one in by_image[image["id"]]:
            box = _inside(path, one, size)
            if box is None:
                notes["empty_boxes"] += 1
                continue
            boxes.append(box)
            labels.append(label[one["category_id"]])
            crowd.append(bool(one.get("iscrowd", 0)))
        name = str(image["file_name"])
        made.append(BoxedPicture(name, name, _reader(folder / name, size), size, _true(boxes, labels, crowd)))
    return made


def _inside(path: Path, one: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom; None for a box without area."""
    try:
        left, top, width, height = (float(v) for v in one["bbox"])
    except (TypeError, ValueError):
        left = top = width = height = float("nan")
    right, bottom = left + width, top + height
    out = max(-left, -top, right - size[1], bottom - size[0])
    if not np.isfinite([left, top, width, height]).all() or out > SLACK:
        raise UserError(
            f"annotations '{path}': the box {one['bbox']} of image {one['image_id']} (annotation {one.get('id')}) is "
            f"not inside its picture of {size[1]} x {size[0]} pixels; boxes are [left, top, width, height]"
        )
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, size[1]), min(bottom, size[0])
    return (left, top, right, bottom) if right > left and bottom > top else None


def _reader(path: Path, size: tuple[int, int]) -> Callable[[], torch.Tensor]:
    def load() -> torch.Tensor:
        try:
            with Image.open(path) as image:
                pixels = np.array(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"picture '{path}' cannot be read ({error})") from error
        if pixels.shape[:2] != size:
            raise UserError(f"picture '{path}' is {pixels.shape[:2]} pixels and its annotations say {size}")
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    return load


def _checked(
    train: Sequence[BoxedPicture], test: Sequence[BoxedPicture], names: tuple[str, ...], notes: Mapping[str, int]
) -> BoxedSets:
    sides = []
    for side, pictures in (("train", train), ("test", test)):
        there = {int(c) for picture in pictures for c in picture.truth.labels[~picture.truth.crowd]}
        if not there:
            raise UserError(f"no {side} picture has a box")
        sides.append(there)
    if lacking := sorted(sides[1] - sides[0]):
        said = ", ".join(f"'{names[c]}'" for c in lacking[:5])
        raise UserError(f"{len(lacking)} classes of the test boxes are not among the train boxes ({said})")
    if both := sorted({picture.key for picture in train} & {picture.key for picture in test}):
        raise UserError(f"{len(both)} pictures are in train and in test, the first is '{both[0]}'")
    return BoxedSets(tuple(train), tuple(test), names, notes)
