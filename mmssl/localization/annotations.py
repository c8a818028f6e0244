"""Files of boxes as the test sets release them, read without any video.

VGG-SS (arXiv 2104.02691): a JSON list of ``{"file", "class", "bbox": [[x0, y0, x1, y1], ...]}`` in fractions of the
picture. Flickr-SoundNet (arXiv 1803.03849): a folder of XML files, one a clip, each child of the root an annotator
whose ``bbox`` elements end in the four corners on a grid of 256. A JSON list may also name who drew each box, in
``"annotators"`` beside ``"bbox"`` (or ``"boxes"``).

The released VGG-SS file holds boxes without area and corners of -2.9e16. The published code cuts corners to the
picture, so that such a box covers nothing and its clip stays in the count; the same is done here, and every such box
is told of. What is no box at all is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmssl.errors import UserError
from mmssl.localization.truth import Box

Kind = Literal["vggss", "flickr"]
FLICKR_GRID = 256.0
MAX_BYTES = 256 * 1024 * 1024  # of one file


@dataclass(frozen=True)
class ClipBoxes:
    """The boxes of one clip.

    Args:
        key: the clip's name in the file.
        boxes: [x0, y0, x1, y1] in fractions of the picture, cut to it; one without area stays in the list.
        annotators: who drew each box; None where the file does not say, and the truth is the union.
        label: what sounds, where the file says.
    """

    key: str
    boxes: tuple[Box, ...]
    annotators: tuple[str, ...] | None
    label: str | None


@dataclass(frozen=True)
class Annotations:
    """A file or folder of boxes.

    Args:
        path: where it lies.
        sha256: of the file; of a folder, of the lines "sha256  name" of its files in the order of their names.
        kind: vggss or flickr.
        clips: in the order of the file.
        faults: boxes that reach out of the picture or have no area, each as a sentence that names the clip.
    """

    path: Path
    sha256: str
    kind: Kind
    clips: tuple[ClipBoxes, ...]
    faults: tuple[str, ...]


def read_annotations(path: Path, kind: Kind | None = None, strict: bool = False) -> Annotations:
    """Read a file of boxes.

    Args:
        path: a JSON file, or a folder of XML files.
        kind: vggss or flickr; told from the path (a folder is Flickr-SoundNet's) unless given.
        strict: refuse boxes that reach out of the picture or have no area.

    Raises:
        UserError: it cannot be read, or holds something that is no box; the file and the clip are named.
    """
    found = kind or ("flickr" if path.is_dir() else "vggss")
    if path.is_dir():
        files = sorted(path.glob("*.xml"))
        if not files:
            raise UserError(f"annotations '{path}': the folder holds no .xml file; give Flickr-SoundNet's Annotations")
        contents = [(file, _bytes(file)) for file in files]
        lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {file.name}\n" for file, data in contents)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        entries = [_xml_entry(file, data) for file, data in contents]
    else:
        data = _bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        entries = list(_json_entries(path, data))
    faults: list[str] = []
    clips = []
    for name, entry in entries:
        where = f"annotations '{path}', clip '{name}'"
        clips.append(_clip(where, name, entry, found, faults))
    if not clips:
        raise UserError(f"annotations '{path}': no clip in it")
    if strict and faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UserError(f"annotations '{path}': {faults[0]}{more}; mend the file, or leave out --strict")
    return Annotations(path, digest, found, tuple(clips), tuple(faults))


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"annotations '{path}': larger than {MAX_BYTES >> 20} MiB, which no list of boxes is")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"annotations '{path}' cannot be read ({error.strerror}); give an existing file") from error


def _json_entries(path: Path, data: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        listed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"annotations '{path}' is no JSON ({error}); give the released file of boxes") from error
    if not isinstance(listed, list):
        raise UserError(f"annotations '{path}' must be a list of clips, found {type(listed).__name__}")
    seen: set[str] = set()
    for number, entry in enumerate(listed):
        name = entry.get("file") if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping) or not isinstance(name, str) or not name:
            raise UserError(f"annotations '{path}', entry {number}: must be {{'file': ..., 'bbox': [...]}}")
        if name in seen:
            raise UserError(f"annotations '{path}': clip '{name}' is listed twice; keep one entry a clip")
        seen.add(name)
        yield name, entry


def _xml_entry(path: Path, data: bytes) -> tuple[str, Mapping[str, Any]]:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # entities can grow without bound
        raise UserError(f"annotations '{path}': document types and entities are not read; remove them")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise UserError(f"annotations '{path}' is no XML ({error})") from error
    boxes, annotators = [], []
    for number, annotator in enumerate(root):
        for box in annotator.iter("bbox"):
            texts = [(corner.text or "").strip() for corner in box][-4:]
            try:
                boxes.append([float(text) / FLICKR_GRID for text in texts])
            except ValueError:
                raise UserError(f"annotations '{path}', clip '{path.stem}': {texts} is no box") from None
            annotators.append(str(number))
    return path.stem, {"bbox": boxes, "annotators": annotators}


def _clip(where: str, name: str, entry: Mapping[str, Any], kind: Kind, faults: list[str]) -> ClipBoxes:
    boxes = entry.get("bbox", entry.get("boxes"))
    if not isinstance(boxes, list) or not boxes:
        raise UserError(f"{where}: no boxes; an entry must hold 'bbox', a list of [x0, y0, x1, y1]")
    kept = []
    for box in boxes:
        corners = _corners(where, box)
        cut = tuple(min(max(value, 0.0), 1.0) for value in corners)
        if not (cut[0] < cut[2] and cut[1] < cut[3]):
            faults.append(f"clip '{name}': the box {list(corners)} has no area within the picture")
        elif cut != corners:
            faults.append(f"clip '{name}': the box {list(corners)} reaches out of the picture")
        kept.append((cut[0], cut[1], cut[2], cut[3]))
    named = entry.get("annotators")
    if named is None and kind == "flickr":
        named = list(range(len(kept)))  # one box an annotator
    if named is not None and (not isinstance(named, list) or len(named) != len(kept)):
        raise UserError(f"{where}: {len(kept)} boxes need as many annotators, found {named!r}")
    label = entry.get("class", entry.get("label"))
    return ClipBoxes(
        name,
        tuple(kept),
        None if named is None else tuple(str(annotator) for annotator in named),
        None if label is None else str(label),
    )


def _corners(where: str, box: Any) -> tuple[float, float, float, float]:
    usable = isinstance(box, list | tuple) and len(box) == 4
    if not usable or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in box):
        raise UserError(f"{where}: {box!r} is no box [x0, y0, x1, y1] of four finite numbers")
    x0, y0, x1, y1 = (float(v) for v in box)
    if max(x0, y0, x1, y1) > 2.0:
        raise UserError(f"{where}: the box {[x0, y0, x1, y1]} is not in fractions of the picture; divide by its size")
    return x0, y0, x1, y1
