"""Whole loaders: clips a second with one and two workers, first batch, memory; ours beside what users write elsewhere.

    MMSSL_REAL_DATA=... python benchmarks/loaders.py [--rounds 3]

4 shards of 64 ten-second clips (see `corpora.py`), batches of 16 with 16 frames and 2 s of sound a clip. The others are
webdataset pipelines in a torch DataLoader, with the decoding of `peers.py`. Loaders take turns, each in a process of
its own; a measurement begins after the second batch. "limit" is the CPU time of libavcodec alone (`decoders.py`), one
core's worth. One row is appended to results/loaders.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

RESULTS = Path(__file__).parent / "results" / "loaders.jsonl"
BATCH = 16


def ours(spec: str, workers: int, pixels: Any, repeat: int = 1) -> Any:
    """Our stream; `repeat` joins the window of so many tasks."""
    from corpora import SIZE
    from peers import RATE, SECONDS, SOUND_RATE

    from mmssl.clip import Span, Window
    from mmssl.data import Stream

    window = Window(Span(SECONDS, RATE), sound=Span(SECONDS, SOUND_RATE), size=SIZE)
    for _ in range(repeat - 1):
        window = window | Window(Span(SECONDS, RATE), sound=Span(SECONDS, SOUND_RATE), size=SIZE)
    stream = Stream(spec, window, BATCH, workers=workers, pixels=pixels)
    return stream, (len(batch) for batch, _ in stream)


def theirs(spec: str, workers: int, name: str) -> Any:
    """A webdataset pipeline as its users write it."""
    import random

    import torch
    import webdataset as wds
    from peers import PEERS, SECONDS

    decode = PEERS[name]

    def sample(members: dict[str, bytes]) -> tuple[Any, Any]:
        duration = json.loads(members["json"])["duration"]
        frames, sound = decode(members["mp4"], random.uniform(0, duration - SECONDS))
        return torch.as_tensor(frames).permute(0, 3, 1, 2).contiguous(), torch.as_tensor(sound).reshape(-1)[:31000]

    data = wds.WebDataset(spec, shardshuffle=4, empty_check=False).repeat().shuffle(100).map(sample)
    loader = torch.utils.data.DataLoader(data.batched(BATCH), batch_size=None, num_workers=workers, prefetch_factor=2)
    return None, (len(batch[0]) for batch in loader)


def spdl_threads(spec: str, workers: int) -> Any:
    """SPDL's pipeline: threads that decode, samples from webdataset's tar reader."""
    import random

    import numpy as np
    import webdataset as wds
    from peers import SECONDS, spdl
    from spdl.pipeline import PipelineBuilder

    def sample(members: dict[str, bytes]) -> tuple[Any, Any]:
        duration = json.loads(members["json"])["duration"]
        frames, sound = spdl(members["mp4"], random.uniform(0, duration - SECONDS))
        return frames, sound.reshape(-1)[:31000]

    def batch(samples: list[tuple[Any, Any]]) -> Any:
        return [np.stack(parts) for parts in zip(*samples, strict=True)]

    source = wds.WebDataset(spec, shardshuffle=4, empty_check=False).repeat().shuffle(100)
    builder = PipelineBuilder().add_source(source).pipe(sample, concurrency=workers).aggregate(BATCH).pipe(batch)
    pipeline = builder.add_sink(3).build(num_threads=workers + 1)
    pipeline.start()
    return pipeline, (len(made[0]) for made in pipeline.get_iterator())


def run(loader: str, spec: str, workers: int, seconds: float) -> dict[str, float]:
    """Clips a second after the second batch; seconds to the first, without this process's own imports."""
    import webdataset  # noqa: F401

    import mmssl.data.stream  # noqa: F401

    began = time.perf_counter()
    if loader.startswith("ours"):
        _, counts = ours(spec, workers, "yuv" if "planes" in loader else "rgb", 8 if "8 tasks" in loader else 1)
    elif loader == "spdl":
        _kept, counts = spdl_threads(spec, workers)
    else:
        _, counts = theirs(spec, workers, loader)
    next(counts)
    first = time.perf_counter() - began
    next(counts)
    began, clips = time.perf_counter(), 0
    cpu = os.times()
    while time.perf_counter() - began < seconds:
        clips += next(counts)
    spent = time.perf_counter() - began
    found = {"clips_a_second": clips / spent, "first": first}
    found |= memory_of_children()
    now = os.times()
    found["parent_cpu_share"] = (now.user - cpu.user + now.system - cpu.system) / spent
    return found


