"""Packet tables for tars that have none in them: one file of tables beside each tar, their places in its index."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from mmssl.data.media import MediaError
from mmssl.data.packets import BadTable, PacketTable
from mmssl.data.packets_make import NoTable, checked_table
from mmssl.data.shards.entry import SampleEntry
from mmssl.data.shards.index import read_index, read_members, write_index
from mmssl.errors import UserError


@dataclass(frozen=True, slots=True)
class TablesReport:
    """What was made.

    Args:
        clips: clips looked at.
        tables: clips that have a table now, in the tar or beside it.
        causes: the others by cause; they are read through the demuxer.
        bytes: size of the tables made.
    """

    clips: int
    tables: int
    causes: dict[str, int]
    bytes: int


def tables_path(tar_path: Path) -> Path:
    """Where the tables of a tar lie: the same name with the suffix ``.pkt``."""
    return tar_path.with_suffix(".pkt")


def make_tables(
    shards: list[Path], processes: int = 2, on_progress: Callable[[int, int], None] | None = None
) -> TablesReport:
    """Index tars and make the packet tables of their clips.

    A clip that ends the process that looks at it (FFmpeg can crash on damaged media) goes without a table.

    Args:
        shards: local tars, in folders that can be written.
        processes: how many work at once.
        on_progress: gets (tars done, tars).

    Raises:
        UserError: a tar cannot be indexed, or nothing can be written beside it.
    """
    reports: list[TablesReport] = []
    waiting = list(shards)
    fatal: list[str] = []
    while waiting:
        broken = False
        with ProcessPoolExecutor(max(1, processes), mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(_tables_of, path, frozenset(fatal)): path for path in waiting}
            for future in as_completed(futures):
                try:
                    reports.append(future.result())
                except BrokenProcessPool:
                    broken = True
                    continue
                waiting.remove(futures[future])
                if on_progress is not None:
                    on_progress(len(shards) - len(waiting), len(shards))
        if broken:
            fatal += [f"{path}\x1f{key}" for path in waiting for key in _unfinished(path)]
    causes: Counter[str] = Counter()
    for report in reports:
        causes.update(report.causes)
    return TablesReport(
        sum(r.clips for r in reports), sum(r.tables for r in reports), dict(causes), sum(r.bytes for r in reports)
    )


def _tables_of(path: Path, fatal: frozenset[str]) -> TablesReport:
    """Make the tables of one tar; clips in `fatal` ended the process before and are passed over."""
    index = read_index(path)
    target, mark = tables_path(path), _mark(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    causes: Counter[str] = Counter()
    entries: list[SampleEntry] = []
    at = 0
    try:
        with open(temporary, "wb") as file:
            for entry in index.samples:
                if "pkt" in entry.members and _holds(path, entry):
                    entries.append(replace(entry, packets=None))
                    continue
                mark.write_text(entry.key)
                table = b""
                if f"{path}\x1f{entry.key}" in fatal:
                    causes["ended the process"] += 1
                else:
                    try:
                        table = checked_table(read_members(path, entry, [entry.media])[entry.media], entry.key)
                    except NoTable as error:
                        causes[str(error).partition(" around ")[0]] += 1
                    except MediaError as error:
                        causes[error.cause] += 1
                file.write(table)
                entries.append(replace(entry, packets=(at, len(table)) if table else None))
                at += len(table)
            file.flush()
            os.fsync(file.fileno())
        if at:
            os.replace(temporary, target)
        else:
            temporary.unlink()
        write_index(path, entries, without_media=index.without_media, cut_short=index.cut_short)
        mark.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"the tables of '{path}' cannot be written beside it ({error.strerror})") from None
    without = sum(causes.values())
    return TablesReport(len(entries), len(entries) - without, dict(causes), at)


def _holds(path: Path, entry: SampleEntry) -> bool:
    """Whether the table within the tar is one that can be read; an older form, say, is made anew beside it."""
    try:
        data = read_members(path, entry, ["pkt"])["pkt"]
        PacketTable.from_bytes(data, entry.members[entry.media][1])
    except BadTable:
        return False
    return True


def _mark(path: Path) -> Path:
    """A file that names the clip being looked at, so that one that ends the process is known."""
    return path.with_name(f".{path.name}.looking")


def _unfinished(path: Path) -> list[str]:
    try:
        key = _mark(path).read_text()
    except OSError:
        return []
    _mark(path).unlink(missing_ok=True)
    return [key]
