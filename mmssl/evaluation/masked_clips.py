"""Clips with a mask for every frame: of a Soundstage corpus (its dense truth), or of folders laid out as DAVIS is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmssl.data.dense_truth import BadTruth, load_arrays
from mmssl.data.media import IMAGE_SUFFIXES, MediaError, open_media, video_stream
from mmssl.errors import UserError


@dataclass(frozen=True)
class MaskedClip:
    """A film and the objects in it.

    Args:
        key: its name.
        frames: uint8 [T, 3, H, W].
        masks: uint8 [T, H, W], the object at each pixel, 0 for none.
        about: its line in the manifest of a Soundstage corpus; empty for folders of frames.
    """

    key: str
    frames: torch.Tensor
    masks: torch.Tensor
    about: Mapping[str, Any] = field(default_factory=dict)


def masked_clips(folder: Path, split: str = "test", limit: int | None = None) -> Iterator[MaskedClip]:
    """The clips of a folder, told by what lies in it.

    Args:
        folder: a Soundstage corpus (manifest.jsonl and truth/), or frames in JPEGImages/ and masks in Annotations/,
            both with the same subfolders, one a clip, and file names.
        split: part of a Soundstage corpus; folders of frames have none.
        limit: how many clips at most.

    Raises:
        UserError: it is neither, a clip cannot be read, or the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit}: at least 1 clip is needed; leave it out for all")
    if (folder / "manifest.jsonl").is_file():
        clips = _of_corpus(folder, split)
    elif (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir():
        clips = _of_frames(folder)
    else:
        raise UserError(
            f"no clips with masks in '{folder}': it holds neither manifest.jsonl and truth/ (a Soundstage corpus with "
            "dense truth) nor JPEGImages/ and Annotations/ (frames and masks)"
        )
    for number, clip in enumerate(clips):
        if limit is not None and number >= limit:
            return
        yield clip


def _of_corpus(folder: Path, split: str) -> Iterator[MaskedClip]:
    found = False
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        about = _described(folder, line)
        truth = folder / "truth" / f"{about['key']}.npz"
        if about.get("split") != split or not truth.is_file():
            continue
        found = True
        try:
            masks = torch.from_numpy(load_arrays(truth.read_bytes(), ["instances"])["instances"])
        except (OSError, BadTruth, KeyError) as error:
            raise UserError(
                f"'{truth}' holds no instances that can be read ({error}): render the corpus anew"
            ) from error
        frames = _all_frames(folder / about["path"])
        if frames.shape[-2:] != masks.shape[-2:] or len(frames) < len(masks):
            raise UserError(
                f"clip '{about['key']}' has frames {list(frames.shape)} and masks {list(masks.shape)}: render the "
                "corpus anew"
            )
        yield MaskedClip(about["key"], frames[: len(masks)], masks, about)
    if not found:
        raise UserError(f"no clip of split '{split}' with dense truth in '{folder}'; `mmssl soundstage` can write it")


def _described(folder: Path, line: str) -> dict[str, Any]:
    """A line of the manifest."""
    try:
        about = json.loads(line)
    except ValueError as error:
        raise UserError(f"'{folder / 'manifest.jsonl'}' has a line that is no JSON ({error})") from error
    if not isinstance(about, dict) or not {"key", "path"} <= set(about):
        raise UserError(f"'{folder / 'manifest.jsonl'}' has a line without key and path: {line[:80]}")
    return about


def _all_frames(path: Path) -> torch.Tensor:
    """Uint8 [T, 3, H, W]: every frame of a file."""
    try:
        with open_media(path) as container:
            stream = video_stream(container)
            shown = [frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(stream)]
    except MediaError as error:
        raise UserError(f"video '{path}' cannot be decoded: {error}") from error
    return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).contiguous()


def _of_frames(folder: Path) -> Iterator[MaskedClip]:
    pictures = folder / "JPEGImages"
    paths = sorted(p for p in pictures.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    by_clip: dict[Path, list[Path]] = {}
    for path in paths:
        by_clip.setdefault(path.parent.relative_to(pictures), []).append(path)
    if not by_clip:
        raise UserError(f"no pictures in '{pictures}'")
    for place, files in by_clip.items():
        annotations = [folder / "Annotations" / place / f"{path.stem}.png" for path in files]
        missing = [path for path in annotations if not path.is_file()]
        if missing:
            raise UserError(f"{len(missing)} frames have no mask, for instance '{missing[0]}' is missing")
        try:
            frames = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])
            masks = torch.from_numpy(np.stack([_mask(path) for path in annotations]))
        except (OSError, ValueError) as error:
            raise UserError(f"frames and masks of '{place}' cannot be put together: {error}") from error
        if frames.shape[1:3] != masks.shape[1:]:
            raise UserError(f"frames of '{place}' are {frames.shape[1:3]} pixels and their masks {masks.shape[1:]}")
        key = folder.resolve().name if place == Path(".") else str(place)
        yield MaskedClip(key, torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(), numbered(masks))


def _mask(path: Path) -> np.ndarray:
    """Uint8 [H, W]: indices of a palette picture, or grey values."""
    image = Image.open(path)
    if image.mode not in ("P", "L", "1"):
        raise UserError(f"mask '{path}' is of mode {image.mode}; masks hold an object's number a pixel (P or L)")
    return np.asarray(image.convert("L") if image.mode == "1" else image, dtype=np.uint8)


def numbered(masks: torch.Tensor) -> torch.Tensor:
    """Masks in which 255, white, is object 1 where it is the only value beside 0 (a plain black and white mask)."""
    values = set(masks.unique().tolist())
    return (masks == 255).to(torch.uint8) if values <= {0, 255} else masks
