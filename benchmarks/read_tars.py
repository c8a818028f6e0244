"""How fast members are read from tars in the page cache, without decoding: bytes a second and process.

    python benchmarks/read_tars.py

Readers: ours in the stream's shuffled order through the index, ours in the order of the tar, webdataset, tarfile as a
stream and as a file, and as a limit one pread a member in a loop that does nothing else. All read the same shards, one
after the other in each round, so that a machine that slows down slows all of them. Bytes a CPU second are told beside
those a second: on a machine that others use too they say what a core to itself would read. One row is appended to
results/read_tars.jsonl with machine, versions, load and spread.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from mmssl.data import Source
from mmssl.data.shards.index import read_index, read_members
from mmssl.data.sources import IndexedSource
from mmssl.training.environment import environment

RESULTS = Path(__file__).parent / "results" / "read_tars.jsonl"


def make_shards(folder: Path, shards: int, clips: int, size: int) -> list[Path]:
    """Tars of samples with a video's worth of noise, a description and subtitles."""
    draws = np.random.default_rng(0)
    paths = []
    for shard in range(shards):
        path = folder / f"train-{shard:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for clip in range(clips):
                members = {"mp4": draws.bytes(int(size * draws.uniform(0.7, 1.3))), "vtt": b"WEBVTT\n" * 12}
                members["json"] = json.dumps({"duration": 10.0, "extra": "x" * 600}).encode()
                for extension, data in members.items():
                    info = tarfile.TarInfo(f"clip-{shard:03d}-{clip:05d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        read_index(path)
        paths.append(path)
    return paths


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=8, help="shards")
    parser.add_argument("--clips", type=int, default=350, help="clips a shard")
    parser.add_argument("--size", type=int, default=177_000, help="bytes a clip")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    options = parser.parse_args()
    import webdataset as wds

    with tempfile.TemporaryDirectory() as scratch:
        paths = make_shards(Path(scratch), options.shards, options.clips, options.size)
        places = [(str(p), place) for p in paths for entry in read_index(p).samples for place in entry.members.values()]

        def ours(shuffle_shards: int) -> int:
            source = IndexedSource(Source("data", scratch), 0, shuffle_shards)
            total = 0
            for first in range(0, len(source), 64):
                for place in source.places(np.arange(first, min(first + 64, len(source)))):
                    total += sum(len(data) for data in read_members(place.shard, place.entry).values())
            return total

        def webdataset() -> int:
            given = wds.WebDataset([str(path) for path in paths], shardshuffle=False)
            return sum(len(v) for one in given for name, v in one.items() if not name.startswith("__"))

        def tarfile_as(mode: str) -> int:
            total = 0
            for path in paths:
                with tarfile.open(path, mode) as tar:
                    for member in tar:
                        total += len(tar.extractfile(member).read())
            return total

        def preads() -> int:
            total, opened = 0, {str(path): os.open(path, os.O_RDONLY) for path in paths}
            for path, (at, size) in places:
                total += len(os.pread(opened[path], size, at))
            for descriptor in opened.values():
                os.close(descriptor)
            return total

        readers: dict[str, Callable[[], int]] = {
            "mmssl, shuffled": lambda: ours(8),
            "mmssl, in order": lambda: ours(0),
            "webdataset": webdataset,
            "tarfile, stream": lambda: tarfile_as("r|"),
            "tarfile, file": lambda: tarfile_as("r:"),
            "pread alone": preads,
        }
        bytes_of = {name: read() for name, read in readers.items()}  # warms the page cache
        assert len(set(bytes_of.values())) == 1, bytes_of
        found: dict[str, list[float]] = {name: [] for name in readers}
        by_cpu: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(options.repeats):
            for name, read in readers.items():
                began, began_cpu = time.perf_counter(), time.process_time()
                read()
                found[name].append(bytes_of[name] / (time.perf_counter() - began) / 1e9)
                by_cpu[name].append(bytes_of[name] / (time.process_time() - began_cpu) / 1e9)
    row = {
        "benchmark": "read_tars",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **environment(torch.device("cpu"), "none"),
        "webdataset": version("webdataset"),
        "load": os.getloadavg()[0],
        "samples": options.shards * options.clips,
        "bytes": bytes_of["webdataset"],
        "repeats": options.repeats,
        "gb_per_second": {name: spread(values) for name, values in found.items()},
        "gb_per_cpu_second": {name: spread(values) for name, values in by_cpu.items()},
    }
    for name, values in found.items():
        cpu = by_cpu[name]
        print(
            f"{name:18} {statistics.median(values):6.2f} GB/s ({min(values):.2f} to {max(values):.2f}), "
            f"{statistics.median(cpu):6.2f} GB a CPU second ({min(cpu):.2f} to {max(cpu):.2f})"
        )
    print(f"load {row['load']:.1f} on {row['cores']} cores")
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
