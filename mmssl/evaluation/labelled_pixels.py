"""Pictures with a class for every pixel: of a Soundstage corpus with dense truth, or of folders laid out as VOC's.

Masks hold classes 0, 1, 2, ...; 255 is void and not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmssl.data.media import IMAGE_SUFFIXES
from mmssl.errors import UserError
from mmssl.evaluation.image_files import TEST_NAMES
from mmssl.evaluation.soundstage_bodies import Kind, body_clips
from mmssl.metrics.pixel_classes import IGNORED
from mmssl.randomness import sample_seed, uniform_numpy

SCENE = "scene"
_MASKS = ("SegmentationClass", "Annotations")


@dataclass(frozen=True)
class PixelClip:
    """Pictures that belong together: frames of a clip, or one picture.

    Args:
        key: its name.
        pictures: uint8 [3, H, W] each.
        masks: uint8 [H, W] each, the class of every pixel, 255 for void.
    """

    key: str
    pictures: tuple[torch.Tensor, ...]
    masks: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class PixelSets:
    """Train and test clips.

    Args:
        train: clips.
        test: clips.
        classes: names of the classes.
        left_out: key -> why a clip is not used.
        decoder: what decoded them: "pictures", or the decoder of the clips.
    """

    train: tuple[PixelClip, ...]
    test: tuple[PixelClip, ...]
    classes: tuple[str, ...]
    left_out: dict[str, str]
    decoder: str = "pictures"


def pixel_sets(
    data: Path, kind: Kind = "shapes", frames: int = 2, limit: int | None = None, test_limit: int | None = None
) -> PixelSets:
    """Train and test clips of a folder, told by what lies in it.

    Args:
        data: a Soundstage corpus with dense truth; or a folder with JPEGImages/ and Annotations/ (or
            SegmentationClass/) and lists ImageSets/Segmentation/{train,val}.txt; or a folder with train/ and test/ (or
            val/) that each hold JPEGImages/ and Annotations/.
        kind: what a body of Soundstage is told by.
        frames: of each Soundstage clip.
        limit: train clips at most.
        test_limit: test clips at most.

    Raises:
        UserError: it is none of them, or a picture, a mask or a class cannot be used.
    """
    for name, value in (("limit", limit), ("test_limit", test_limit)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: at least 1 clip is needed; leave it out for all")
    films = (data / "manifest.jsonl").is_file()
    if films:
        train, test, names = _of_soundstage(data, kind, frames, limit, test_limit)
    else:
        train, test = (
            _of_pictures(pairs, most) for pairs, most in zip(_two_lists(data), (limit, test_limit), strict=True)
        )
        names = ()
    left_out: dict[str, str] = {}
    train, test = (_judged(clips, left_out) for clips in (train, test))
    if not train or not test:
        raise UserError(f"'{data}': no {'train' if not train else 'test'} picture has a pixel of a class")
    decoder = "pyav" if films else "pictures"
    return PixelSets(tuple(train), tuple(test), _class_names(train, test, names), left_out, decoder)


def _judged(clips: Sequence[PixelClip], left_out: dict[str, str]) -> list[PixelClip]:
    """The clips with a pixel to judge; the others are noted."""
    kept = []
    for clip in clips:
        if any(bool((mask != IGNORED).any()) for mask in clip.masks):
            kept.append(clip)
        else:
            left_out[clip.key] = "every pixel is void"
    return kept


def _class_names(train: Sequence[PixelClip], test: Sequence[PixelClip], names: Sequence[str]) -> tuple[str, ...]:
    there = [
        {value for clip in clips for mask in clip.masks for value in mask.unique().tolist()} - {IGNORED}
        for clips in (train, test)
    ]
    said = tuple(names) or tuple(f"class {number}" for number in range(max(there[0] | there[1]) + 1))
    if lacking := sorted(there[1] - there[0]):
        raise UserError(
            f"{len(lacking)} classes of the test pictures are not among the train pictures "
            f"({', '.join(repr(said[number]) for number in lacking[:5])})"
        )
    if len(there[0]) < 2:
        raise UserError(f"every pixel is void ({IGNORED}) or of the class '{said[min(there[0])]}'; two are needed")
    return said


def _of_soundstage(
    corpus: Path, kind: Kind, frames: int, limit: int | None, test_limit: int | None
) -> tuple[list[PixelClip], list[PixelClip], tuple[str, ...]]:
    found = [list(body_clips(corpus, split, kind, frames, n)) for split, n in (("train", limit), ("test", test_limit))]
    names = (SCENE, *sorted({name for clips in found for clip in clips for name in clip.kinds}))
    both = []
    for clips in found:
        made = []
        for clip in clips:
            table = torch.zeros(256, dtype=torch.uint8)
            table[1 : 1 + len(clip.kinds)] = torch.tensor([names.index(name) for name in clip.kinds])
            masks = table[clip.instances.long()]
            made.append(PixelClip(clip.key, tuple(clip.frames), tuple(masks)))
        both.append(made)
    return both[0], both[1], names


def _two_lists(data: Path) -> tuple[list[tuple[str, Path, Path]], list[tuple[str, Path, Path]]]:
    """(name, picture, mask) of the train and of the test pictures."""
    if (data / "JPEGImages").is_dir():
        lists = data / "ImageSets" / "Segmentation"
        for name in TEST_NAMES:
            files = [lists / f"{part}.txt" for part in ("train", name)]
            if all(file.is_file() for file in files):
                wanted = [file.read_text().split() for file in files]
                if both := sorted(set(wanted[0]) & set(wanted[1])):
                    raise UserError(f"'{both[0]}' is in '{files[0]}' and in '{files[1]}'")
                return _pairs(data, wanted[0]), _pairs(data, wanted[1])
        raise UserError(f"'{lists}' holds no train.txt beside one of {', '.join(f'{n}.txt' for n in TEST_NAMES)}")
    for name in TEST_NAMES:
        folders = [data / "train", data / name]
        if all((folder / "JPEGImages").is_dir() for folder in folders):
            return _pairs(folders[0], None), _pairs(folders[1], None)
    raise UserError(
        f"no pictures with classes of pixels in '{data}': it is neither a Soundstage corpus with dense truth "
        "(manifest.jsonl and truth/), nor has it JPEGImages/, Annotations/ and ImageSets/Segmentation/, nor train/ and "
        "test/ with JPEGImages/ and Annotations/ in each"
    )


def _pairs(folder: Path, wanted: Sequence[str] | None) -> list[tuple[str, Path, Path]]:
    pictures = folder / "JPEGImages"
    masks = next((folder / name for name in _MASKS if (folder / name).is_dir()), None)
    if masks is None:
        raise UserError(f"no masks in '{folder}': it has neither of {', '.join(_MASKS)}")
    there = {
        p.relative_to(pictures).with_suffix("").as_posix(): p
        for p in sorted(pictures.rglob("*"))
        if p.suffix.lower() in IMAGE_SUFFIXES
    }
    names = sorted(there) if wanted is None else list(wanted)
    if not names:
        raise UserError(
            f"no pictures in '{pictures}'" if wanted is None else f"an empty list of pictures in '{folder}'"
        )
    if missing := [name for name in names if name not in there]:
        raise UserError(f"{len(missing)} pictures are missing, for instance '{pictures / missing[0]}.jpg'")
    found = [(name, there[name], masks / f"{name}.png") for name in names]
    if lacking := [mask for _, _, mask in found if not mask.is_file()]:
        raise UserError(f"{len(lacking)} pictures have no mask, for instance '{lacking[0]}' is missing")
    return found


def _of_pictures(pairs: Sequence[tuple[str, Path, Path]], limit: int | None) -> list[PixelClip]:
    """Pictures in one subfolder are frames of one clip; those in none are clips by themselves."""
    by_clip: dict[str, list[tuple[Path, Path]]] = {}
    for name, picture, mask in pairs:
        by_clip.setdefault(name.rpartition("/")[0] or name, []).append((picture, mask))
    keys = sorted(by_clip)
    if limit is not None:
        seeds = np.array([sample_seed(0, 0, "evaluation", key) for key in keys], dtype=np.int64)
        order = np.argsort(uniform_numpy(seeds, "clip limit")[:, 0], kind="stable")
        keys = [keys[i] for i in sorted(order[:limit])]
    made = []
    for key in keys:
        read = [_read(picture, mask) for picture, mask in by_clip[key]]
        made.append(PixelClip(key, tuple(picture for picture, _ in read), tuple(mask for _, mask in read)))
    return made


def _read(picture: Path, mask: Path) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        with Image.open(picture) as image:
            pixels = np.array(image.convert("RGB"))
        with Image.open(mask) as image:
            mode, values = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"picture '{picture}' or its mask '{mask}' cannot be read ({error})") from error
    if mode not in ("P", "L"):
        raise UserError(f"mask '{mask}' is of mode {mode}; masks hold a class a pixel (P or L)")
    if pixels.shape[:2] != values.shape:
        raise UserError(f"picture '{picture}' is {pixels.shape[:2]} pixels and its mask {values.shape}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), torch.from_numpy(values)
