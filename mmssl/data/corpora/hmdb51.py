"""HMDB51 (Kuehne et al., ICCV 2011): 6,766 clips, 51 actions, three official folds.

Read are the lists ``{class}_test_split{1,2,3}.txt`` (archive test_train_splits, folder testTrainMulti_7030_splits):
a file name and 1 (train), 2 (test) or 0 (in neither). The group of a clip is what was filmed: the part of its name
before ``_{class}_{body parts}_{camera}_np{people}_{view}_{quality}_{number}``.
"""

from __future__ import annotations

import re
from pathlib import Path

from mmssl.data.corpora.files import Annotations, Found, Tree, lines_of, natural, plain
from mmssl.data.corpora.source import Listing, Segment
from mmssl.errors import UserError

NAME = "hmdb51"
FOLDS = ("1", "2", "3")
SIDES = {"0": None, "1": "train", "2": "test"}
_LIST = re.compile(r"(?P<label>.+)_test_split(?P<fold>\d+)\.txt", re.IGNORECASE)
_ROW = re.compile(r"(?P<stem>.+)\.\w+\s+(?P<flag>\S+)")


def list_hmdb51(root: Path, allow_missing: bool = False) -> Listing:
    """List the clips that the lists name, with labels, folds and groups.

    Raises:
        UserError: a list is missing or has a bad row, or files are missing and may not be.
    """
    tree = Tree.of(root)
    lists: dict[str, dict[str, Path]] = {}
    for names in tree.others.values():
        for name in names:
            match = _LIST.fullmatch(Path(name).name)
            if match is not None:
                lists.setdefault(match["label"], {}).setdefault(match["fold"], root / name)
    if not lists:
        raise UserError(
            f"list file missing: there is no '<class>_test_split1.txt' below '{root}' (of the archive "
            "test_train_splits, folder testTrainMulti_7030_splits)"
        )
    found = Found("HMDB51", root, allow_missing)
    for label in sorted(lists):
        for fold in FOLDS:
            if fold not in lists[label]:
                raise UserError(f"list file missing: there is no '{label}_test_split{fold}.txt' below '{root}'")
        folds: dict[str, dict[str, str]] = {}
        spelled: dict[str, str] = {}
        for fold in natural(list(lists[label])):
            for number, line in lines_of(lists[label][fold]):
                stem, side = _row(lists[label][fold], number, line)
                spelled.setdefault(plain(stem), stem)
                sides = folds.setdefault(plain(stem), {})
                if side is not None:
                    sides[fold] = side
        for clip, sides in folds.items():
            stem = spelled[clip]
            segment = Segment(label=label, folds=sides, group=filmed(stem, label))
            found.add(f"{label}/{stem}", tree.video(stem, label), segment)
    found.pass_over(tree)
    return found.listing(
        Annotations.of(NAME, root, (path for of_class in lists.values() for path in of_class.values()))
    )


def filmed(stem: str, label: str) -> str:
    """The film or video that a clip was cut from; the stem where it is not named as HMDB51 names clips."""
    tail = rf"_{re.escape(label)}_[a-z]_[a-z]{{2}}_np\d+_[a-z]{{2}}_[a-z]{{3}}_\d+\Z"
    return re.sub(tail, "", stem, flags=re.IGNORECASE) or stem


def _row(path: Path, number: int, line: str) -> tuple[str, str | None]:
    match = _ROW.fullmatch(line)
    if match is None or match["flag"] not in SIDES:
        raise UserError(f"list '{path}', line {number}: '{line}' is no file name and 0, 1 or 2")
    return match["stem"], SIDES[match["flag"]]
