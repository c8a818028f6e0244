"""`mmssl bench data`: where the time of loading goes, from the bytes in a shard to a batch."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mmssl.clip import Span, Window
from mmssl.errors import UserError
from pipelines.config import parse_settings

if TYPE_CHECKING:
    from mmssl.data import Stream
    from mmssl.data.bench import LoaderRow, PartsReport


@dataclass(frozen=True)
class BenchData:
    """What is read.

    Args:
        shards: shard specification ('corpus/train-{000000..000009}.tar', a glob, a folder) or a list of them.
        batch_size: clips of a batch.
        workers: the most decode processes; 0, 1, 2, 4 ... up to it are measured.
        decoder: name of the decoder.
    """

    shards: str | list[str]
    batch_size: int = 16
    workers: int = 2
    decoder: str = "pyav"


@dataclass(frozen=True)
class BenchSettings:
    """Settings of `mmssl bench data`.

    Args:
        data: what is read.
        window: what is decoded of each clip.
        batches: batches that each measurement counts.
        seed: of the order and the anchors.
        out: file for all figures as JSON.
    """

    data: BenchData
    window: Window = field(
        default_factory=lambda: Window(picture=Span(2.0, 8.0), sound=Span(2.0, 16000.0), text=True, size=(96, 96))
    )
    batches: int = 12
    seed: int = 0
    out: Path | None = None


def main(arguments: Sequence[str], prog: str) -> None:
    """Measure and print where the time of loading goes; see `mmssl bench data --help`."""
    settings, _, _ = parse_settings(BenchSettings, arguments, prog)
    results = run(settings)
    if settings.out is not None:
        try:
            settings.out.parent.mkdir(parents=True, exist_ok=True)
            settings.out.write_text(json.dumps(results, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"'{settings.out}' cannot be written ({error.strerror}); give another --out") from None


def worker_counts(most: int) -> list[int]:
    """0, 1, 2, 4 ... and `most` itself."""
    counts = [0]
    while counts[-1] < most:
        counts.append(min(max(counts[-1] * 2, 1), most))
    return counts


def run(settings: BenchSettings) -> dict[str, Any]:
    """Measure, print, and return everything as plain values."""
    data = settings.data
    if settings.batches < 1 or data.workers < 0:
        raise UserError(f"batches={settings.batches}, data.workers={data.workers}: at least 1 and 0 are needed")

    from mmssl.data import Source, Stream  # torch, which settings that cannot be used need not wait for
    from mmssl.data.bench import measure_loader, measure_parts

    def make(workers: int) -> Stream:
        return Stream(
            [Source("data", data.shards)],
            settings.window,
            data.batch_size,
            seed=settings.seed,
            workers=workers,
            decoder=data.decoder,
        )

    with make(0) as stream:
        plan = str(stream.plan)
    console = Console() if sys.stdout.isatty() else Console(width=110, no_color=True)
    console.print(plan, markup=False, soft_wrap=True)
    rows = [measure_loader(make, workers, settings.batches) for workers in worker_counts(data.workers)]
    parts = measure_parts(make, settings.batches)
    plain = 1000 / rows[0].clips_per_second
    whole = 1000 * parts.seconds / max(parts.clips, 1)
    said = f"One process: {whole:.2f} ms a clip with every step timed, {plain:.2f} in the loader without workers below."
    console.print(said, markup=False, soft_wrap=True)
    console.print(_parts_table(parts))
    console.print(_loader_table(rows))
    found = parts.as_dict()
    console.print(
        f"{found['bytes_a_clip'] / 1000:.1f} kB read a clip; {found['decoded_a_wanted_picture']:.2f} pictures decoded "
        f"for each that is wanted; {parts.failed} of {parts.clips} clips failed; load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores",
        markup=False,
        soft_wrap=True,
    )
    from mmssl.training.environment import processor, versions

    return {
        "benchmark": "bench data",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "data": asdict(data),
        "window": asdict(settings.window),
        "batches": settings.batches,
        "in_this_process": found | {"ms_a_clip_without_timing": round(plain, 4)},
        "loader": [row.as_dict() for row in rows],
    }


def _parts_table(parts: PartsReport) -> Table:
    clips = max(parts.clips, 1)
    whole = 1000 * parts.seconds / clips
    table = Table("part")
    for name in ("ms a clip", "share"):
        table.add_column(name, justify="right")
    for name, seconds in parts.parts.items():
        table.add_row(name, f"{1000 * seconds / clips:.3f}", f"{100 * seconds / parts.seconds:.1f} %")
    table.add_section()
    table.add_row("whole", f"{whole:.3f}", "100 %")
    return table


def _loader_table(rows: Sequence[LoaderRow]) -> Table:
    table = Table(title="Whole loader", title_justify="left")
    for name in ("workers", "clips/s", "first batch s", "of that index s", "waiting", "unique MiB", "proportional MiB"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row.workers),
            f"{row.clips_per_second:.1f}",
            f"{row.start_seconds:.2f}",
            f"{row.index_seconds:.2f}",
            f"{100 * row.wait_share:.0f} %" if row.workers else "",
            f"{row.memory.unique:.0f}{'' if row.workers else ' (this process)'}",
            f"{row.memory.proportional:.0f}",
        )
    return table
