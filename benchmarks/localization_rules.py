"""The scoring rules of sound localization side by side: each trained alone for several seeds, all judged alike.

    python benchmarks/localization_rules.py --folder demo                       # a finished demo's corpus and shards
    python benchmarks/localization_rules.py --folder demo --rules avol_net fnac --seeds 0 1 2 --steps 800
    python benchmarks/localization_rules.py --folder demo --hard hard/shards    # seen sources against the others
    python benchmarks/localization_rules.py --folder demo --start runs/rotation # from another run's image encoder
    python benchmarks/localization_rules.py --table                             # prints what was measured before

A rule is the config configs/pretrain/av_localization[_<rule>].yaml; a seed is another start, order and set of draws.
The training clips are decoded once into memory (whole, 4 frames a second) and all rules learn from them; steps, batch,
optimizer and precision are the config's. The last weights are judged on the test shards, beside all baselines. One row
a training is appended to results/localization_rules.jsonl with machine and versions, and the table is printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from mmssl.batch import Batch, Truth
from mmssl.clip import Span
from mmssl.data.stream import Stream
from mmssl.localization.evaluate import evaluate_localization
from mmssl.localization.presence import evaluate_presence
from mmssl.nn.encoders import Encoders
from mmssl.randomness import sample_seed, uniform_numpy
from mmssl.tasks.cross_modal.av_localization import AVLocalization
from mmssl.training.environment import environment
from mmssl.training.settings import TrainSettings
from mmssl.training.trainer import Trainer
from pipelines import pretrain_setup as setup
from pipelines.config import parse_settings
from pipelines.demo import config_file
from pipelines.pretrain import PretrainConfig

RESULTS = Path(__file__).parent / "results" / "localization_rules.jsonl"
CONFIGS = {
    "avol_net": "pretrain/av_localization.yaml",
    "lvs": "pretrain/av_localization_lvs.yaml",
    "ez_vsl": "pretrain/av_localization_ez_vsl.yaml",
    "slavc": "pretrain/av_localization_slavc.yaml",
    "fnac": "pretrain/av_localization_fnac.yaml",
}
BASELINES = ("centre_disc", "whole_frame", "random_map", "motion_saliency", "shuffled_sound", "silenced_sound")
WHOLE = Span(3.0, 4.0)


class Clips:
    """Decoded clips in memory, handed out in another order every epoch; a `Feed`.

    Args:
        shards: whose clips.
        task: whose window is decoded.
        device: where batches are handed out.
    """

    def __init__(self, shards: str, task: AVLocalization, device: torch.device) -> None:
        self.device = device
        stream = Stream(
            shards, task.window, 100, workers=1, rank=0, world=1, shuffle=False, repeat=False, anchor="centre"
        )
        with stream as passing:
            batches = [batch for batch, _ in passing]
        first = batches[0]
        self._same = {f.name: getattr(first, f.name) for f in dataclasses.fields(first)}
        names = [n for n, value in self._same.items() if isinstance(value, torch.Tensor)]
        self._tensors = {n: torch.cat([getattr(b, n) for b in batches]) for n in names}
        self._rows = {n: sum((getattr(b, n) for b in batches), ()) for n in ("keys", "sources", "sentences")}
        self.restart(0, 1)

    def restart(self, seed: int, batch_size: int) -> None:
        """Begin anew with another seed."""
        self.seed, self.batch_size, self.epoch = seed, batch_size, 0
        self.counters: Mapping[str, Any] = {}

    def __iter__(self) -> Iterator[tuple[Batch, Truth]]:
        keys = self._rows["keys"]
        there = [row for row, key in enumerate(keys) if key]
        while True:
            seeds = {row: sample_seed(self.seed, self.epoch, "data", keys[row]) for row in there}
            draws = uniform_numpy(np.array([seeds[row] for row in there], dtype=np.int64), "order")[:, 0]
            order = [there[place] for place in np.argsort(draws)]
            for begin in range(0, len(order) - self.batch_size + 1, self.batch_size):
                rows = order[begin : begin + self.batch_size]
                changes: dict[str, Any] = {n: tensor[rows] for n, tensor in self._tensors.items()}
                changes |= {n: tuple(values[row] for row in rows) for n, values in self._rows.items()}
                changes |= {"seeds": torch.tensor([seeds[row] for row in rows]), "_made": {}, "counters": {}}
                batch = Batch(**(self._same | changes))
                yield batch.to(self.device), Truth(batch.keys, (None,) * len(rows), ({},) * len(rows))
            self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Runs of this program are not resumed."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Runs of this program are not resumed."""

    def close(self) -> None:
        """There are no workers."""


