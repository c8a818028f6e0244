"""Small labelled pictures, drawn and written as the readers of image classification, pixels and boxes expect them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

GROUNDS = {"red": (200, 60, 50), "green": (60, 180, 70), "blue": (50, 70, 210)}


def ground(colour: str, seed: int, size: int = 32) -> np.ndarray:
    """Uint8 [size, size, 3]: a noisy ground of one colour."""
    noise = np.random.default_rng(seed).integers(-30, 30, (size, size, 3))
    return (np.array(GROUNDS[colour]) + noise).clip(0, 255).astype(np.uint8)


def write_classes(folder: Path, each: int, seed: int = 0, colours: Sequence[str] = tuple(GROUNDS)) -> Path:
    """Class folders of png pictures."""
    for number, colour in enumerate(colours):
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            Image.fromarray(ground(colour, 1000 * seed + 100 * number + i)).save(folder / colour / f"{i:03d}.png")
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """A zip file of a folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def square_picture(seed: int, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Uint8 [size, size, 3] with one bright square on a dark ground, red or blue, and its mask (1 red, 2 blue)."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), dtype=np.uint8)
    side = int(rng.integers(12, 18))
    top, left = rng.integers(0, size - side, 2)
    label = 1 + seed % 2
    mask[top : top + side, left : left + side] = label
    colours = np.array([(40, 40, 40), (220, 60, 50), (60, 70, 220)])
    picture = colours[mask] + rng.integers(0, 20, (size, size, 3))
    return picture.clip(0, 255).astype(np.uint8), mask


def write_squares(folder: Path, count: int, seed: int = 0, void: bool = True) -> Path:
    """JPEGImages/ and Annotations/ of `count` squares; with `void` the first row of each mask is 255."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture, mask = square_picture(1000 * seed + i)
        if void:
            mask[0] = 255
        Image.fromarray(picture).save(folder / "JPEGImages" / f"s{seed}_{i:03d}.png")
        image = Image.fromarray(mask).convert("P")
        image.putpalette([0, 0, 0, 220, 60, 50, 60, 70, 220] + [0] * 759)
        image.putdata(mask.ravel().tolist())
        image.save(folder / "Annotations" / f"s{seed}_{i:03d}.png")
    return folder


def write_coco(folder: Path, count: int, seed: int = 0) -> Path:
    """Pictures of squares in `folder` and their annotations; returns the annotation file."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(count):
        picture, mask = square_picture(1000 * seed + i)
        rows, columns = np.nonzero(mask)
        name = f"c{seed}_{i:03d}.png"
        Image.fromarray(picture).save(folder / name)
        images.append({"id": i, "file_name": name, "width": picture.shape[1], "height": picture.shape[0]})
        box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        annotations.append({"id": i, "image_id": i, "category_id": 10 * int(mask.max()), "bbox": box, "iscrowd": 0})
    categories = [{"id": 10, "name": "red"}, {"id": 20, "name": "blue"}]
    path = folder.parent / f"{folder.name}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
