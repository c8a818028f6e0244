"""The file of an index: JSON lines, a header and one line a sample, read whole or line by line.

The header says of what tar the index is and what a plan needs of it, so that a plan of many shards reads one line
each: how many samples there are, a digest of their keys, how many are known to lack sound or sentences.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload

import numpy as np

from mmssl.data.shards.entry import SampleEntry, ShardIndex
from mmssl.data.storage.url import Shard

VERSION = 1
_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line of an index says.

    Args:
        status: size in bytes and version of the tar that was indexed; the version of a local one is its time of change
            in ns (``mtime_ns`` in the file).
        samples: samples in it.
        keys: digest of their keys, in order.
        silent: samples known to have no sound.
        wordless: samples known to have no sentence.
        without_media: samples left out, having no video.
        cut_short: the member in which a tar ends that is not whole.
    """

    status: tuple[int, int | str]
    samples: int
    keys: str
    silent: int = 0
    wordless: int = 0
    without_media: int = 0
    cut_short: str | None = None

    @classmethod
    def of(cls, index: ShardIndex, status: tuple[int, int | str]) -> Header:
        """The header of an index of the tar with this status."""
        return cls(
            status=status,
            samples=len(index),
            keys=digest_of_keys(sample.key for sample in index.samples),
            silent=sum(sample.has_audio is False for sample in index.samples),
            wordless=sum(sample.n_sentences == 0 or "vtt" not in sample.members for sample in index.samples),
            without_media=index.without_media,
            cut_short=index.cut_short,
        )


def status_in(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """Size and version of the tar that a header as it was written is of."""
    return row.get("size"), row["mtime_ns"] if "mtime_ns" in row else row.get("version")


def digest_of_keys(keys: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that change with any key and with their order."""
    return hashlib.blake2b("\x1f".join(keys).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _first_line(path: Path) -> dict[str, Any] | None:
    """The header as it was written; None if there is none or the file is something else (DALI uses the same suffix)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        line, end, _ = os.read(descriptor, _HEADER_BYTES).partition(b"\n")
        row = json.loads(line) if end else None
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
    return row if isinstance(row, dict) and row.get("mmssl_index") == VERSION else None


def is_index(path: Path) -> bool:
    """Whether a file is an index of ours, of whatever age."""
    return _first_line(path) is not None


def read_header(path: Path) -> Header | None:
    """The header of a stored index; None if there is none, it is another file, or too old to say all."""
    row = _first_line(path)
    try:
        if row is None:
            return None
        said = {field.name: row[field.name] for field in fields(Header) if field.name != "status"}
        return Header(status_in(row), **said)
    except KeyError:
        return None


def load(path: Path) -> tuple[dict[str, Any], list[SampleEntry]] | None:
    """Header as it was written and samples of a stored index of whatever age; None if it is no index."""
    try:
        return parse(path.read_bytes())
    except OSError:
        return None


def parse(content: bytes) -> tuple[dict[str, Any], list[SampleEntry]] | None:
    """What `load` gives, from the bytes of the file."""
    lines = content.rstrip(b"\n").split(b"\n")
    try:
        header = json.loads(lines[0])
        if not isinstance(header, dict) or header.get("mmssl_index") != VERSION:
            return None
        return header, [entry_of(json.loads(line)) for line in lines[1:]]
    except (ValueError, KeyError, TypeError):
        return None


def index_of(shard: Shard, stored: tuple[Mapping[str, Any], list[SampleEntry]]) -> ShardIndex:
    """A stored index as the index of a shard."""
    header, samples = stored
    return ShardIndex(shard, samples, int(header.get("without_media", 0)), header.get("cut_short"))


def save(path: Path, tar_name: str, header: Header, samples: Iterable[SampleEntry]) -> None:
    """Write an index; the file appears whole.

    Raises:
        OSError: the folder cannot be written.
    """
    # Escaped to ASCII: names in foreign tars need not be valid Unicode, and no character may look like a line's end.
    size, version = header.status
    told = {"size": size, "mtime_ns" if isinstance(version, int) else "version": version}
    told |= {field.name: getattr(header, field.name) for field in fields(Header) if field.name != "status"}
    lines = [json.dumps({"mmssl_index": VERSION, "tar": tar_name, **told})]
    lines += [json.dumps(row_of(sample)) for sample in samples]
    temporary = path.with_name(
        f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    )  # other machines have our pid too
    with open(temporary, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def row_of(sample: SampleEntry) -> dict[str, Any]:
    """A sample as a line of the index says it."""
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


def entry_of(row: dict[str, Any]) -> SampleEntry:
    """A sample from a line of the index."""
    return SampleEntry(
        key=row["key"],
        members={name: (int(at), int(size)) for name, (at, size) in row["members"].items()},
        duration=row["duration"],
        has_audio=row["has_audio"],
        label=row["label"],
        n_sentences=row["n_sentences"],
        packets=None if row.get("packets") is None else (int(row["packets"][0]), int(row["packets"][1])),
    )


class StoredEntries(Sequence[SampleEntry]):
    """The samples of a stored index as bytes, each line parsed when it is asked for.

    Raises:
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._bytes = path.read_bytes()
        ends = np.flatnonzero(np.frombuffer(self._bytes, dtype=np.uint8) == ord("\n"))
        self._starts = np.append(ends, len(self._bytes)) + 1 if not self._bytes.endswith(b"\n") else ends + 1

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, number: int) -> SampleEntry: ...
    @overload
    def __getitem__(self, number: slice) -> list[SampleEntry]: ...
    def __getitem__(self, number: int | slice) -> SampleEntry | list[SampleEntry]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        return entry_of(json.loads(self._bytes[self._starts[number] : self._starts[number + 1] - 1]))
