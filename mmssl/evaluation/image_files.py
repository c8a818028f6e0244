"""Labelled pictures in class folders or zip files of them, read with PIL; what cannot be read is named, never dropped.

A class is the folder that a picture lies in: ``cat/0001.jpg``, in a folder or a zip file, below folders that all
pictures share. Several levels of folders below the class are allowed.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps

from mmssl.data.budget import BUDGET_SHARE
from mmssl.data.media import IMAGE_SUFFIXES
from mmssl.errors import UserError
from mmssl.randomness import sample_seed, uniform_numpy

TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class ImageSet:
    """Pictures of one part, not yet read.

    Args:
        source: the folder or zip file.
        names: where each picture lies in it.
        keys: the same below what all share, ``cat/0001.jpg``.
        labels: the class of each.
    """

    source: Path
    names: tuple[str, ...]
    keys: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, rows: Sequence[int] | np.ndarray) -> ImageSet:
        """Some of the pictures."""
        names, keys, labels = (tuple(part[i] for i in rows) for part in (self.names, self.keys, self.labels))
        return ImageSet(self.source, names, keys, labels)

    def limited(self, limit: int | None) -> ImageSet:
        """At most `limit` pictures of each class, drawn from their keys alone."""
        if limit is None:
            return self
        if limit < 1:
            raise UserError(f"limit={limit}: at least 1 picture of each class is needed; leave it out for all")
        seeds = np.array([sample_seed(0, 0, "evaluation", key) for key in self.keys], dtype=np.int64)
        draws = uniform_numpy(seeds, "picture limit")[:, 0]
        taken: dict[str, int] = {}
        chosen = []
        for row in np.argsort(draws, kind="stable"):
            label = self.labels[row]
            taken[label] = taken.get(label, 0) + 1
            if taken[label] <= limit:
                chosen.append(int(row))
        return self.rows(sorted(chosen))


@dataclass
class Reading:
    """What happened while pictures were read.

    Args:
        left_out: key -> why it could not be read.
        digests: of the bytes of each picture that could be read, in order.
    """

    left_out: dict[str, str] = field(default_factory=dict)
    digests: list[bytes] = field(default_factory=list)


def two_parts(data: Path | None, train: Path | None, test: Path | None) -> tuple[ImageSet, ImageSet]:
    """Train and test pictures: of one place that holds both, or of two.

    Args:
        data: a folder with train and test (or val) as folders or zip files, or a zip file with both as folders.
        train: with `test`, class folders or a zip file of them.
        test: see `train`.

    Raises:
        UserError: nothing like that is there.
    """
    if data is not None and train is None and test is None:
        if not data.exists():
            raise UserError(f"no folder or zip file '{data}'")
        for name in TEST_NAMES:
            if data.is_dir():
                both = [_part_of(data, part) for part in ("train", name)]
                if both[0] is not None and both[1] is not None:
                    return image_set(both[0]), image_set(both[1])
            else:
                names = _names(data)
                both_names = [_below(names, part) for part in ("train", name)]
                if all(both_names):
                    return _labelled(data, both_names[0]), _labelled(data, both_names[1])
        raise UserError(
            f"'{data}' holds no part `train` beside one of {', '.join(TEST_NAMES)} (as folders or zip files); name the "
            "parts with --train and --test"
        )
    if data is None and train is not None and test is not None:
        return image_set(train), image_set(test)
    raise UserError("give either --data (a place that holds train and test) or both --train and --test")


def image_set(source: Path) -> ImageSet:
    """The pictures of a folder or a zip file of class folders.

    Raises:
        UserError: it is neither, or holds no pictures in class folders.
    """
    return _labelled(source, _names(source))


def _part_of(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.zip") if p.exists()), None)


def _below(names: Sequence[str], part: str) -> list[str]:
    """Names with a folder `part` above the class."""
    return [name for name in names if part in PurePosixPath(name).parts[:-2]]


def _names(source: Path) -> list[str]:
    if source.is_dir():
        found = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    elif source.is_file():
        try:
            with zipfile.ZipFile(source) as archive:
                found = [info.filename for info in archive.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"'{source}' is no zip file that can be read ({error})") from error
    else:
        raise UserError(f"no folder or zip file '{source}'")
    return sorted(
        name
        for name in found
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    )


def _labelled(source: Path, names: Sequence[str]) -> ImageSet:
    if not names:
        raise UserError(f"no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}) in '{source}'")
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    shared = 0
    while all(len(f) > shared for f in folders) and len({f[shared] for f in folders}) == 1:
        shared += 1
    bare = [name for name, f in zip(names, folders, strict=True) if len(f) <= shared]
    if bare:
        raise UserError(
            f"'{source}' is not laid out in class folders: '{bare[0]}' lies beside the others, in none; put the "
            "pictures of each of two or more classes into a folder of its name"
        )
    keys = ["/".join(PurePosixPath(name).parts[shared:]) for name in names]
    return ImageSet(source, tuple(names), tuple(keys), tuple(key.split("/")[0] for key in keys))


def fitted(data: bytes, size: int) -> np.ndarray:
    """Uint8 [size, size, 3]: a picture's shorter side scaled to `size` (bicubic), cut around the centre."""
    with Image.open(io.BytesIO(data)) as image:
        whole = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(ImageOps.fit(whole, (size, size), Image.Resampling.BICUBIC))


def batches(
    images: ImageSet, size: int, reading: Reading, batch_size: int = 64, threads: int = 2
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Rows of the pictures that can be read, and their pixels uint8 [B, 3, size, size].

    Args:
        images: which.
        size: side in pixels.
        reading: is told what was left out.
        batch_size: pictures at a time.
        threads: that decode.

    Raises:
        UserError: more than 5 % of the pictures (and more than one) cannot be read.
    """
    most = max(1, int(BUDGET_SHARE * len(images)))
    archive = zipfile.ZipFile(images.source) if images.source.is_file() else None

    def read(row: int) -> tuple[np.ndarray, bytes] | str:
        try:
            name = images.names[row]
            data = archive.read(name) if archive is not None else (images.source / name).read_bytes()
            return fitted(data, size), hashlib.sha256(data).digest()
        except Exception as error:  # decoders raise nearly anything on a damaged file
            return f"{type(error).__name__}: {error}"[:200]

    try:
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for first in range(0, len(images), batch_size):
                rows, pixels = [], []
                for row, found in enumerate(pool.map(read, range(first, min(first + batch_size, len(images)))), first):
                    if isinstance(found, str):
                        reading.left_out[images.keys[row]] = found
                    else:
                        rows.append(row)
                        pixels.append(found[0])
                        reading.digests.append(found[1])
                if len(reading.left_out) > most:
                    raise UserError(_too_many(images, reading.left_out))
                if rows:
                    yield rows, torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    finally:
        if archive is not None:
            archive.close()


def _too_many(images: ImageSet, left_out: Mapping[str, str]) -> str:
    key, cause = next(iter(left_out.items()))
    return (
        f"{len(left_out)} of the first pictures of '{images.source}' cannot be read, more than {BUDGET_SHARE:.0%} of "
        f"all {len(images)}, for instance '{key}' ({cause}); mend or remove them"
    )
