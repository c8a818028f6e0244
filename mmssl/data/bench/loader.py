"""A whole loader as it is used: clips a second, start to first batch, share of waiting, memory of the workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from mmssl.data.bench.instrument import replaced
from mmssl.data.bench.memory import Memory, memory_of, workers_of_this_process
from mmssl.data.bench.stopwatch import Stopwatch
from mmssl.data.stream import AHEAD, Stream


@dataclass(frozen=True)
class LoaderRow:
    """How fast a loader is.

    Args:
        workers: decode processes.
        clips: clips counted, after the first batch.
        clips_per_second: of these.
        start_seconds: from making the stream to its first batch, the reading of the index included.
        index_seconds: of that, making the stream.
        wait_share: share of the time in which the process waited for workers; 0 without.
        memory: mean memory of a worker, or of this process without workers.
    """

    workers: int
    clips: int
    clips_per_second: float
    start_seconds: float
    index_seconds: float
    wait_share: float
    memory: Memory

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def measure_loader(make: Callable[[int], Stream], workers: int, batches: int) -> LoaderRow:
    """Read batches as a training loop without any work of its own would.

    Args:
        make: makes the stream for a number of workers.
        workers: how many.
        batches: batches counted; as many as are read ahead are read before them, so that no head start is counted.
    """
    watch = Stopwatch()
    with replaced("mmssl.data.stream", "collate", partial(watch.wrap, "collate")):
        begin = time.perf_counter()
        with make(workers) as stream:
            made = time.perf_counter()
            iterator = iter(stream)
            next(iterator)
            first = time.perf_counter()
            for _ in range(AHEAD * workers):
                next(iterator)
            before = stream.counters["samples"]
            watch.seconds.clear()
            counted_from = time.perf_counter()
            for _ in range(batches):
                next(iterator)
            seconds = time.perf_counter() - counted_from
            clips = stream.counters["samples"] - before
            memory = memory_of(workers_of_this_process() if workers else None)
    waited = seconds - watch.seconds["collate"]
    return LoaderRow(
        workers=workers,
        clips=clips,
        clips_per_second=clips / seconds,
        start_seconds=first - begin,
        index_seconds=made - begin,
        wait_share=max(waited, 0.0) / seconds if workers else 0.0,
        memory=memory,
    )
