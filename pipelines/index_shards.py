"""`mmssl shards index`: the index of tars, and the packet tables of their clips, made beside them."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl.data.shards.index import expand_shards
from mmssl.data.shards.tables import make_tables
from mmssl.errors import UserError


def run(shards: str, processes: int = 2) -> None:
    """Index shards that another program wrote, and make packet tables, with which clips are decoded faster.

    Each table is checked against the demuxer; a clip for which none holds is read through the demuxer, as before.
    Tars of `mmssl shards build` have their tables already.

    Args:
        shards: a tar, a range such as 'corpus/train-{000000..000003}.tar', a glob or a folder.
        processes: how many tars are worked on at once.
    """
    begin = time.monotonic()
    paths = [path for path in expand_shards(shards) if isinstance(path, Path)]
    if len(paths) < len(expand_shards(shards)):
        raise UserError(f"'{shards}': packet tables are made beside local tars; run this where the shards lie")
    columns = (TextColumn("shards index"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("index", total=len(paths))
        report = make_tables(paths, processes, lambda done, total: bar.update(task, completed=done, total=total))
    seconds = time.monotonic() - begin
    print(
        f"{len(paths)} shards, {report.clips} clips: {report.tables} with packet tables "
        f"({report.bytes / 1e6:.1f} MB made) in {seconds:.1f} s ({report.clips / max(seconds, 1e-9):.1f} clips/s)"
    )
    for cause, count in sorted(report.causes.items(), key=lambda row: -row[1]):
        print(f"  {count} without: {cause}")
