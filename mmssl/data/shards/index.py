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
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmssl.data.shards.spec import expand_shards as expand_shards
from mmssl.errors import UserError

VERSION = 1
MEDIA = ("mp4", "webm", "mkv", "mov", "avi", "m4v", "mpg", "ts")
_LARGEST_JSON = 1 << 20


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """One sample of a shard.

    `members` gives (offset of the bytes in the tar, size) for each extension. `duration` is in seconds. What a
    foreign tar does not say is None.
    """

    key: str
    members: dict[str, tuple[int, int]]
    duration: float | None = None
    has_audio: bool | None = None
    label: str | None = None
    n_sentences: int | None = None

    @property
    def media(self) -> str:
        """Extension of the member with picture and sound (``"mp4"`` in shards of mmssl)."""
        return next(extension for extension in MEDIA if extension in self.members)


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """All samples of one tar, in the order in which they lie in it; `without_media` counts those left out."""

    path: Path
    samples: list[SampleEntry]
    without_media: int = 0

    def __len__(self) -> int:
        return len(self.samples)


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
    walked = _walk(tar_path, status.st_size)
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
    for sample in samples:
        lines.append(
            json.dumps(
                {
                    "key": sample.key,
                    "members": {name: list(place) for name, place in sample.members.items()},
                    "duration": sample.duration,
                    "has_audio": sample.has_audio,
                    "n_sentences": sample.n_sentences,
                    "label": sample.label,
                },
                ensure_ascii=False,
            )
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    return target


def read_members(tar_path: Path, entry: SampleEntry, extensions: Iterable[str] | None = None) -> dict[str, bytes]:
    """Read the members of a sample (all, or those of `extensions` that it has) without walking the tar.

    Raises:
        UserError: the shard is missing or ends before the member does.
    """
    wanted = entry.members if extensions is None else [name for name in extensions if name in entry.members]
    try:
        descriptor = os.open(tar_path, os.O_RDONLY)
    except FileNotFoundError:
        raise UserError(f"shard '{tar_path}' does not exist any more") from None
    try:
        members = {name: os.pread(descriptor, size, at) for name in wanted for at, size in [entry.members[name]]}
    finally:
        os.close(descriptor)
    for name, data in members.items():
        if len(data) != entry.members[name][1]:
            raise UserError(
                f"shard '{tar_path}' ends within '{entry.key}.{name}': it changed after it was indexed; "
                "run 'mmssl shards check' on it"
            )
    return members


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


def _entry(row: dict[str, Any]) -> SampleEntry:
    return SampleEntry(
        key=row["key"],
        members={name: (int(at), int(size)) for name, (at, size) in row["members"].items()},
        duration=row["duration"],
        has_audio=row["has_audio"],
        label=row["label"],
        n_sentences=row["n_sentences"],
    )


def _same_members(a: list[SampleEntry], b: list[SampleEntry]) -> bool:
    return len(a) == len(b) and all(x.key == y.key and x.members == y.members for x, y in zip(a, b, strict=True))


def _walk(tar_path: Path, size: int) -> ShardIndex:
    """Index a tar from its headers; descriptions (.json, .cls) are read for label, duration and sound."""
    groups: list[tuple[str, dict[str, tuple[int, int]]]] = []
    seen: set[str] = set()
    try:
        with tarfile.open(tar_path, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or name.startswith("__") or "." not in name:
                    continue
                stem, extension = name.split(".", 1)
                key = f"{folder}/{stem}" if folder else stem
                extension = extension.lower()
                if member.offset_data + member.size > size:
                    raise UserError(f"shard '{tar_path}' is cut short within '{member.name}'; copy it again")
                if not groups or groups[-1][0] != key:
                    if key in seen:
                        raise UserError(f"shard '{tar_path}' has two samples with the key '{key}'")
                    seen.add(key)
                    groups.append((key, {}))
                if extension in groups[-1][1]:
                    raise UserError(f"shard '{tar_path}' has two members '{key}.{extension}'")
                groups[-1][1][extension] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise UserError(f"shard '{tar_path}' is not a readable, uncompressed tar ({error})") from None
    samples = [(key, members) for key, members in groups if any(name in members for name in MEDIA)]
    with open(tar_path, "rb") as file:
        entries = [_described(file.fileno(), key, members) for key, members in samples]
    return ShardIndex(tar_path, entries, without_media=len(groups) - len(entries))


def _described(descriptor: int, key: str, members: dict[str, tuple[int, int]]) -> SampleEntry:
    meta: dict[str, Any] = {}
    if "json" in members and members["json"][1] <= _LARGEST_JSON:
        with contextlib.suppress(ValueError):  # a foreign description may be anything
            found = json.loads(os.pread(descriptor, members["json"][1], members["json"][0]))
            meta = found if isinstance(found, dict) else {}
    label = meta.get("label")
    if label is None and "cls" in members:
        label = os.pread(descriptor, members["cls"][1], members["cls"][0]).decode(errors="replace").strip()
    duration, has_audio, count = meta.get("duration"), meta.get("has_audio"), meta.get("n_sentences")
    return SampleEntry(
        key=key,
        members=members,
        duration=float(duration) if isinstance(duration, int | float) and duration > 0 else None,
        has_audio=has_audio if isinstance(has_audio, bool) else None,
        label=None if label is None else str(label),
        n_sentences=count if isinstance(count, int) else None,
    )
