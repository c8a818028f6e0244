"""Flow on rendered clips that no run has seen, and on a real pair: a trained estimator, DIS, the codec, nothing.

    mmssl shards build corpus shards --dense_truth true ...          # a corpus rendered with dense truth
    mmssl pretrain --config configs/pretrain/flow_estimation.yaml --data.shards 'shards/train-*.tar' --run run
    python -m benchmarks.flow --shards 'shards/test-*.tar' --run run --out benchmarks/results/flow.jsonl

Errors are in pixels from one frame to the next, means over pairs of the mean over a pair's known pixels; "moving" are
those pixels whose true flow is longer than half a pixel. With MMSSL_REAL_DATA set, one line more a method on the pair
of FlyingChairs (arXiv 1504.06852) in D/flow_flyingchairs: one pair is an example, not a benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.data import Stream
from mmssl.data.flow import CodecFlow, DISFlow, FlowSource, NetworkFlow, dis_search
from mmssl.metrics.statistics import bootstrap
from mmssl.nn.flow_estimator import load_estimator
from mmssl.ops.flow import end_point_error, fl_all, masked_mean

SPAN = Span(0.64, 12.5)
MOVING = 0.5  # pixels
CHAIRS = "D/flow_flyingchairs"


def errors(flow: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> dict[str, np.ndarray]:
    """Error of each pair [N]; of moving pixels NaN where none moves."""
    error = end_point_error(flow, truth)
    moves = known & (torch.linalg.vector_norm(truth, dim=1) > MOVING)
    moving = masked_mean(error, moves)
    moving[~moves.flatten(1).any(dim=1)] = float("nan")
    return {
        "end_point_error": masked_mean(error, known).numpy(),
        "moving": moving.numpy(),
        "fl_all": fl_all(flow, truth, known).numpy(),
    }


def at_pixels(source: FlowSource, batch: Batch, times: torch.Tensor) -> torch.Tensor:
    """Float32 [N, 2, H, W], pixels of each pair; a cell's vector for all of its pixels, 0 where none is known."""
    found = source(batch, times)
    seconds = (times[:, 1:] - times[:, :-1]).float()[:, :, None, None, None]
    flow = (found.values * seconds).flatten(0, 1)
    height, width = batch.frames.shape[-2:]
    return flow.repeat_interleave(source.cell, -2).repeat_interleave(source.cell, -1)[..., :height, :width]


def on_shards(shards: str, methods: Mapping[str, FlowSource], clips: int) -> list[dict[str, Any]]:
    """A row a method, with the spread over clips (bootstrap, 95 %)."""
    window = Window(SPAN, size=(96, 96), truth=("flow",), motion=True)
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in ("zero flow", *methods)}
    groups: list[str] = []
    with Stream(shards, window, 16, workers=0, shuffle=False, repeat=False, anchor="centre") as stream:
        for batch, truth in stream:
            whole = batch.with_privileged(truth.dense)
            times = whole.times(SPAN)
            flow, known = whole.privileged_at("flow", times[:, :-1])
            seconds = whole.frame_times_at(times).diff(dim=1).float()
            rows = (batch.weight > 0) & known.flatten(1).any(dim=1) & (seconds > 1e-6).all(dim=1)
            wanted = (flow * seconds[:, :, None, None, None]).flatten(0, 1)
            known = (known & rows[:, None, None, None]).flatten(0, 1)
            use = known.flatten(1).any(dim=1)
            for name in found:
                given = at_pixels(methods[name], batch, times) if name in methods else torch.zeros_like(wanted)
                found[name].append(errors(given[use], wanted[use], known[use]))
            groups += [key for key, row in zip(batch.keys, rows.tolist(), strict=True) if row for _ in range(7)]
            if len(set(groups)) >= clips:
                break
    return [row_of(name, parts, groups) for name, parts in found.items()]


def row_of(name: str, parts: list[dict[str, np.ndarray]], groups: list[str]) -> dict[str, Any]:
    """The means of a method over all pairs, with their spread over clips."""
    row: dict[str, Any] = {"data": "soundstage", "method": name, "clips": len(set(groups)), "pairs": len(groups)}
    for what in parts[0]:
        values = np.concatenate([part[what] for part in parts])
        there = ~np.isnan(values)
        spread = bootstrap(values[there], np.array(groups)[there])
        row[what] = {key: round(value, 4) for key, value in spread.as_dict().items() if isinstance(value, float)}
    return row


def read_flo(path: Path) -> np.ndarray:
    """Float32 [H, W, 2] of a .flo file of Middlebury."""
    data = path.read_bytes()
    if data[:4] != b"PIEH":
        raise ValueError(f"{path} is no .flo file")
    width, height = np.frombuffer(data, "<i4", 2, 4)
    return np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2)


def read_picture(path: Path) -> np.ndarray:
    """Uint8 [H, W, 3] of a picture."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def on_chairs(folder: Path, network: NetworkFlow | None) -> list[dict[str, Any]]:
    """A row a method on the real pair."""
    frames = [read_picture(folder / f"0img{number}.ppm").copy() for number in (0, 1)]
    truth = torch.from_numpy(read_flo(folder / "0flow.flo").copy()).permute(2, 0, 1)[None]
    known = torch.ones(1, *truth.shape[-2:], dtype=torch.bool)
    weights = np.array([0.299, 0.587, 0.114])
    grey = [(frame @ weights).round().astype(np.uint8) for frame in frames]
    flows = {"zero flow": torch.zeros_like(truth)}
    for preset in ("fast", "medium"):
        flow = dis_search(preset).calc(*grey, None)
        flows[f"DIS {preset}"] = torch.from_numpy(flow).permute(2, 0, 1)[None]
    if network is not None:
        first, second = (torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255 for frame in frames)
        flows["trained"] = network.estimate(first, second)
    rows = []
    for name, flow in flows.items():
        found = {what: round(float(value[0]), 4) for what, value in errors(flow, truth, known).items()}
        rows.append({"data": "flying chairs, one pair", "method": name, "pairs": 1, **found})
    return rows


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True, help="shards with dense truth that were not trained on")
    parser.add_argument("--run", type=Path, help="run folder with a trained estimator")
    parser.add_argument("--clips", type=int, default=10**9, help="clips at most")
    parser.add_argument("--out", type=Path, help="file that the rows are written to, JSON lines")
    given = parser.parse_args()
    torch.set_num_threads(1)
    methods: dict[str, FlowSource] = {f"DIS {preset}": DISFlow(preset) for preset in ("fast", "medium")}  # type: ignore[arg-type]
    methods["codec's vectors"] = CodecFlow()
    network = None if given.run is None else NetworkFlow(load_estimator(given.run))
    if network is not None:
        methods["trained"] = network
    rows = []
    if (root := os.environ.get("MMSSL_REAL_DATA")) and (Path(root) / CHAIRS).is_dir():
        rows += on_chairs(Path(root) / CHAIRS, network)
    rows = on_shards(given.shards, methods, given.clips) + rows
    for row in rows:
        print(json.dumps(row), flush=True)
    if given.out is not None:
        given.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
