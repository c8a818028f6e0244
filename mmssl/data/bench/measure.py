"""An instrumented pass in this process: milliseconds a clip of each part, and what was read and decoded for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mmssl.data.bench.instrument import PARTS, REST, instrumented
from mmssl.data.bench.stopwatch import Stopwatch
from mmssl.data.stream import Stream


@dataclass(frozen=True)
class PartsReport:
    """Where the time of a pass without workers went.

    Args:
        clips: clips read.
        failed: of these, clips that could not be read.
        seconds: of the whole pass.
        parts: seconds of each part; they sum to the whole.
        bytes: bytes read.
        decoder_calls, decoded_pictures, wanted_pictures: counts of the pass.
    """

    clips: int
    failed: int
    seconds: float
    parts: dict[str, float]
    bytes: int
    decoder_calls: int
    decoded_pictures: int
    wanted_pictures: int

    def as_dict(self) -> dict[str, Any]:
        """Milliseconds and shares as plain values."""
        clips = max(self.clips, 1)
        return {
            "clips": self.clips,
            "failed": self.failed,
            "ms_a_clip": round(1000 * self.seconds / clips, 4),
            "parts": {
                name: {
                    "ms_a_clip": round(1000 * seconds / clips, 4),
                    "share": round(seconds / max(self.seconds, 1e-12), 4),
                }
                for name, seconds in self.parts.items()
            },
            "bytes_a_clip": round(self.bytes / clips),
            "decoder_calls_a_clip": round(self.decoder_calls / clips, 4),
            "decoded_pictures": self.decoded_pictures,
            "wanted_pictures": self.wanted_pictures,
            "decoded_a_wanted_picture": round(self.decoded_pictures / max(self.wanted_pictures, 1), 4),
        }


def measure_parts(make: Callable[[int], Stream], batches: int) -> PartsReport:
    """Read batches in this process with every step timed; one batch before them is not counted.

    Args:
        make: makes the stream for a number of workers.
        batches: how many.
    """
    watch = Stopwatch()
    with make(0) as stream:
        iterator = iter(stream)
        next(iterator)  # what is set up once is not part of a clip's cost
        stream.counters.clear()
    with make(0) as stream, instrumented(watch):
        iterator = iter(stream)
        next(iterator)
        before = dict(stream.counters)
        watch.seconds.clear()
        watch.counts.clear()
        begin = time.perf_counter()
        for _ in islice(iterator, batches):
            pass
        seconds = time.perf_counter() - begin
        counted = {name: count - before.get(name, 0) for name, count in stream.counters.items()}
    clips = counted["samples"]
    failed = sum(count for name, count in counted.items() if name.startswith("failed: "))
    named = {name: watch.seconds[name] for name in PARTS if watch.seconds[name]}
    named[REST] = max(seconds - sum(named.values()), 0.0)
    window = stream.window
    return PartsReport(
        clips=clips,
        failed=failed,
        seconds=seconds,
        parts=named,
        bytes=watch.counts["bytes"],
        decoder_calls=counted["decoder_calls"],
        decoded_pictures=counted["decoded_pictures"],
        wanted_pictures=(clips - failed) * window.views * window.picture_count,
    )
