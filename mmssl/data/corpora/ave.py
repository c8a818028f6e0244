"""AVE, audio-visual events (Tian et al., arXiv 1803.08842): 4,143 ten-second clips of AudioSet, 28 events.

Read are `Annotations.txt` and, where they are there, `trainSet.txt`, `valSet.txt` and `testSet.txt`: rows
``Category&VideoID&Quality&StartTime&EndTime``, with or without that head. Between start and end (seconds) the event is
both seen and heard; there are no boxes. Each row becomes a clip of its whole video, with the category as label and all
events of the video as truth, so that a video with two events is there twice. The group of a clip is its video.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from mmssl.data.corpora.files import Annotations, Found, Tree, lines_of
from mmssl.data.corpora.source import Listing, Segment
from mmssl.errors import UserError

NAME = "ave"
FOLD = "official"
LISTS = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}
Row = tuple[str, str]  # (category, video)


def list_ave(root: Path, allow_missing: bool = False) -> Listing:
    """List the annotated clips, with labels, events, and the official split.

    Raises:
        UserError: a list is missing or has a bad row, or videos are missing and may not be.
    """
    tree = Tree.of(root)
    path = tree.need("Annotations.txt", "of the AVE data set, beside its folder of videos")
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rows: dict[Row, str | None] = {}
    for (category, video), event in _rows(path):
        rows[category, video] = None
        events[video].append(event)
    read = [path]
    if any(tree.other(name) for name in LISTS.values()):
        for split, name in LISTS.items():
            read.append(tree.need(name, "of the AVE data set; leave out all three for no split"))
            for row, _ in _rows(read[-1]):
                if row not in rows:
                    raise UserError(f"list '{read[-1]}' names '{row[0]}' in '{row[1]}', and '{path}' does not")
                if rows[row] not in (None, split):
                    raise UserError(f"list '{read[-1]}': '{row[0]}' in '{row[1]}' is in {rows[row]} and in {split}")
                rows[row] = split
    found = Found("AVE", root, allow_missing)
    for (category, video), side in rows.items():
        folds = {} if side is None else {FOLD: side}
        segment = Segment(label=category, split=side, truth={"events": events[video]}, folds=folds, group=video)
        found.add(video, next(iter(_called(tree, video)), None), segment)
    found.pass_over(tree)
    return found.listing(Annotations.of(NAME, root, read))


def _called(tree: Tree, video: str) -> list[str]:
    """Videos with that very name: YouTube's ids tell letter case apart."""
    return [path for path in tree.videos.get(video.lower(), []) if Path(path).stem == video]


def _rows(path: Path) -> list[tuple[Row, dict[str, Any]]]:
    found = []
    for number, line in lines_of(path):
        if line.lower().replace(" ", "").startswith("category&videoid"):
            continue
        parts = [part.strip() for part in line.split("&")]
        if len(parts) != 5 or not all(re.fullmatch(r"\d+(\.\d+)?", part) for part in parts[3:]):
            raise UserError(f"list '{path}', line {number}: '{line}' is no 'category&video&quality&start&end'")
        category, video, quality, start, end = parts
        event = {"label": category, "start": float(start), "end": float(end), "quality": quality}
        found.append(((category, video), event))
    return found
