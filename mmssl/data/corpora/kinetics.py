"""Kinetics-400, 600 and 700 (Kay et al., arXiv 1705.06950): CSV files of segments of YouTube videos.

Every CSV below the folder with the columns ``label, youtube_id, time_start, time_end, split`` is read (train,
validation and test; the split "validate" is called "val" here). Files are called ``{id}_{start:06d}_{end:06d}``, in
any folder and with any video suffix; where a clip is there twice, one in a folder of replacements (as the archives of
Kinetics-400 bring for broken files), then one in a folder of its split or label comes first. Rows without a label (some
test sets withhold it) become clips without label. The group of a clip is its YouTube video.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from mmssl.data.corpora.files import Annotations, Found, Tree, plain, text_of
from mmssl.data.corpora.source import Listing, Segment
from mmssl.errors import UserError

FOLD = "official"
COLUMNS = ("youtube_id", "time_start", "time_end")
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}


def list_kinetics(root: Path, allow_missing: bool = False, name: str = "kinetics400") -> Listing:
    """List the clips of the CSV files, with labels, splits and groups.

    Raises:
        UserError: there is no such CSV or a row is bad, a clip is in two splits or has two labels, or files are
            missing and may not be.
    """
    tree = Tree.of(root)
    tables = [root / path for paths in tree.others.values() for path in paths if path.lower().endswith(".csv")]
    rows: dict[str, tuple[str | None, str, str]] = {}
    read = []
    for table in sorted(tables):
        any_row = False
        for number, stem, label, video, split in _rows(table):
            any_row = True
            before = rows.setdefault(stem, (label, video, split))
            if before[2] != split or (label and before[0] and before[0] != label):
                raise UserError(
                    f"list '{table}', line {number}: '{stem}' is '{label}' in {split}, and '{before[0]}' in "
                    f"{before[2]} elsewhere in the lists"
                )
            rows[stem] = (before[0] or label, video, split)
        if any_row:
            read.append(table)
    if not rows:
        raise UserError(
            f"list file missing: no CSV below '{root}' has the columns label, youtube_id, time_start, time_end, split"
        )
    found = Found(name, root, allow_missing)
    for stem, (label, video, split) in rows.items():
        folds = {} if label is None else {FOLD: split}
        segment = Segment(label=label, split=split, folds=folds, group=video)
        found.add(stem, _choose(tree.videos.get(plain(stem), []), stem, split, label), segment)
    found.pass_over(tree)
    return found.listing(Annotations.of(name, root, read))


def _rows(table: Path) -> Iterator[tuple[int, str, str | None, str, str]]:
    """(line, stem of the file, label, YouTube id, split) of each row; nothing of a CSV with other columns."""
    reader = csv.DictReader(io.StringIO(text_of(table), newline=""))
    reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    if not set(COLUMNS) <= set(reader.fieldnames):
        return
    for row in reader:
        values = {key: (value or "").strip() for key, value in row.items() if isinstance(value, str | None)}
        split = values.get("split", "").lower()
        where = f"list '{table}', line {reader.line_num}"
        if split not in SPLITS:
            raise UserError(f"{where}: the split '{split}' is none of train, validate, test")
        try:
            start, end = (int(float(values[name])) for name in ("time_start", "time_end"))
        except ValueError:
            raise UserError(f"{where}: '{values['time_start']}' to '{values['time_end']}' are no seconds") from None
        video = values["youtube_id"]
        if not video:
            raise UserError(f"{where}: the youtube_id is empty")
        yield reader.line_num, f"{video}_{start:06d}_{end:06d}", values.get("label") or None, video, SPLITS[split]


def _choose(paths: list[str], stem: str, split: str, label: str | None) -> str | None:
    exact = [path for path in paths if Path(path).stem == stem]  # YouTube's ids tell letter case apart

    def rank(path: str) -> tuple[bool, bool, bool]:
        folders = [plain(part) for part in path.split("/")[:-1]]
        of_split = any(SPLITS.get(part, SPLITS.get(part.split("_")[0])) == split for part in folders)
        of_label = label is not None and plain(label).replace("_", " ") in [part.replace("_", " ") for part in folders]
        return not any("replacement" in part for part in folders), not of_split, not of_label

    return min(exact, key=rank, default=None)
