"""A folder of videos: files by suffix, the parent folder as label, subtitles beside the files."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from pathlib import Path

from mmssl.data.corpora.source import Listing, Segment, Source, Unusable, key_of, with_unique_keys
from mmssl.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from mmssl.data.subtitles import SUFFIXES

SPLITS = frozenset({"train", "val", "valid", "validation", "test"})
FEWEST_FRAMES = 3
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]+)*\Z")


def list_folder(root: Path, labels: str = "folder", language: str | None = None) -> Listing:
    """List the videos below a folder (hidden ones left out), sorted by their relative path.

    With labels "folder" a file in a subfolder gets that folder's name as its label. A first folder named train, val,
    valid, validation or test is the split. Folders of single frames are listed as unusable.
    """
    sources: list[Source] = []
    unusable: list[Unusable] = []
    ignored: Counter[str] = Counter()
    for folder, subfolders, files in os.walk(root, followlinks=False):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(folder)
        sidecars = _sidecars(files)
        relative = here.relative_to(root)
        images = 0
        for name in sorted(name for name in files if not name.startswith(".")):
            suffix = Path(name).suffix.lower()
            if suffix in VIDEO_SUFFIXES:
                path = here / name
                where = (relative / name).as_posix()
                subtitles = choose_sidecar(sidecars.get(Path(name).stem, []), language)
                segment = Segment(
                    label=_label(relative) if labels == "folder" else None,
                    split=relative.parts[0] if relative.parts and relative.parts[0] in SPLITS else None,
                    subtitles=None if subtitles is None else here / subtitles,
                )
                sources.append(Source(path, where, key_of(where), (segment,)))
            elif suffix in IMAGE_SUFFIXES:
                images += 1
            elif not name.lower().endswith(SUFFIXES):
                ignored[suffix or name] += 1
        if images >= FEWEST_FRAMES:
            message = f"{images} pictures: frames have no clock and no sound; make a video of them first"
            unusable.append(Unusable(relative.as_posix(), "folder of frames", message))
        elif images:
            ignored["pictures"] += images
    sources.sort(key=lambda source: source.name)
    return Listing(with_unique_keys(sources), tuple(unusable), dict(ignored))


def _label(relative: Path) -> str | None:
    if not relative.parts or (len(relative.parts) == 1 and relative.parts[0] in SPLITS):
        return None
    return relative.parts[-1]


def _sidecars(files: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Map the stem of a video to its subtitle files, each as (language or "", file name)."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in files:
        suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), None)
        if suffix is None:
            continue
        stem = name[: -len(suffix)]
        found[stem].append(("", name))
        base, _, tag = stem.rpartition(".")
        if base and _LANGUAGE.match(tag):
            found[base].append((tag.lower(), name))
    return found


def choose_sidecar(sidecars: list[tuple[str, str]], language: str | None) -> str | None:
    """Choose among (language, file name): the wanted language, else one without mark, else English, else the first.

    With a wanted language, files marked as another one are never taken. Of several formats SubRip comes first.
    """

    def rank(item: tuple[str, str]) -> tuple[int, int, str]:
        mark, name = item
        short = re.split(r"[-_]", mark)[0]
        order = [language.lower(), ""] if language else ["", "en", "eng"]
        kind = next(i for i, suffix in enumerate(SUFFIXES) if name.lower().endswith(suffix))
        return (order.index(short) if short in order else len(order)), kind, name

    if not sidecars:
        return None
    best = min(sidecars, key=rank)
    if language and rank(best)[0] > 1:
        return None
    return best[1]
