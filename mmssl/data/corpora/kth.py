"""KTH human actions (Schuldt, Laptev and Caputo, ICPR 2004): 25 people, 6 actions, 4 scenes, at 25 frames a second.

Files are called ``person01_boxing_d1_uncomp.avi``, in folders of classes or in one. The official split goes by person
and stands at the head of `00sequences.txt`: 8 people train, 8 validate, 9 test. Where that file is below the folder,
each of its frame ranges (counted from 1, both ends included) becomes a segment, as in the paper; else a file is one.
"""

from __future__ import annotations

import re
from pathlib import Path

from mmssl.data.corpora.files import Annotations, Found, Tree, lines_of
from mmssl.data.corpora.source import Listing, Segment
from mmssl.errors import UserError

NAME = "kth"
FOLD = "official"
ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
PEOPLE = {
    "train": (11, 12, 13, 14, 15, 16, 17, 18),
    "val": (19, 20, 21, 23, 24, 25, 1, 4),
    "test": (22, 2, 3, 5, 6, 7, 8, 9, 10),
}
SPLIT_OF = {person: split for split, people in PEOPLE.items() for person in people}
FRAME_RATE = 25.0
SEQUENCES = "00sequences.txt"
_FILE = re.compile(r"person(\d+)_([a-z]+)_d(\d)(?:_uncomp)?", re.IGNORECASE)
_LINE = re.compile(r"(person\d+_[a-z]+_d\d)\s+(?:frames\s+(?P<ranges>[\d\s,-]+)|\*missing\*)", re.IGNORECASE)


def list_kth(root: Path, allow_missing: bool = False) -> Listing:
    """List the sequences, with labels, the official split, and the person as group.

    Raises:
        UserError: no file is named as KTH names them, a line of 00sequences.txt is bad, or files that it names are
            missing and may not be.
    """
    tree = Tree.of(root)
    videos: dict[str, str] = {}
    for stem in sorted(tree.videos):
        match = _FILE.fullmatch(stem)
        if match is not None:
            videos.setdefault(f"person{int(match[1]):02d}_{match[2]}_d{match[3]}", tree.videos[stem][0])
    path = tree.other(SEQUENCES)
    if not videos:
        raise UserError(f"KTH: no file below '{root}' is called as person01_boxing_d1_uncomp.avi is")
    ranges = {name: None for name in videos} if path is None else _ranges(path)
    found = Found("KTH", root, allow_missing)
    for name, parts in sorted(ranges.items()):
        person, action, _ = name.split("_")
        split = SPLIT_OF.get(int(person.removeprefix("person")))
        if split is None or action not in ACTIONS:
            raise UserError(f"KTH: '{name}' is none of 25 people doing one of {', '.join(ACTIONS)}")
        first = Segment(label=action, split=split, folds={FOLD: split}, group=person)
        found.add(name, videos.get(name), *([first] if parts is None else _segments(name, first, parts)))
    found.pass_over(tree)
    return found.listing(Annotations.of(NAME, root, [] if path is None else [path]))


def _ranges(path: Path) -> dict[str, list[tuple[int, int]] | None]:
    """The ranges of frames of each sequence; the text before the first one is passed over."""
    found: dict[str, list[tuple[int, int]] | None] = {}
    for number, line in lines_of(path):
        if not re.match(r"person\d+_", line, re.IGNORECASE):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UserError(f"list '{path}', line {number}: '{line}' is no 'person01_boxing_d1 frames 1-95, 96-185'")
        if match["ranges"] is None:
            continue  # one sequence was never recorded
        parts = [
            re.fullmatch(r"(\d+)\s*-\s*(\d+)", part.strip()) for part in match["ranges"].split(",") if part.strip()
        ]
        if not all(part and 1 <= int(part[1]) < int(part[2]) for part in parts):
            raise UserError(f"list '{path}', line {number}: '{match['ranges']}' are no ranges of frames such as 1-95")
        found[match[1].lower()] = [(int(part[1]), int(part[2])) for part in parts if part]
    return found


def _segments(name: str, first: Segment, parts: list[tuple[int, int]]) -> list[Segment]:
    return [
        Segment(
            start=(begin - 1) / FRAME_RATE,
            end=end / FRAME_RATE,
            key=f"{name}_s{number}",
            label=first.label,
            split=first.split,
            folds=first.folds,
            group=first.group,
        )
        for number, (begin, end) in enumerate(parts, start=1)
    ]
