"""What a plan costs at scale: 100,000 shards of 1,000 clips on 4,096 ranks with 8 workers each.

    python benchmarks/scale.py

The stream is the real one; its shards are lengths and digests in memory, so that what is timed is the plan, the order
and a rank's jobs. Beside it the heads of as many index files on disk are read, as a start does. Every repeat is a
fresh process. One row is appended to results/scale.jsonl with machine, versions, load and spread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "scale.jsonl"
MIB = 1 << 20


def resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def simulate(shards: int, clips: int, ranks: int, workers: int, share: int) -> dict[str, float]:
    """Plan, first jobs, a jump into the middle and one global batch of all ranks; seconds, MiB, bytes."""
    from mmssl.clip import Span, Window
    from mmssl.data import Stream
    from mmssl.data import stream as stream_module
    from mmssl.data.shards.catalog import Catalog
    from mmssl.data.shards.entry import SampleEntry
    from mmssl.data.sources import IndexedSource, Source

    class Clips(Sequence[SampleEntry]):
        def __init__(self, shard: int, count: int) -> None:
            self.shard, self.count = shard, count

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, number: int) -> SampleEntry:
            return SampleEntry(f"{self.shard:06d}-{number:06d}", {"mp4": (512, 170_000), "json": (170_496, 700)})

    class Synthetic(Catalog):
        def entries(self, number: int) -> Sequence[SampleEntry]:
            return Clips(number, int(self.lengths[number]))

    draws = np.random.default_rng(0)
    catalog = Synthetic(
        shards=[Path(f"/corpus/train-{number:06d}.tar") for number in range(shards)],
        lengths=draws.integers(clips - clips // 10, clips + clips // 10 + 1, shards),
        digests=[f"{number:016x}" for number in draws.integers(0, 1 << 62, shards).tolist()],
        statuses=[(clips * 171_000, number) for number in range(shards)],
    )
    stream_module.IndexedSource = lambda source, seed, shuffle, *_: IndexedSource(
        source, seed, shuffle, catalog=catalog
    )
    window = Window(Span(2.0, 8), Span(2.0, 16000), size=(112, 112))

    def stream(rank: int) -> Stream:
        return Stream([Source("data", "")], window, ranks * share, workers=workers, rank=rank, world=ranks)

    before, began = resident(), time.perf_counter()
    one = stream(ranks // 2)
    text = str(one.plan)
    planned = time.perf_counter()
    jobs = one._jobs()
    next(jobs)
    first = time.perf_counter()
    for _ in islice(jobs, 200):
        pass
    steady = (time.perf_counter() - first) / 200
    state = one.state_dict()
    saved = time.perf_counter()
    state["sources"][0]["next"] = len(one.sources[0]) - ranks * share // 2  # a batch that straddles the border
    other = stream(3)
    other.load_state_dict(state)
    loading = time.perf_counter()
    next(other._jobs())
    resumed = time.perf_counter()
    after = resident()
    places = [place for rank in range(ranks) for place in next(stream(rank)._jobs()).places] if ranks <= 4096 else []
    assert len({place.entry.key for place in places}) == len(places) == ranks * share
    return {
        "plan_seconds": planned - began,
        "first_batch_seconds": first - planned,
        "later_batch_seconds": steady,
        "resume_at_border_seconds": resumed - loading,
        "fingerprint_and_state_seconds": saved - first - 200 * steady,
        "memory_mib": after - before,
        "state_bytes": len(json.dumps(state)),
        "text": text,
    }


def read_heads(folder: Path) -> dict[str, float]:
    """Name the shards of a folder and read the heads of their indices; seconds and MiB."""
    from mmssl.data.shards.catalog import read_catalog
    from mmssl.data.shards.index import expand_shards

    before, began = resident(), time.perf_counter()
    catalog = read_catalog(expand_shards(str(folder)))
    seconds, after = time.perf_counter() - began, resident()
    return {"heads_seconds": seconds, "heads_memory_mib": after - before, "heads": len(catalog.shards)}


def write_heads(folder: Path, shards: int, clips: int) -> None:
    """Tars that are holes in the disk, each with the head of its index."""
    from mmssl.data.shards.index import status_of
    from mmssl.data.shards.index_file import VERSION

    for number in range(shards):
        tar = folder / f"train-{number:06d}.tar"
        with open(tar, "wb") as file:
            file.truncate(clips * 171_000)
        size, mtime = status_of(tar)
        head = {"mmssl_index": VERSION, "tar": tar.name, "size": size, "mtime_ns": mtime, "samples": clips}
        head |= {"keys": f"{number:016x}", "silent": 0, "wordless": 0, "without_media": 0, "cut_short": None}
        tar.with_suffix(".idx").write_text(json.dumps(head) + "\n")


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=100_000, help="shards")
    parser.add_argument("--clips", type=int, default=1000, help="clips a shard")
    parser.add_argument("--ranks", type=int, default=4096, help="ranks")
    parser.add_argument("--workers", type=int, default=8, help="workers a rank")
    parser.add_argument("--share", type=int, default=16, help="clips a rank and batch")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each kind")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one == "simulate":
        print(json.dumps(simulate(options.shards, options.clips, options.ranks, options.workers, options.share)))
        return
    if options.one:
        print(json.dumps(read_heads(Path(options.one))))
        return
    import torch

    from mmssl.training.environment import environment

    def run(one: str) -> dict[str, float]:
        given = [f"--{name}={getattr(options, name)}" for name in ("shards", "clips", "ranks", "workers", "share")]
        done = subprocess.run([sys.executable, __file__, *given, "--one", one], capture_output=True, check=True)
        return json.loads(done.stdout)

    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_heads(Path(scratch), options.shards, options.clips)
        for _ in range(options.repeats):
            for name, value in (run("simulate") | run(scratch)).items():
                found.setdefault(name, []).append(value)
    text = found.pop("text")[0]
    row = {
        "benchmark": "scale",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **environment(torch.device("cpu"), "none"),
        "load": os.getloadavg()[0],
        **{name: getattr(options, name) for name in ("shards", "clips", "workers", "share", "repeats")},
        "simulated_ranks": options.ranks,
        **{
            name: {"median": statistics.median(values), "least": min(values), "largest": max(values)}
            for name, values in found.items()
        },
    }
    print(text)
    for name, values in found.items():
        print(f"{name:30} {statistics.median(values):12.4g} ({min(values):.4g} to {max(values):.4g})")
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
