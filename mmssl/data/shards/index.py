"""The index of a shard: where each sample's members lie in the tar, and what the order must know of them.

Beside ``train-000000.tar`` lies ``train-000000.idx``, JSON lines. The first line is the header
``{"mmssl_index": 1, "tar": name, "size": bytes, "mtime_ns": int}``, each further line one sample::

    {"key": ..., "members": {"mp4": [offset, size], ...}, "duration": seconds or null,
     "has_audio": bool or null, "n_sentences": int or null, "label": str or null}

Offsets are those of the member's bytes (not of its header), so that a sample is read with `os.pread` and, later,
with a range request. Tars that mmssl did not write (video2dataset, plain webdataset) are indexed by walking their
headers once. Conventions of webdataset: a sample is a run of members with one key, the key is the member's path up
to the first dot of its file name, the extension is the rest in lower case, members starting with ``__`` are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmssl.data.shards.entry import MEDIA as MEDIA
from mmssl.data.shards.entry import SampleEntry as SampleEntry
from mmssl.data.shards.entry import ShardIndex as ShardIndex
from mmssl.data.shards.members import read_members as read_members
from mmssl.data.shards.spec import expand_shards as expand_shards
from mmssl.data.shards.walk import walk
from mmssl.errors import UserError

VERSION = 1


def index_path(tar_path: Path) -> Path:
    """Where the index of a tar lies: the same name with the suffix ``.idx``."""
    return tar_path.with_suffix(".idx")


def read_index(tar_path: Path, *, store: bool = True) -> ShardIndex:
    """Return the index of a tar: the stored one if it is of this tar, else a new one made by walking the headers.

    A stored index holds if size and modification time are the tar's; with another time (a copied shard) its
    offsets are compared with the headers. With `store` a new index is kept beside the tar if the folder allows.

    Raises:
        UserError: the tar is missing, empty, compressed, cut short, or holds no sample with video.
    """
    tar_path = Path(tar_path)
    try:
        status = tar_path.stat()
    except FileNotFoundError:
        raise UserError(f"shard '{tar_path}' does not exist; check the path or the range in braces") from None
    stored = _load(index_path(tar_path))
    if stored is not None and stored[0].get("size") == status.st_size:
        header, samples = stored
        if header.get("mtime_ns") == status.st_mtime_ns:
            return ShardIndex(tar_path, samples, int(header.get("without_media", 0)))
    walked = walk(tar_path, status.st_size)
    if stored is not None and _same_members(stored[1], walked.samples):
        walked = ShardIndex(tar_path, stored[1], walked.without_media)
    if not walked.samples:
        raise UserError(f"shard '{tar_path}' holds no sample with video (members {', '.join(MEDIA)})")
    if store and (stored is not None or not index_path(tar_path).exists()):
        with contextlib.suppress(OSError):  # a read-only folder: the index is made again next time
            write_index(tar_path, walked.samples, without_media=walked.without_media)
    return walked


def write_index(
    tar_path: Path, samples: Iterable[SampleEntry], *, to: Path | None = None, without_media: int = 0
) -> Path:
    """Write the index of `tar_path` (which must be complete) beside it, or at `to`; the file appears whole."""
    target = to or index_path(tar_path)
    status = tar_path.stat()
    header = {
        "mmssl_index": VERSION,
        "tar": target.with_suffix(".tar").name,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "without_media": without_media,
    }
    lines = [json.dumps(header)]
    lines += [json.dumps(_row(sample)) for sample in samples]  # in ASCII: names in tars are any bytes
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    return target


def _load(path: Path) -> tuple[dict[str, Any], list[SampleEntry]] | None:
    """Read a stored index; None if there is none or the file is something else (DALI uses the same suffix)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        header = json.loads(lines[0])
        if not isinstance(header, dict) or header.get("mmssl_index") != VERSION:
            return None
        return header, [_entry(json.loads(line)) for line in lines[1:]]
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None


def _row(sample: SampleEntry) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": sample.key,
        "members": {name: list(place) for name, place in sample.members.items()},
        "duration": sample.duration,
        "has_audio": sample.has_audio,
        "n_sentences": sample.n_sentences,
        "label": sample.label,
    }
    if sample.packets is not None:
        row["packets"] = list(sample.packets)
    return row


def _entry(row: dict[str, Any]) -> SampleEntry:
    return SampleEntry(
        key=row["key"],
        members={name: (int(at), int(size)) for name, (at, size) in row["members"].items()},
        duration=row["duration"],
        has_audio=row["has_audio"],
        label=row["label"],
        n_sentences=row["n_sentences"],
        packets=None if row.get("packets") is None else (int(row["packets"][0]), int(row["packets"][1])),
    )


def _same_members(a: list[SampleEntry], b: list[SampleEntry]) -> bool:
    return len(a) == len(b) and all(x.key == y.key and x.members == y.members for x, y in zip(a, b, strict=True))
