"""A manifest: one row a clip or segment, as CSV, JSON lines or Parquet.

Columns: `path` (needed; relative to the manifest), `start` and `end` (seconds or h:mm:ss), `label`, `split`,
`subtitles` (a file), `key`, `truth` (a JSON value, or a file: JSON is taken into the description, anything else is
stored as a member of the clip), `dense_truth` (a file, see `mmssl.data.dense_truth`).
Further columns are carried along as `extra`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmssl.data.corpora.source import KEY, Listing, Segment, Source, key_of, with_unique_keys
from mmssl.data.subtitles import decode_text
from mmssl.errors import UserError, nearest

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
COLUMNS = ("path", "start", "end", "label", "split", "subtitles", "key", "truth", "dense_truth")
_SHOWN_FAULTS = 5


def list_manifest(manifest: Path) -> Listing:
    """List the rows of a manifest; rows of one file become one source with several segments, decoded once.

    Raises:
        UserError: the manifest cannot be read, lacks the column `path`, has a row with a bad value or a key twice.
    """
    faults: list[str] = []
    keys: set[str] = set()
    segments: dict[Path, list[Segment]] = {}
    names: dict[Path, str] = {}
    for number, row in _rows(manifest):
        try:
            path, segment = _segment(row, manifest.parent)
            if segment.key is not None:
                if segment.key.lower() in keys:
                    raise ValueError(f"the key '{segment.key}' is used twice")
                keys.add(segment.key.lower())
        except ValueError as error:
            faults.append(f"row {number}: {error}")
            continue
        segments.setdefault(path, []).append(segment)
        names.setdefault(path, str(row["path"]).replace("\\", "/"))
    if faults:
        more = f" and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        raise UserError(f"manifest '{manifest}': {'; '.join(faults[:_SHOWN_FAULTS])}{more}")
    sources = [Source(path, names[path], key_of(names[path]), tuple(found)) for path, found in segments.items()]
    sources.sort(key=lambda source: source.name)
    return Listing(with_unique_keys(sources))


def _rows(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if manifest.suffix == ".parquet":
        yield from enumerate(_parquet(manifest), start=1)
        return
    text, _ = decode_text(manifest.read_bytes())
    if text is None:
        raise UserError(f"manifest '{manifest}' is no text")
    if manifest.suffix in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"manifest '{manifest}', line {number} is no JSON ({error})") from None
                if not isinstance(row, dict):
                    raise UserError(f"manifest '{manifest}', line {number} is no JSON object")
                _need_path(manifest, row)
                yield number, row
        return
    first = text.lstrip("\ufeff").split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count) if manifest.suffix == ".csv" else "\t"
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")), delimiter=delimiter, restkey="_further")
    reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    _need_path(manifest, dict.fromkeys(reader.fieldnames))
    for row in reader:
        if "_further" in row:
            raise UserError(f"manifest '{manifest}', line {reader.line_num} has more fields than the header")
        yield reader.line_num, row


def _need_path(manifest: Path, row: dict[str, Any]) -> None:
    if "path" not in row:
        found = ", ".join(str(name) for name in row) or "none"
        raise UserError(
            f"manifest '{manifest}' has no column 'path' (columns: {found})"
            f"{nearest('path', [str(name) for name in row])}; the first line of a CSV names the columns"
        )


def _parquet(manifest: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet  # an optional package, wanted by nothing else
    except ImportError:
        raise UserError(
            f"manifest '{manifest}': reading Parquet needs the package pyarrow; install it, or write the manifest "
            "as CSV or JSON lines"
        ) from None
    table = pyarrow.parquet.read_table(manifest)
    _need_path(manifest, dict.fromkeys(table.column_names))
    for batch in table.to_batches():
        yield from batch.to_pylist()


def _segment(row: dict[str, Any], base: Path) -> tuple[Path, Segment]:
    text = {name: _text(row.get(name)) for name in ("path", "label", "split", "key", "subtitles", "dense_truth")}
    if text["path"] is None:
        raise ValueError("the path is empty")
    path = base / text["path"]
    start, end = _seconds("start", row.get("start")), _seconds("end", row.get("end"))
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"end={end} must be after start={start or 0.0}")
    key = text["key"]
    if key is not None and not KEY.fullmatch(key):
        raise ValueError(f"the key '{key}' may hold letters, digits, '_' and '-' only (70 at most)")
    subtitles = None if text["subtitles"] is None else base / text["subtitles"]
    dense = None if text["dense_truth"] is None else base / text["dense_truth"]
    extra = {name: value for name, value in row.items() if name not in COLUMNS and value not in (None, "")}
    return path, Segment(
        start or 0.0, end, key, text["label"], text["split"], subtitles, _truth(row.get("truth"), base), extra, dense
    )


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value).strip() or None


def _seconds(name: str, value: Any) -> float | None:
    text = _text(value)
    if text is None:
        return None
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        raise ValueError(f"{name}='{text}' is neither seconds nor h:mm:ss") from None
    seconds = float(sum(part * 60.0**power for power, part in enumerate(reversed(parts))))
    if not 0 <= seconds < math.inf or len(parts) > 3:
        raise ValueError(f"{name}='{text}' is no time in a file")
    return seconds


def _truth(value: Any, base: Path) -> Any:
    """A value as it is; text is JSON if it looks so, and a file if one has that name."""
    if not isinstance(value, str) or not value.strip():
        return None if value == "" else value
    if value.lstrip()[0] in "{[":
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"truth is no JSON ({error})") from None
    path = base / value
    return path if len(value) < 1000 and path.is_file() else value
