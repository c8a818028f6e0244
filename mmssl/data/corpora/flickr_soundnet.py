"""Flickr-SoundNet localization (Senocak et al., arXiv 1803.03849): pictures with sound, boxed by three people each.

Read are ``{id}.xml`` (one a clip, from a folder Annotations) and, where there is one, a CSV whose first column holds
the ids of the test set (`flickr_test.csv`, `flickr_soundnet_test_ids.csv`); without it every annotated clip is listed.
Every element ``bbox`` of the XML is a box, in pixels of a picture of 256 x 256: children called xmin, ymin, xmax and
ymax, else the last four of its children. Boxes in one element around them are of one annotator; annotators are
numbered. The media are ``{id}.mp4`` (any video suffix) or, as published, ``{id}.jpg`` with ``{id}.wav``. All boxes are
kept, with their annotators beside them; the published truth of a place is min(annotators / 2, 1).
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

from mmssl.data.corpora.files import Annotations, Found, Tree, text_of
from mmssl.data.corpora.source import Listing, Segment, Unusable
from mmssl.errors import UserError

NAME = "flickr-soundnet"
TEST_LISTS = ("flickr_test.csv", "flickr_soundnet_test_ids.csv", "flickr_soundnet_test.csv")
SIDE = 256.0  # pixels of the pictures that were annotated
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def list_flickr_soundnet(source: Path, allow_missing: bool = False) -> Listing:
    """List the annotated clips with the boxes of every annotator.

    Args:
        source: the folder that holds annotations and media, or the CSV of ids, with all below its folder.
        allow_missing: whether clips whose media are not there are left out.

    Raises:
        UserError: annotations are missing or are none, or media are missing and may not be.
    """
    root = source if source.is_dir() else source.parent
    tree = Tree.of(root)
    table = source if source.is_file() else next((p for p in map(tree.other, TEST_LISTS) if p is not None), None)
    files = {
        name.removesuffix(".xml"): tree.root / paths[0] for name, paths in tree.others.items() if name[-4:] == ".xml"
    }
    if not files:
        raise UserError(
            f"list file missing: there is no '<id>.xml' below '{root}' (Flickr-SoundNet, folder Annotations)"
        )
    wanted = sorted(files) if table is None else _ids(table)
    lacking = [name for name in wanted if name not in files]
    if lacking:
        raise UserError(
            f"list file missing: {len(lacking)} of the {len(wanted)} ids of '{table}' have no '<id>.xml' below "
            f"'{root}', the first is '{lacking[0]}'"
        )
    found = Found("Flickr-SoundNet", root, allow_missing)
    for name in wanted:
        boxes, annotators, bad = _boxes(files[name])
        path, sound = _media(tree, name)
        truth = {"boxes": boxes, "annotators": annotators} | ({} if sound is None else {"still": True})
        found.add(name, path, Segment(truth=truth, group=name), sound=sound)
        if bad and path is not None:
            message = f"{len(bad)} of {len(boxes) + len(bad)} boxes have no area in the picture, the first is {bad[0]}"
            found.unusable.append(Unusable(path, "bad box", message))
    found.pass_over(tree)
    return found.listing(Annotations.of(NAME, root, [files[name] for name in wanted]))


def _ids(table: Path) -> list[str]:
    rows = [row[0].strip() for row in csv.reader(io.StringIO(text_of(table), newline="")) if row and row[0].strip()]
    found = [row.removesuffix(".mp4") for row in rows if re.fullmatch(r"\d+(\.mp4)?", row)]
    if not found or len(rows) - len(found) > 1:  # one line may be a head
        raise UserError(f"list '{table}' holds {len(found)} ids of Flickr (numbers) in {len(rows)} rows")
    return list(dict.fromkeys(found))


def _media(tree: Tree, name: str) -> tuple[str | None, Path | None]:
    """The path of the video or picture, and the file with the sound of a picture."""
    video = tree.video(name)
    if video is not None:
        return video, None
    sound = tree.other(f"{name}.wav")
    picture = next((path for ending in ("jpg", "jpeg", "png") if (path := tree.other(f"{name}.{ending}"))), None)
    if picture is None or sound is None:
        return None, None
    return picture.relative_to(tree.root).as_posix(), sound


def _boxes(path: Path) -> tuple[list[list[float]], list[str], list[list[float]]]:
    """Boxes in fractions of the picture, whose each is, and those that have no area."""
    try:
        root = ElementTree.fromstring(text_of(path))
    except ElementTree.ParseError as error:
        raise UserError(f"annotations '{path}' are no XML ({error})") from None
    boxes, annotators, bad = [], [], []
    people: dict[ElementTree.Element, str] = {}
    around = {child: parent for parent in root.iter() for child in parent}
    for element in root.iter("bbox"):
        values = _corners(element)
        if values is None:
            raise UserError(f"annotations '{path}': a bbox has no four numbers (xmin, ymin, xmax, ymax)")
        box = [min(max(v / SIDE, 0.0), 1.0) for v in values]
        called = people.setdefault(around.get(element, root), str(len(people) + 1))
        if box[0] < box[2] and box[1] < box[3]:
            boxes.append(box)
            annotators.append(called)
        else:
            bad.append(values)
    if not boxes and not bad:
        raise UserError(f"annotations '{path}' hold no bbox")
    return boxes, annotators, bad


def _corners(element: ElementTree.Element) -> list[float] | None:
    by_name = {child.tag.lower(): child.text for child in element}
    texts = [by_name[c] for c in CORNERS] if set(CORNERS) <= set(by_name) else [child.text for child in element][-4:]
    try:
        values = [float(text or "") for text in texts]
    except ValueError:
        return None
    return values if len(values) == 4 else None
