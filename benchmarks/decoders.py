"""What decoding a window costs: CPU milliseconds a clip, ours and that of other libraries, and the share of the limit.

    MMSSL_REAL_DATA=... python benchmarks/decoders.py [--rounds 7]

One process, one thread. The window is 16 frames at 8 a second and 2 s of 16 kHz sound at a drawn place of a ten-second
clip. `limit` is libavcodec alone: decoders kept open, just the packets of the window, frames dropped. Every way is
asked in turn, round by round; medians, and the ratio's range over the rounds. The cost of making the tables, and what
the default encoding does to size and picture (PSNR against lossless clips), are told too. One row is appended to
results/decoders.jsonl.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.decode import by_packets
from mmssl.data.decode.base import Buffers
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.packets import PacketTable
from mmssl.data.packets_make import checked_table
from mmssl.training.environment import environment

sys.path.insert(0, str(Path(__file__).parent))
from corpora import SIZE, build_kind, clips_of
from peers import PEERS, RATE, SECONDS, SOUND_RATE

RESULTS = Path(__file__).parent / "results" / "decoders.jsonl"
WINDOW = Window(Span(SECONDS, RATE), sound=Span(SECONDS, SOUND_RATE), size=SIZE)
Way = Callable[[int], None]  # takes the number of a job


def jobs_of(clips: list[dict[str, bytes]]) -> list[tuple[EncodedClip, float]]:
    """(clip with its table, start of its window)."""
    starts = np.random.default_rng(0).uniform(0.0, 1.0, len(clips))
    found = []
    for number, (members, share) in enumerate(zip(clips, starts, strict=True)):
        media = members["mp4"]
        duration = json.loads(members["json"])["duration"]
        table = members.get("pkt") or checked_table(media)
        clip = EncodedClip(str(number), "", media, meta={"duration": duration}, packets=table)
        found.append((clip, share * (duration - SECONDS)))
    return found


def ours(jobs: list[tuple[EncodedClip, float]], pixels: Any, with_table: bool) -> Way:
    """Our decoder."""
    decoder, into = PyAVDecoder(pixels), Buffers.for_window(WINDOW, 1, pixels)

    def run(number: int) -> None:
        clip, start = jobs[number]
        if not with_table:
            clip = EncodedClip(clip.key, "", clip.media, meta=clip.meta)
        decoder.decode(clip, WINDOW, np.array([start + SECONDS / 2]), into)

    return run


def limit(jobs: list[tuple[EncodedClip, float]]) -> Way:
    """The packets of each window, made ready beforehand, through kept-open decoders."""
    decoders = by_packets.OpenDecoders()
    ready = []
    for clip, start in jobs:
        table = PacketTable.from_bytes(clip.packets or b"", len(clip.media))
        assert table.video is not None
        assert table.audio is not None
        times = start + np.arange(round(SECONDS * RATE)) / RATE
        number, _ = by_packets._on_screen(table.video, table.zero, times)
        pictures = [n for packets, _ in by_packets._runs(table.video, number) for n in packets]
        begins = table.audio.seconds - table.zero
        first = max(int(np.searchsorted(begins, start, side="right")) - 2, 0)
        sounds = list(range(first, int(np.searchsorted(begins, start + SECONDS))))
        ready.append((clip, table, pictures, sounds))

    def run(number: int) -> None:
        clip, table, pictures, sounds = ready[number]
        media = memoryview(clip.media)
        for stream, packets in ((table.video, pictures), (table.audio, sounds)):
            decoder, packet = decoders.of(stream), by_packets._packets(media, stream)
            for n in packets:
                decoder.decode(packet(n))

    return run


def peer(jobs: list[tuple[EncodedClip, float]], decode: Any) -> Way:
    """Another library."""

    def run(number: int) -> None:
        clip, start = jobs[number]
        decode(clip.media, start)

    return run


def measured(ways: dict[str, Way], count: int, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds a clip of each way in each round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        for number in range(min(count, 4)):
            way(number)
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            for number in range(count):
                way(number)
            found[name].append(1e3 * (time.process_time() - began) / count)
    return found


def told(found: dict[str, list[float]], against: str) -> dict[str, dict[str, float]]:
    """Median milliseconds, and how many times as fast as `against`, with the range over the rounds."""
    base = found[against]
    rows = {}
    for name, values in found.items():
        ratios = [b / v for b, v in zip(base, values, strict=True)]
        rows[name] = {
            "ms": round(statistics.median(values), 3),
            "times": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        }
    return rows


def quality(clips: list[dict[str, bytes]], reference: list[dict[str, bytes]]) -> dict[str, float]:
    """Mean size of a clip in kB, and PSNR of luma against lossless clips, dB."""
    errors, count = 0.0, 0
    for a, b in zip(clips, reference, strict=True):
        with av.open(io.BytesIO(a["mp4"])) as x, av.open(io.BytesIO(b["mp4"])) as y:
            for p, q in zip(x.decode(video=0), y.decode(video=0), strict=False):
                difference = p.to_ndarray()[: p.height].astype(float) - q.to_ndarray()[: q.height]
                errors, count = errors + float((difference**2).mean()), count + 1
    size = statistics.mean(len(c["mp4"]) for c in clips) / 1e3
    return {"kB": round(size, 1), "psnr": round(10 * float(np.log10(255**2 * count / errors)), 2)}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(1)
    row: dict[str, Any] = {
        "benchmark": "decoders",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **environment(torch.device("cpu"), "fp32"),
        "peers": {name: version(name) for name in ("torchcodec", "decord", "spdl")},
        "load": os.getloadavg()[0],
        "rounds": options.rounds,
    }
    with tempfile.TemporaryDirectory() as scratch:
        clips = {kind: clips_of(build_kind(kind, Path(scratch)))[: options.clips] for kind in ("ordinary", "default")}
        reference = clips_of(build_kind("lossless", Path(scratch)))[: options.clips]
        row["clips"] = len(clips["ordinary"])
        row["quality"] = {kind: quality(clips[kind], reference) for kind in clips}
        began = time.process_time()
        for members in clips["ordinary"]:
            checked_table(members["mp4"])
        row["table_ms"] = round(1e3 * (time.process_time() - began) / len(clips["ordinary"]), 2)
        ways: dict[str, Way] = {}
        for kind in clips:
            jobs = jobs_of(clips[kind])
            ways[f"{kind}: limit"] = limit(jobs)
            ways[f"{kind}: ours, rgb"] = ours(jobs, "rgb", True)
            ways[f"{kind}: ours, planes"] = ours(jobs, "yuv", True)
            ways[f"{kind}: ours, rgb, no table"] = ours(jobs, "rgb", False)
            ways |= {f"{kind}: {name}": peer(jobs, decode) for name, decode in PEERS.items()}
        found = measured(ways, row["clips"], options.rounds)
    best = min((n for n in found if n.removeprefix("ordinary: ") in PEERS), key=lambda n: statistics.median(found[n]))
    row["best_peer"] = best
    row["ways"] = told(found, best)
    for kind in clips:
        ratios = {name: told(found, f"{kind}: limit")[f"{kind}: ours, {name}"]["times"] for name in ("rgb", "planes")}
        row[f"share_of_limit_{kind}"] = ratios
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{row['clips']} clips, {options.rounds} rounds; times as fast as {best}")
    for name, values in row["ways"].items():
        print(
            f"{name:34} {values['ms']:8.2f} ms  x {values['times']:.2f} ({values['least']:.2f} to {values['most']:.2f})"
        )
    print(json.dumps({k: row[k] for k in row if k.startswith("share") or k in ("quality", "table_ms")}))


if __name__ == "__main__":
    main()
