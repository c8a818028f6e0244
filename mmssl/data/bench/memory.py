"""Memory of processes as the kernel counts it: what is theirs alone, and their part of what is shared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Mean over processes, MiB.

    Args:
        processes: how many.
        unique: pages that no other process maps (USS).
        proportional: these and the process's part of shared ones (PSS).
        resident: all pages that it maps (RSS).
    """

    processes: int
    unique: float
    proportional: float
    resident: float


def memory_of(processes: Sequence[int] | None = None) -> Memory:
    """Memory of processes by their numbers, of this one unless given; zeros where the system does not say."""
    rows = [row for number in (processes or [os.getpid()]) if (row := _rollup(number))]
    if not rows:
        return Memory(0, 0.0, 0.0, 0.0)

    def mean(*names: str) -> float:
        return round(sum(row.get(name, 0) for row in rows for name in names) / len(rows) / 1024, 2)

    return Memory(len(rows), mean("Private_Clean", "Private_Dirty"), mean("Pss"), mean("Rss"))


def workers_of_this_process() -> list[int]:
    """Numbers of this process's decode workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"mmssl.data.worker" in folder.joinpath("cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError, IndexError):
            continue  # it has ended
    return found


def _rollup(process: int) -> dict[str, int]:
    """KiB by name."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
