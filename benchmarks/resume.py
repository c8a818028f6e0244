"""What resuming costs: seconds to the first batch at sample 10,000 of 12,800, less those of a fresh start.

    python benchmarks/resume.py

200 shards of 64 clips. The clips are one small clip, padded by a `free` box to the size of an ordinary one, so that
decoding is next to nothing and what is read weighs what it does elsewhere. The stream resumes by `load_state_dict`;
webdataset, in order and without shuffling, by skipping raw samples before they are decoded, in two workers. The
readers take turns. One row is appended to results/resume.jsonl with machine, versions, load and spread.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import webdataset as wds

from mmssl.clip import Span, Window
from mmssl.data import Stream
from mmssl.training.environment import environment

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.media import flash_and_click

RESULTS = Path(__file__).parent / "results" / "resume.jsonl"
SHARDS, CLIPS, AT, BATCH = 200, 64, 10_000, 16
WINDOW = Window(Span(0.2, 5), size=(32, 32))


def make_shards(folder: Path, size: int) -> str:
    """Tars of the padded clip under keys of its own each; returns their specification."""
    clip = flash_and_click(folder / "clip.mp4", seconds=1.0, at=(0.5,), fps=5, size=(32, 32)).read_bytes()
    clip += size.to_bytes(4, "big") + b"free" + os.urandom(size - 8)
    about = json.dumps({"duration": 1.0}).encode()
    for shard in range(SHARDS):
        with tarfile.open(folder / f"train-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(CLIPS):
                for extension, data in (("mp4", clip), ("json", about)):
                    info = tarfile.TarInfo(f"{shard:03d}-{number:03d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(folder / f"train-{{000000..{SHARDS - 1:06d}}}.tar")


def ours(spec: str, state: dict[str, Any] | None, workers: int) -> tuple[float, tuple[str, ...]]:
    """Seconds from nothing to the first batch, and its keys."""
    began = time.perf_counter()
    with Stream(spec, WINDOW, BATCH, workers=workers) as stream:
        if state is not None:
            stream.load_state_dict(state)
        batch, _ = next(iter(stream))
        return time.perf_counter() - began, batch.keys


def webdataset(urls: list[str], skip: int, workers: int) -> float:
    """Seconds from nothing to the first sample behind those that are skipped."""
    began = time.perf_counter()
    given = wds.WebDataset(urls, shardshuffle=False).compose(
        lambda samples: itertools.islice(samples, skip // max(workers, 1), None)
    )
    loader = iter(torch.utils.data.DataLoader(given, batch_size=None, num_workers=workers))
    next(loader)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=60_000, help="bytes a clip")
    parser.add_argument("--workers", type=int, default=2, help="workers of each reader")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        spec = make_shards(Path(scratch), options.size)
        urls = sorted(str(path) for path in Path(scratch).glob("*.tar"))
        began = time.perf_counter()
        with Stream(spec, WINDOW, BATCH, workers=0) as stream:
            indexing = time.perf_counter() - began
            state = stream.state_dict()
            state["sources"][0]["next"], state["batches"] = AT, AT // BATCH
            order = stream.sources[0].places(torch.arange(AT, AT + BATCH).numpy())
        expected = tuple(place.entry.key for place in order)
        webdataset(urls, AT, options.workers)  # warms the page cache
        found: dict[str, list[float]] = {}
        for _ in range(options.repeats):
            fresh, _ = ours(spec, None, options.workers)
            resumed, keys = ours(spec, state, options.workers)
            assert keys == expected
            theirs, skipped = (webdataset(urls, skip, options.workers) for skip in (0, AT))
            row = {"mmssl, fresh": fresh, "mmssl, resumed": resumed, "mmssl, above fresh": resumed - fresh}
            row |= {
                "webdataset, fresh": theirs,
                "webdataset, skipped": skipped,
                "webdataset, above fresh": skipped - theirs,
            }
            for name, value in row.items():
                found.setdefault(name, []).append(value)
    row = {
        "benchmark": "resume",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **environment(torch.device("cpu"), "none"),
        "webdataset": version("webdataset"),
        "load": os.getloadavg()[0],
        "samples": SHARDS * CLIPS,
        "at": AT,
        "bytes_a_clip": options.size,
        "workers": options.workers,
        "repeats": options.repeats,
        "indexing_seconds": indexing,
        "seconds": {
            name: {"median": statistics.median(values), "least": min(values), "largest": max(values)}
            for name, values in found.items()
        },
    }
    print(f"indexing {SHARDS} tars by their headers and the plan, once: {indexing:.2f} s")
    for name, values in found.items():
        print(f"{name:24} {statistics.median(values):7.3f} s ({min(values):.3f} to {max(values):.3f})")
    print(f"load {row['load']:.1f} on {row['cores']} cores")
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