def settings_of(rule: str) -> dict[str, Any]:
    """What a rule's config sets of the rule; the rest are the defaults."""
    task = yaml.safe_load(config_file(CONFIGS[rule]).read_text(encoding="utf-8"))["tasks"]["av_localization"]
    found: dict[str, Any] = task["init_args"].get("rule", {}).get("init_args", {})
    return found


def configured(rule: str, seed: int, steps: int, start: Path | None = None) -> PretrainConfig:
    """The settings of a rule, for so many steps, with the image encoder of another run to start from."""
    flags = ["--config", str(config_file(CONFIGS[rule])), "--run", "unused", "--seed", str(seed)]
    config, _, _ = parse_settings(PretrainConfig, flags, "localization_rules")
    quiet: dict[str, Any] = {"checkpoint_every": steps, "keep": 1, "log_every": 20, "tensorboard": False}
    quiet |= dict.fromkeys(("monitor_every", "heldout_every", "gradients_every"), 0)
    encoders = config.encoders if start is None else {**config.encoders, "image": {"weights": str(start)}}
    return dataclasses.replace(config, encoders=encoders, train=dataclasses.replace(config.train, steps=steps, **quiet))


def task_of(config: PretrainConfig) -> AVLocalization:
    """The config's task, with frames from anywhere in the decoded clip."""
    task = config.tasks["av_localization"]
    assert isinstance(task, AVLocalization)
    return AVLocalization(WHOLE, task.sound_seconds, task.window.size, task.stride, task.dimension, task.rule)


def train(config: PretrainConfig, clips: Clips, run: Path) -> float:
    """Train a rule into the run folder; returns the CPU seconds of this process.

    A training that a signal cut short ends the program: its row would claim steps that were not made.
    """
    tasks = {"av_localization": task_of(config)}
    given, start = setup.read_builds(config.encoders)
    builds = setup.encoder_builds(given, tasks, None)
    multitask = setup.build_multitask(builds, tasks, {}, None, config.seed, start=start)
    clips.restart(config.seed, config.data.batch_size)
    run.mkdir(parents=True)
    settings: TrainSettings = config.train
    trainer = Trainer(
        multitask,
        clips,
        settings,
        config.optimizer,
        run=run,
        seed=config.seed,
        device=clips.device,
        console=Console(quiet=True),
    )
    began = time.process_time()
    finished = trainer.train()
    if finished.stopped_by or finished.step != settings.steps:
        raise SystemExit(
            f"{run.name}: stopped by {finished.stopped_by or 'nothing known'} after step {finished.step} of "
            f"{settings.steps}; no row is written"
        )
    return time.process_time() - began


