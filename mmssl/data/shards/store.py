"""Storing clips: tars that appear whole, their indices, and the log of what is done.

In the output folder: `{prefix}-000000.tar` with `.idx`, `{prefix}_info.json` for each prefix and `_info.json` for
all of them (timm's form), `failures.jsonl`, `build.json` (source, settings, and of a known data set the digests of its
annotations) and `progress.jsonl` (the log from which a later run goes on). A tar is written under a hidden name, made
durable and renamed; its line in the log is written before the rename, so that a tar that exists is always known.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

from mmssl.data.corpora.source import digest
from mmssl.data.shards.clips import BuiltClip, Failure
from mmssl.data.shards.index import SampleEntry, index_path, read_index, write_index
from mmssl.errors import UserError

HEADER = 512
_SHARD_NAME = re.compile(r"(?P<prefix>.+)-(?P<number>\d{6,})\.tar\Z")


class _OpenShard:
    """A tar in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp")
        self.file = open(self.temporary, "wb")  # noqa: SIM115 closed by finish or abandon
        self.tar = tarfile.open(fileobj=self.file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self.samples: list[SampleEntry] = []
        self.keys: dict[str, list[str]] = defaultdict(list)

    def add(self, source: str, key: str, clip: BuiltClip) -> None:
        members = {}
        for extension, data in clip.members.items():
            info = tarfile.TarInfo(f"{key}.{extension}")
            info.size, info.mode = len(data), 0o644
            members[extension] = (self.tar.offset + HEADER, len(data))
            self.tar.addfile(info, BytesIO(data))
        self.samples.append(SampleEntry(key, members, clip.duration, clip.has_audio, clip.label, clip.n_sentences))
        self.keys[source].append(clip.key)

    def finish(self) -> None:
        self.tar.close()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        write_index(self.temporary, self.samples, to=index_path(self.path))
        os.replace(self.temporary, self.path)

    def abandon(self) -> None:
        self.file.close()
        self.temporary.unlink(missing_ok=True)


class ShardStore:
    """The output folder of one build; also what an earlier run left there."""

    def __init__(
        self,
        folder: Path,
        source: Path,
        content: dict[str, Any],
        samples_per_shard: int,
        record: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.samples_per_shard = folder, samples_per_shard
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(folder / ".lock", "w")  # noqa: SIM115 held until close or abandon
        except OSError as error:
            raise UserError(f"output folder '{folder}' cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another build is writing to '{folder}'; wait for it, or name another folder") from None
        self._claim(source, content, record or {})
        self._log_path = folder / "progress.jsonl"
        self.present: dict[str, set[str]] = defaultdict(set)  # source -> keys of its clips in finished shards
        self.settled: dict[str, dict[str, Any]] = {}  # source -> its line in the log
        self.keys: set[str] = set()
        self._open: dict[str, _OpenShard] = {}
        self._unsaved: dict[str, int] = defaultdict(int)  # source -> clips in open shards
        self._pending: dict[str, dict[str, Any]] = {}  # source -> line to log when no clip of it is unsaved
        self._numbers: dict[str, int] = defaultdict(int)
        self._clean()
        self._read_log()
        self._log = open(self._log_path, "a", encoding="utf-8")  # noqa: SIM115 closed by close

    # -- what was there ---------------------------------------------------------------------------------------

    def _claim(self, source: Path, content: dict[str, Any], known: dict[str, Any]) -> None:
        """Make the folder this build's, or refuse one that holds something else."""
        record = self.folder / "build.json"
        wanted = {"source": str(source.resolve()), "settings": content, **known}
        tars = sorted(self.folder.glob("*.tar")) if self.folder.is_dir() else []
        if tars:
            try:
                found = json.loads(record.read_text())
            except (OSError, ValueError):
                raise UserError(
                    f"'{self.folder}' holds shards ({tars[0].name}) that no build of mmssl recorded; "
                    "name another folder, or remove them"
                ) from None
            if found.get("source") != wanted["source"]:
                raise UserError(
                    f"'{self.folder}' holds shards built from '{found.get('source')}', not from "
                    f"'{wanted['source']}'; name another folder, or remove them"
                )
            old = found.get("settings", {})
            other = [
                f"{name} was {old.get(name)!r} and is {content.get(name)!r}"
                for name in sorted({*content, *old})
                if content.get(name) != old.get(name)
            ]
            before, now = found.get("annotations"), known.get("annotations")
            if not other and before != now:
                raise UserError(
                    f"'{self.folder}' holds shards built with other annotations "
                    f"({_changed(before, now)}); name another folder, or remove the shards"
                )
            if other:
                raise UserError(
                    f"'{self.folder}' holds shards built with other settings ({'; '.join(other)}); "
                    "name another folder, use the old settings, or remove the shards"
                )
            return
        (self.folder / "progress.jsonl").unlink(missing_ok=True)
        write_whole(record, json.dumps(wanted, indent=2) + "\n")

    def _clean(self) -> None:
        for path in self.folder.glob(".*.tmp"):
            path.unlink()
        for path in self.folder.glob("*-*.idx"):
            if not path.with_suffix(".tar").exists():
                path.unlink()

    def _read_log(self) -> None:
        if not self._log_path.exists():
            return
        lines = self._log_path.read_bytes().split(b"\n")
        if lines[-1]:  # a line that a kill tore
            with open(self._log_path, "r+b") as file:
                file.truncate(sum(len(line) + 1 for line in lines[:-1]))
        for line in lines[:-1]:
            entry = json.loads(line)
            if "shard" in entry:
                path = self.folder / entry["shard"]
                if path.exists():
                    for source, keys in entry["keys"].items():
                        self.present[source].update(keys)
            else:
                self.settled[entry["source"]] = entry
        for path in self.folder.glob("*.tar"):
            match = _SHARD_NAME.match(path.name)
            if match:
                number = int(match["number"]) + 1
                self._numbers[match["prefix"]] = max(self._numbers[match["prefix"]], number)
                self.keys.update(sample.key.lower() for sample in read_index(path).samples)

    # -- storing ----------------------------------------------------------------------------------------------

    def add(self, source: str, prefix: str, clip: BuiltClip) -> None:
        """Store a clip of a source; its shard is finished when full."""
        shard = self._open.get(prefix)
        if shard is None:
            path = self.folder / f"{prefix}-{self._numbers[prefix]:06d}.tar"
            self._numbers[prefix] += 1
            shard = self._open[prefix] = _OpenShard(path)
        key = clip.key
        if key.lower() in self.keys:  # another source spells a key that this one's number makes
            key = f"{key}-{digest(source + clip.key)}"
            clip = with_key(clip, key)
        self.keys.add(key.lower())
        shard.add(source, key, clip)
        self._unsaved[source] += 1
        if len(shard.samples) >= self.samples_per_shard:
            self._finish(prefix)

    def settle(self, source: str, line: dict[str, Any]) -> None:
        """Record that a source is through; the line is logged once all its clips are in finished shards."""
        self._pending[source] = {"source": source, **line}
        self._log_settled()

    def _log_settled(self) -> None:
        for source in [name for name in self._pending if not self._unsaved.get(name)]:
            line = self._pending.pop(source)
            self.settled[source] = line
            self._write(line)

    def _finish(self, prefix: str) -> None:
        shard = self._open.pop(prefix)
        self._write({"shard": shard.path.name, "keys": shard.keys})
        shard.finish()
        sync_folder(self.folder)
        for source, keys in shard.keys.items():
            self.present[source].update(keys)
            self._unsaved[source] -= len(keys)
        self._log_settled()

    def _write(self, entry: dict[str, Any]) -> None:
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()
        os.fsync(self._log.fileno())

    def close(self) -> None:
        """Finish the open shards and write the descriptions."""
        for prefix in sorted(self._open):
            self._finish(prefix)
        self._log.close()
        self._write_info()
        self._unlock()

    def abandon(self) -> None:
        """Leave without finishing: open shards are removed, finished ones stay for a later run."""
        for shard in self._open.values():
            shard.abandon()
        self._open.clear()
        self._log.close()
        self._unlock()

    def _unlock(self) -> None:
        self._lock.close()  # the file stays: removing it could let two builds in

    # -- describing -------------------------------------------------------------------------------------------

    def shards(self) -> list[Path]:
        """The finished tars, sorted."""
        return sorted(path for path in self.folder.glob("*.tar") if _SHARD_NAME.match(path.name))

    def _write_info(self) -> None:
        splits: dict[str, dict[str, Any]] = {}
        for path in self.shards():
            match = _SHARD_NAME.match(path.name)
            assert match is not None
            prefix = match["prefix"]
            empty: dict[str, Any] = {"name": prefix, "filenames": [], "shard_lengths": [], "num_samples": 0}
            split = splits.setdefault(prefix, empty)
            length = len(read_index(path))
            split["filenames"].append(path.name)
            split["shard_lengths"].append(length)
            split["num_samples"] += length
        for prefix, split in splits.items():
            write_whole(self.folder / f"{prefix}_info.json", json.dumps({"splits": {prefix: split}}, indent=2) + "\n")
        if splits:
            write_whole(self.folder / "_info.json", json.dumps({"splits": splits}, indent=2) + "\n")

    def write_failures(self, failures: Iterable[Failure]) -> None:
        """Write `failures.jsonl` anew: path, start, cause, message."""
        rows = [
            {"path": row["source"], "start": row["start"], "cause": row["cause"], "message": row["message"]}
            for row in map(asdict, failures)
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_whole(self.folder / "failures.jsonl", text)


def with_key(clip: BuiltClip, key: str) -> BuiltClip:
    """Return the clip under another key, in its description too."""
    meta = json.loads(clip.members["json"])
    members = {**clip.members, "json": json.dumps({**meta, "key": key}, ensure_ascii=False).encode()}
    return BuiltClip(key, clip.split, members, clip.duration, clip.has_audio, clip.label, clip.n_sentences)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half-written."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed(old: Any, new: Any) -> str:
    """Which annotation files differ between two records of a data set, as far as they say."""
    before, now = (record.get("files", {}) if isinstance(record, dict) else {} for record in (old, new))
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return f"'{names[0]}' differs" if names else "their digests differ"