def memory_of_children() -> dict[str, float]:
    """Unique MiB of the workers (the most of them), and how many there are."""
    import psutil

    sizes = [child.memory_full_info().uss / 2**20 for child in psutil.Process().children(recursive=True)]
    return {"worker_mib": max(sizes, default=0.0), "workers": len(sizes)}


def growth(spec: str, clips: int) -> dict[str, float]:
    """Memory of all processes after a tenth of the clips and at the end, MiB."""
    import psutil

    _, counts = ours(spec, 2, "rgb")
    done, early = 0, 0.0

    def total() -> float:
        me = psutil.Process()
        return sum(p.memory_full_info().uss for p in [me, *me.children(recursive=True)]) / 2**20

    while done < clips:
        done += next(counts)
        if not early and done >= clips // 10:
            early = total()
    return {"clips": done, "early_mib": early, "late_mib": total()}


def alone(*arguments: str) -> dict[str, float]:
    """A measurement in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--one", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--growth", type=int, default=10_000)
    parser.add_argument("--one", nargs=4)
    options = parser.parse_args()
    if options.one:
        loader, spec, workers, seconds = options.one
        found = growth(spec, int(seconds)) if loader == "growth" else run(loader, spec, int(workers), float(seconds))
        print(json.dumps(found), flush=True)
        os._exit(0)  # endless loaders do not wait to be told

    import torch
    from corpora import build_kind, clips_of, repeated

    from mmssl.data.shards.spec import expand_shards
    from mmssl.data.shards.tables import make_tables
    from mmssl.training.environment import environment

    row: dict[str, Any] = {
        "benchmark": "loaders",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **environment(torch.device("cpu"), "fp32"),
        "peers": {name: version(name) for name in ("torchcodec", "decord", "webdataset")},
        "load": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ordinary, default = (clips_of(build_kind(kind, folder)) for kind in ("ordinary", "default"))
        specs = {
            "bare": repeated(ordinary, folder / "bare", tables=False),
            "indexed": repeated(ordinary, folder / "indexed", tables=False),
            "default": repeated(default, folder / "default", tables=True),
        }
        began = time.perf_counter()
        made = make_tables([Path(str(p)) for p in expand_shards(specs["indexed"])], 2)
        row["index"] = {"seconds": time.perf_counter() - began, "clips": made.clips, "tables": made.tables}
        kinds = [
            ("ours, rgb", "indexed"),
            ("ours, planes", "indexed"),
            ("ours, rgb", "bare"),
            ("torchcodec", "bare"),
            ("pyav", "bare"),
            ("spdl", "bare"),
            ("decord, whole clip", "bare"),
            ("ours, rgb", "default"),
            ("ours, planes", "default"),
            ("ours, 8 tasks, rgb", "default"),
            ("torchcodec", "default"),
            ("pyav", "default"),
            ("spdl", "default"),
        ]
        found: dict[str, list[dict[str, float]]] = {}
        for number in range(options.rounds):
            for loader, shards in kinds:
                for workers in (1, 2):
                    if loader.startswith("decord") and number:
                        continue
                    one = alone(loader, specs[shards], str(workers), str(options.seconds))
                    found.setdefault(f"{loader} | {shards} | {workers}", []).append(one)
        row["rows"] = {
            name: {
                key: [round(f([v[key] for v in values]), 3) for f in (statistics.median, min, max)]
                for key in ("clips_a_second", "first", "worker_mib", "parent_cpu_share")
            }
            for name, values in found.items()
        }
        row["growth"] = alone("growth", specs["default"], "2", str(options.growth))
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    for name, values in row["rows"].items():
        told = "  ".join(f"{k} {v[0]} ({v[1]} to {v[2]})" for k, v in values.items())
        print(f"{name:38} {told}")
    print(row["index"], row["growth"])


if __name__ == "__main__":
    main()
