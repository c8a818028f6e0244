"""How far the demo's figures vary: its pretraining for several seeds, and once without the subtitle task.

    python benchmarks/demo_seeds.py --folder demo            # takes the corpus and shards of a finished `make demo`
    python benchmarks/demo_seeds.py --seeds 0 1 2 3 4

A seed here is another pretraining: start weights, order of the clips and all draws; corpus and test clips are those of
seed 0, and each pretraining is probed with the demo's own seeds. Without the subtitle task nothing names an action:
what the probe finds then was learned from picture and sound. One row a pretraining is appended to
results/demo_seeds.jsonl with machine and versions, and the table over all of them is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl.report import read_metrics
from mmssl.training.environment import environment
from pipelines.demo import (
    FULL,
    QUICK,
    Size,
    demo_config,
    make_corpus,
    make_shards,
    measure_action,
    measure_localization,
)
from pipelines.pretrain import run as pretrain

RESULTS = Path(__file__).parent / "results" / "demo_seeds.jsonl"
LOCALIZATION = ("peak_in_box", "centre_prior", "random_map", "motion_saliency", "shuffled_sound", "ciou", "auc")


def measure(
    folder: Path, run: Path, size: Size, seed: int, tasks: list[str] | None, console: Console
) -> dict[str, Any]:
    """Pretrain once and measure it; the figures of one row."""
    config, resolved = demo_config(folder, size, seed, tasks, run)
    began = time.monotonic()
    pretrain(config, resolved=resolved, console=console)
    seconds = time.monotonic() - began
    action = measure_action(folder, run, size)
    found, _ = measure_localization(folder, run, size, seed, draw=False)
    pretext = {
        row["task"]: {name: row[name] for name in ("score", "floor", "ablated")}
        for row in read_metrics(run / "metrics.jsonl")
        if row.get("event") == "heldout"
    }
    return {
        "seconds": seconds,
        "action": {model: action["linear"][model]["mean"] for model in ("pretrained", "random_init")},
        "localization": {name: found[name] for name in LOCALIZATION},
        "pretext": pretext,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Mean, standard deviation and each value of every figure over the seeds."""
    lines = []
    figures = {
        "action pretrained": [row["action"]["pretrained"] for row in rows],
        "action gain": [row["action"]["pretrained"] - row["action"]["random_init"] for row in rows],
        **{name: [row["localization"][name] for row in rows] for name in LOCALIZATION},
        **{task: [row["pretext"][task]["score"] for row in rows] for task in rows[0]["pretext"]},
    }
    for name, values in figures.items():
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        each = " ".join(f"{100 * value:.1f}" for value in values)
        lines.append(f"{name:20} {100 * statistics.mean(values):6.1f} +- {100 * spread:4.1f}   ({each})")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="a demo's folder; a new corpus is rendered without")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="pretraining seeds")
    parser.add_argument("--without-subtitles", type=int, nargs="*", default=[0], help="seeds without the subtitle task")
    parser.add_argument("--quick", action="store_true", help="the quick demo's size: shows that the program works")
    options = parser.parse_args()
    size, console = (QUICK if options.quick else FULL), Console()
    about = environment(torch.device("cpu"), "bf16")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if not (folder / "shards").is_dir():
            make_corpus(folder, size, 0, console)
            make_shards(folder, size)
        every = list(demo_config(folder, size, 0, None, Path(scratch) / "none")[0].tasks)
        silent = [name for name in every if name != "subtitle_matching"]
        kinds = [(seed, silent) for seed in options.without_subtitles] + [(seed, None) for seed in options.seeds]
        rows: list[dict[str, Any]] = []
        for number, (seed, tasks) in enumerate(kinds):
            row = {
                "benchmark": "demo_seeds",
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                **about,
                "load": os.getloadavg()[0],
                "seed": seed,
                "tasks": tasks or every,
                **measure(folder, Path(scratch) / f"run-{number}", size, seed, tasks, console),
            }
            rows.append(row)
            RESULTS.parent.mkdir(exist_ok=True)
            with open(RESULTS, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    for told, chosen in (("five tasks", every), ("without subtitle_matching", silent)):
        kept = [row for row in rows if row["tasks"] == chosen]
        if kept:
            print(f"\n{told}, {len(kept)} pretrainings, per cent, mean +- standard deviation (each)")
            print(table(kept))


if __name__ == "__main__":
    main()
