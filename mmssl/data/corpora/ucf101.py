"""UCF101 (Soomro, Zamir and Shah, arXiv 1212.0402): 13,320 clips, 101 actions, three official folds.

Read are `classInd.txt` and `trainlist01.txt`, `testlist01.txt` ... `03` (the archive
UCF101TrainTestSplits-RecognitionTask, folder ucfTrainTestlist), each anywhere below the folder. Clips are found by
their file names, whatever folder and suffix they have. The class is spelled as in classInd.txt: the lists' folder
HandstandPushups holds files called v_HandStandPushups. Clips with one class and number `g` were cut from one video;
that is their group, which no official fold splits.
"""

from __future__ import annotations

import re
from pathlib import Path

from mmssl.data.corpora.files import Annotations, Found, Tree, lines_of, plain
from mmssl.data.corpora.source import Listing, Segment
from mmssl.errors import UserError, nearest

NAME = "ucf101"
FOLDS = ("1", "2", "3")
WHERE = "of the archive UCF101TrainTestSplits-RecognitionTask, folder ucfTrainTestlist"
_ROW = re.compile(r"(?P<folder>[^/\\]+)[/\\](?P<stem>.+)\.\w+(?:\s+(?P<number>\d+))?")
_GROUP = re.compile(r"_(g\d+)_c\d+\Z", re.IGNORECASE)


def list_ucf101(root: Path, allow_missing: bool = False) -> Listing:
    """List the clips that the folds' lists name, with labels, folds and groups.

    Raises:
        UserError: a list is missing or has a bad row, a label is unknown to classInd.txt, a clip is on both sides of a
            fold, or files are missing and may not be.
    """
    tree = Tree.of(root)
    index = tree.need("classInd.txt", WHERE)
    classes = _classes(index)
    folds: dict[str, dict[str, str]] = {}
    labels: dict[str, str] = {}
    spelled: dict[str, str] = {}
    read = [index]
    for fold in FOLDS:
        for side in ("train", "test"):
            path = tree.need(f"{side}list{int(fold):02d}.txt", WHERE)
            read.append(path)
            for number, line in lines_of(path):
                stem, label = _row(path, number, line, classes)
                clip = plain(stem)
                other = folds.setdefault(clip, {}).setdefault(fold, side)
                if other != side:
                    raise UserError(f"list '{path}', line {number}: '{stem}' is in train and in test of fold {fold}")
                labels[clip], spelled[clip] = label, stem
    found = Found("UCF101", root, allow_missing)
    for clip, sides in folds.items():
        stem, label = spelled[clip], labels[clip]
        match = _GROUP.search(stem)
        group = f"{label}_{match[1].lower()}" if match else stem
        found.add(f"{label}/{stem}", tree.video(stem, label), Segment(label=label, folds=sides, group=group))
    found.pass_over(tree)
    return found.listing(Annotations.of(NAME, root, read))


def _classes(path: Path) -> dict[str, tuple[str, int]]:
    """Map the name of a class in lower case to its spelling and number."""
    classes: dict[str, tuple[str, int]] = {}
    for number, line in lines_of(path):
        parts = line.split()
        if len(parts) != 2 or not parts[0].isdigit():
            raise UserError(f"list '{path}', line {number}: '{line}' is no number and class")
        classes[plain(parts[1])] = (parts[1], int(parts[0]))
    return classes


def _row(path: Path, number: int, line: str, classes: dict[str, tuple[str, int]]) -> tuple[str, str]:
    """The stem and the class of a row such as ``Archery/v_Archery_g01_c01.avi 3``."""
    match = _ROW.fullmatch(line)
    if match is None:
        raise UserError(f"list '{path}', line {number}: '{line}' is no 'Class/file.avi'")
    folder = match["folder"].strip()
    if plain(folder) not in classes:
        near = nearest(folder, [name for name, _ in classes.values()])
        raise UserError(f"list '{path}', line {number}: the class '{folder}' is unknown to classInd.txt{near}")
    label, wanted = classes[plain(folder)]
    if match["number"] is not None and int(match["number"]) != wanted:
        raise UserError(
            f"list '{path}', line {number}: '{label}' has number {match['number']}, in classInd.txt it is {wanted}"
        )
    return match["stem"], label