def judge(run: Path, test: str, hard: str | None, device: torch.device) -> dict[str, Any]:
    """The figures of one row."""
    encoders, head = Encoders.from_pretrained(run), Encoders.load_head(run, "av_localization")
    scores = evaluate_localization(encoders, head, test, workers=0, device=device).as_dict()
    figures = ("peak_in_box", "ciou", "auc", "iou_fixed", "interval")
    found: dict[str, Any] = {
        "localization": {
            "n": scores["n"],
            **{name: {f: scores["rows"][name][f] for f in figures} for name in ("model", *BASELINES)},
        }
    }
    if hard is not None:
        found["presence"] = evaluate_presence(encoders, head, hard, workers=0, device=device).as_dict()
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds, in per cent, one line a rule and one a baseline."""
    head = ("seeds", "steps", "peak in box", "IoU", "AUC", "shuffled", "silenced")
    lines = [f"{'':16} {head[0]:>5} {head[1]:>5} {head[2]:>14} {head[3]:>6} {head[4]:>6} {head[5]:>9} {head[6]:>9}"]

    def kind_of(row: dict[str, Any]) -> tuple[str, int, int, str, str]:
        # Seeds of other settings are no repetitions. Rows from before settings were stored have none.
        told = ", ".join(f"{name} {value}" for name, value in row.get("settings", {}).items())
        return row["rule"], row["steps"], row["clips"], row.get("start") or "", told

    for kind in dict.fromkeys(map(kind_of, rows)):
        rule, steps, _, start, settings = kind
        kept = [row["localization"] for row in rows if kind_of(row) == kind]

        def of(name: str, figure: str = "peak_in_box", kept: list[Any] = kept) -> list[float]:
            return [100 * one[name][figure] for one in kept]

        peak = of("model")
        spread = f"+- {statistics.stdev(peak):4.1f}" if len(peak) > 1 else ""
        told = [statistics.mean(of("model", f)) for f in ("iou_fixed", "auc")]
        told += [statistics.mean(of(name)) for name in ("shuffled_sound", "silenced_sound")]
        lines.append(
            f"{rule:16} {len(peak):5} {steps:5} {statistics.mean(peak):6.1f} {spread:7} "
            f"{told[0]:6.1f} {told[1]:6.1f} {told[2]:9.1f} {told[3]:9.1f}"
            + (f"  from {start}" if start else "")
            + (f"  ({settings})" if settings else "")
        )
    lines.append("without learning (peak in box, IoU, AUC):")
    last = rows[-1]["localization"]
    for name in BASELINES[:4]:
        told = [100 * last[name][f] for f in ("peak_in_box", "iou_fixed", "auc")]
        lines.append(f"{name:16} {'':11} {told[0]:6.1f} {'':7} {told[1]:6.1f} {told[2]:6.1f}")
    for row in rows:
        if "presence" in row:
            told = [
                f"{against} {100 * row['presence']['rows'][score][against]['auc']:.1f}"
                for score in ("model", "loudness")
                for against in ("off_screen", "silent")
            ]
            lines.append(f"seen against others, {row['rule']} seed {row['seed']}: AUC model {told[0]}, {told[1]}; "
                         f"loudness {told[2]}, {told[3]}")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Train, judge, append, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="a demo's folder, with shards/train-*.tar and shards/test-*.tar")
    parser.add_argument("--hard", help="folder with test-*.tar of the preset hard: silent and off-screen sources")
    parser.add_argument("--rules", nargs="*", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--start", type=Path, help="a run whose image encoder all rules start from")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    parser.add_argument("--table", action="store_true", help="print the stored rows and do nothing else")
    options = parser.parse_args()
    if not options.table:
        if options.folder is None:
            parser.error("--folder is needed")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        about = environment(device, "bf16")
        shards = options.folder / "shards"
        hard = None if options.hard is None else str(Path(options.hard) / "test-*.tar")
        with tempfile.TemporaryDirectory() as scratch:
            clips = Clips(str(shards / "train-*.tar"), task_of(configured(options.rules[0], 0, 1)), device)
            for seed in options.seeds:
                for rule in options.rules:
                    run = (options.keep or Path(scratch)) / f"{rule}-{options.steps}-{seed}"
                    seconds = train(configured(rule, seed, options.steps, options.start), clips, run)
                    row = {
                        "benchmark": "localization_rules",
                        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                        **about,
                        "load": os.getloadavg()[0],
                        "rule": rule,
                        "seed": seed,
                        "steps": options.steps,
                        "settings": settings_of(rule),
                        "start": None if options.start is None else options.start.name,
                        "clips": len(clips._rows["keys"]),
                        "cpu_seconds": round(seconds, 1),
                        **judge(run, str(shards / "test-*.tar"), hard, device),
                    }
                    RESULTS.parent.mkdir(exist_ok=True)
                    with open(RESULTS, "a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    peak = row["localization"]["model"]["peak_in_box"]
                    print(f"{rule}, seed {seed}: peak in box {100 * peak:.1f}, {seconds:.0f} CPU seconds", flush=True)
    print(table([json.loads(line) for line in RESULTS.read_text().splitlines()]))


if __name__ == "__main__":
    main()
