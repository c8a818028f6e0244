"""What one decode saves: seconds a step of five tasks together, of each alone, and the sum of the five alone.

    python benchmarks/one_decode.py                      # renders 64 clips of the demo preset first
    python benchmarks/one_decode.py --shards 'corpus/train-*.tar'

Every run is the real program on real clips: decode workers, forward, backward, optimizer. The first row of each run
is warm-up and not counted; the runs take turns, so that a machine that slows down slows all of them. One row is
appended to results/one_decode.jsonl with machine, versions, load and spread.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl.data import Source
from mmssl.tasks import TASKS
from mmssl.training.environment import environment
from mmssl.training.settings import TrainSettings
from pipelines.pretrain import DataSettings, PretrainConfig, run
from pipelines.pretrain_setup import train_tokenizer

RESULTS = Path(__file__).parent / "results" / "one_decode.jsonl"


def make_corpus(folder: Path, clips: int) -> str:
    """Shards of the demo preset."""
    from mmssl.data.shards.builder import build
    from mmssl.data.shards.settings import BuildSettings
    from mmssl.data.soundstage import generate

    generate(folder / "clips", clips, seed=0)
    build(folder / "clips", folder / "shards", BuildSettings(clip_seconds=None, processes=2, samples_per_shard=32))
    return str(folder / "shards" / "train-*.tar")


def measure(config: PretrainConfig, names: tuple[str, ...], folder: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl of a run on the named tasks, without the first."""
    config = dataclasses.replace(config, run=folder, tasks={name: TASKS[name]() for name in names})
    run(config, console=Console(file=io.StringIO()))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == "step"][1:]


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", help="shards to read; 64 clips of the demo preset are rendered without")
    parser.add_argument("--batch", type=int, default=32, help="clips a step")
    parser.add_argument("--rows", type=int, default=3, help="measured rows a run")
    parser.add_argument("--steps", type=int, default=4, help="steps a row")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each kind")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="number format of the forward")
    options = parser.parse_args()
    kinds = {"together": tuple(TASKS), **{name: (name,) for name in TASKS}}
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shards = options.shards or make_corpus(folder, 64)
        tokenizer = folder / "tokenizer.json"
        tokenizer.write_text(train_tokenizer([Source("data", shards)]).to_json())
        train = TrainSettings(
            steps=options.steps * (options.rows + 1),
            precision=options.precision,
            log_every=options.steps,
            checkpoint_every=10**6,
            monitor_every=0,
            heldout_every=0,
            tensorboard=False,
        )
        data = DataSettings(shards=shards, batch_size=options.batch, workers=2, tokenizer=tokenizer)
        config = PretrainConfig(run=folder, tasks={}, data=data, train=train)
        for repeat in range(options.repeats):
            for kind, names in kinds.items():
                found[kind] += measure(config, names, folder / f"{kind}-{repeat}")
    seconds = {kind: spread([row["seconds_per_step"] for row in rows]) for kind, rows in found.items()}
    together = seconds["together"]["median"]
    alone = sum(seconds[name]["median"] for name in TASKS)
    row = {
        "benchmark": "one_decode",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **environment(torch.device("cpu"), options.precision),
        "load": os.getloadavg()[0],
        "batch": options.batch,
        "rows": len(found["together"]),
        "steps_a_row": options.steps,
        "seconds_a_step": seconds,
        "sum_of_five_alone": alone,
        "clips_per_second": {"together": options.batch / together, "five_runs_alone": options.batch / alone},
        "saved": 1 - together / alone,
        "decoder_calls_a_step": {
            kind: statistics.mean(r["decoder_calls"] for r in rows) for kind, rows in found.items()
        },
        "decoded_pictures_a_step": {
            kind: statistics.mean(r["decoded_pictures"] for r in rows) for kind, rows in found.items()
        },
    }
    for kind in kinds:
        print(
            f"{kind:18} {seconds[kind]['median']:7.3f} s a step ({seconds[kind]['least']:.3f} to "
            f"{seconds[kind]['largest']:.3f})  {options.batch / seconds[kind]['median']:6.1f} clips/s  "
            f"{row['decoder_calls_a_step'][kind]:.0f} decoder calls, "
            f"{row['decoded_pictures_a_step'][kind]:.0f} pictures decoded"
        )
    print(f"{'sum of five alone':18} {alone:7.3f} s a step{'':19} {options.batch / alone:6.1f} clips/s")
    print(f"one decode saves {100 * row['saved']:.0f} % (load {row['load']:.1f} on {row['cores']} cores)")
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
