"""VGG-Sound Source (Chen et al., arXiv 2104.02691): boxes of what sounds in 5,158 ten-second clips of VGGSound.

Read is `vggss.json`, a list of ``{"file": "{id}_{start:06d}", "class", "bbox": [[x0, y0, x1, y1], ...]}`` with boxes
in fractions of the picture, drawn on the middle frame. Videos are called ``{id}_{start:06d}``, ``{class}_{id}_{start}``
or ``{id}_{milliseconds}_{milliseconds}``, or as the entry's "path" says. As published, boxes are cut to the picture;
the public file has boxes without area, which are left out and listed in failures.jsonl.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmssl.data.corpora.files import Annotations, Found, Tree, plain, text_of
from mmssl.data.corpora.source import Listing, Segment, Unusable
from mmssl.errors import UserError

NAME = "vggss"
NAMES = ("vggss.json", "vggss_boxes.json", "vggss_annotations.json", "boxes.json")
CLIP_SECONDS = 10


def list_vggss(source: Path, allow_missing: bool = False) -> Listing:
    """List the annotated clips, each with its class as label and its boxes as truth.

    Args:
        source: the folder that holds the videos and the annotation file, or that file, with the videos below its
            folder.
        allow_missing: whether clips whose video is not there are left out.

    Raises:
        UserError: the annotation file is missing or no such file, or videos are missing and may not be.
    """
    root = source if source.is_dir() else source.parent
    tree = Tree.of(root)
    path = source if source.is_file() else next((p for p in map(tree.other, NAMES) if p is not None), None)
    if path is None:
        raise UserError(f"list file missing: there is none of {', '.join(NAMES)} below '{root}' (VGG-SS)")
    places = _places(tree)
    found = Found("VGG-SS", root, allow_missing)
    seen: set[str] = set()
    for number, entry in enumerate(_entries(path)):
        name = str(entry["file"])
        if name in seen:
            raise UserError(f"annotations '{path}': '{name}' is listed twice; keep one entry a clip")
        seen.add(name)
        boxes, bad = _boxes(entry["bbox"], f"'{path}', entry {number} ('{name}')")
        video = _video(tree, path, places, name, entry.get("path"))
        segment = Segment(label=str(entry["class"]).strip(), truth={"boxes": boxes}, group=name.rpartition("_")[0])
        found.add(name, video, segment)
        if bad and video is not None:
            message = f"{len(bad)} of {len(boxes) + len(bad)} boxes have no area in the picture, the first is {bad[0]}"
            found.unusable.append(Unusable(video, "bad box", message))
    found.pass_over(tree)
    return found.listing(Annotations.of(NAME, root, [path]))


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(text_of(path))
    except ValueError as error:
        raise UserError(f"annotations '{path}' are no JSON ({error})") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"annotations '{path}' are no list of clips")
    for number, entry in enumerate(entries):
        lacking = [name for name in ("file", "class", "bbox") if not isinstance(entry, dict) or name not in entry]
        if lacking:
            raise UserError(f"annotations '{path}', entry {number} lacks '{lacking[0]}'")
    return entries


def _boxes(given: Any, where: str) -> tuple[list[list[float]], list[Any]]:
    """The boxes cut to the picture, and those that have no area then."""
    boxes, bad = [], []
    if not isinstance(given, list):
        raise UserError(f"annotations {where}: {given!r} is no list of boxes")
    for box in given:
        try:
            x0, y0, x1, y1 = (min(max(float(v), 0.0), 1.0) for v in box)
        except (TypeError, ValueError):
            raise UserError(f"annotations {where}: {box!r} is no box [x0, y0, x1, y1]") from None
        if x0 < x1 and y0 < y1:
            boxes.append([x0, y0, x1, y1])
        else:
            bad.append(box)
    return boxes, bad


def _places(tree: Tree) -> dict[str, str]:
    """Map the last 18 letters of a stem, ``{id}_{start:06d}``, to the video: what stands before is the class."""
    found: dict[str, str] = {}
    for paths in tree.videos.values():
        for path in paths:
            found.setdefault(Path(path).stem[-18:], path)
    return found


def _video(tree: Tree, annotations: Path, places: dict[str, str], name: str, given: Any) -> str | None:
    if isinstance(given, str):
        path, root = (annotations.parent / given).resolve(), tree.root.resolve()
        if path.is_file() and path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    identity, _, start = name.rpartition("_")
    if start.isdigit():
        begin = int(start) * 1000
        timed = f"{identity}_{begin}_{begin + CLIP_SECONDS * 1000}"
        exact = [p for stem in (name, timed) for p in tree.videos.get(plain(stem), []) if Path(p).stem in (name, timed)]
        if exact:
            return exact[0]
    return places.get(name)
