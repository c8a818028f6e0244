"""The networks of video_prediction step by step, beside a copy of the last frame and the past in a drawn order.

    python benchmarks/future_frames.py --train 'shards/train-*.tar' --heldout 'shards/test-*.tar' --runs runs/future
    python benchmarks/future_frames.py --train ... --heldout ... --runs ... --networks simvp mcnet+judge --seeds 0 1 2
    python benchmarks/future_frames.py --only-write

Every training is a `mmssl pretrain` of configs/pretrain/video_prediction.yaml in a process of its own (runs that lie
under --runs are not repeated) and is judged on all held-out clips about their middle. One row a training is appended
to results/future_frames.jsonl, with a 95 % interval over clips of SSIM less the copy's at each step. The table is
written into docs/tasks/video_prediction.md between its marks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures.video_prediction import LATE, NAME, held_out, load
from pages import write_between

from mmssl.batch import Batch
from mmssl.metrics.image_quality import psnr, ssim
from mmssl.metrics.statistics import paired_difference
from mmssl.tasks.base import MultiTask
from mmssl.training.environment import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "future_frames.jsonl"
PAGE = ROOT / "docs" / "tasks" / "video_prediction.md"
CONFIG = ROOT / "configs" / "pretrain" / "video_prediction.yaml"
NETWORKS = {  # name -> settings of the task
    "simvp": {"network": "simvp"},
    "conv_lstm": {"network": "conv_lstm"},
    "mcnet": {"network": "mcnet"},
    "mcnet+judge": {"network": "mcnet", "adversarial": 0.02},
    "mcnet+weak judge": {"network": "mcnet", "adversarial": 0.005},
    "mcnet, published balance": {"network": "mcnet", "adversarial": 0.005, "gradient_weight": 0.25},
}
SHOWN = (1, 4, 7, 10)
Row = dict[str, Any]


def train(name: str, seed: int, options: argparse.Namespace) -> tuple[Path, float | None]:
    """The run folder of a finished training, and its seconds if it was made now."""
    run = options.runs / f"{name}-{seed}-{options.steps or 'config'}"
    if (run / "done").is_file():
        return run, None
    settings = {
        "run": run,
        "data.shards": options.train,
        "data.workers": 1,
        "train.precision": options.precision,
        "train.monitor_every": 0,
        "train.gradients_every": 0,
        "train.tensorboard": "false",
        "seed": seed,
        **{f"tasks.{NAME}.init_args.{key}": value for key, value in NETWORKS[name].items()},
        **({"train.steps": options.steps} if options.steps else {}),
    }
    flags = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "pipelines.cli", "pretrain", "--config", str(CONFIG), *flags]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    (run / "done").touch()
    return run, round(time.monotonic() - began, 1)


@torch.inference_mode()
def by_clip(multitask: MultiTask, batches: list[Batch]) -> dict[str, np.ndarray]:
    """Float64 [clips, steps] of every quality, of the clips that are valid rows.

    ssim, psnr and mse of the prediction; ``copied``: of a copy of the last frame; ``shuffled``: of the prediction when
    the past is shown in a drawn order.
    """
    task: Any = multitask.tasks[NAME]
    found: dict[str, list[torch.Tensor]] = {}

    def note(name: str, made: torch.Tensor, true: torch.Tensor, valid: torch.Tensor) -> None:
        grey_made, grey_true = (x.mean(dim=2, keepdim=True) for x in (made, true))
        values = {"ssim": ssim(grey_made, grey_true), "psnr": psnr(made, true).clamp(max=60.0)}
        values["mse"] = (made - true).square().mean(dim=(2, 3, 4))
        for quality, value in values.items():
            found.setdefault(f"{quality}{name}", []).append(value[valid].double())

    for batch in batches:
        for shuffle in (False, True):
            task.shuffle = shuffle
            example = task.pretext(batch, batch.draws(NAME), LATE)
            valid, true = example.weight > 0, example.future
            multitask.encoders.forget()
            made = task.predict(example.past, multitask.encoders, LATE)
            note("_shuffled" if shuffle else "", made, true, valid)
            if not shuffle:
                note("_copied", example.past[:, :, -1][:, None].expand_as(true), true, valid)
        task.shuffle = False
    multitask.encoders.forget()
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def judge(run: Path, heldout: str, clips: int) -> Row:
    """What a run reaches on held-out clips, as a row."""
    multitask = load(run)
    found = by_clip(multitask, held_out(heldout, multitask, clips))
    better = [paired_difference(a, b) for a, b in zip(found["ssim"].T, found["ssim_copied"].T, strict=True)]
    return {
        "clips": len(found["ssim"]),
        **{name: [round(float(x), 5) for x in values.mean(axis=0)] for name, values in found.items()},
        "ssim_less_copied": [[round(x, 5) for x in (d.mean, d.low, d.high)] for d in better],
    }


def read_rows() -> list[Row]:
    """All rows there are; of trainings with one name the newest."""
    if not RESULTS.is_file():
        return []
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return list({(r["network"], r["steps"], r["seed"]): r for r in rows}.values())


def lines_of(rows: list[Row]) -> Iterator[str]:
    """The table in Markdown: a line for a network and a length of training, means over its seeds."""
    yield (
        "| network | steps | seeds | "
        + " | ".join(f"SSIM, step {step}" for step in SHOWN)
        + (" | mean | steps above a copy | squared error / a copy's | past in a drawn order |")
    )
    yield "|---|---|---|" + "---|" * (len(SHOWN) + 4)
    kinds = sorted({(row["steps"], list(NETWORKS).index(row["network"]), row["network"]) for row in rows})
    for steps, _, name in kinds:
        mine = [row for row in rows if (row["steps"], row["network"]) == (steps, name)]
        cells = [name, str(steps), str(len(mine))]
        for step in SHOWN:
            made, copied = (statistics.mean(row[key][step - 1] for row in mine) for key in ("ssim", "ssim_copied"))
            cells.append(f"{made:.3f} ({copied:.3f})")
        made, copied = (statistics.mean(statistics.mean(row[key]) for row in mine) for key in ("ssim", "ssim_copied"))
        cells.append(f"{made:.3f} ({copied:.3f})")
        # Counted in the worst seed: a step's whole interval must lie above 0.
        above = min(sum(low > 0 for _, low, _ in row["ssim_less_copied"]) for row in mine)
        cells.append(f"{above} of {len(mine[0]['ssim'])}")
        for key, over in (("mse", "mse_copied"), ("mse_shuffled", "mse")):
            ratios = [statistics.mean(row[key]) / statistics.mean(row[over]) for row in mine]
            cells.append(f"{min(ratios):.2f} to {max(ratios):.2f}" if len(mine) > 1 else f"{ratios[0]:.2f}")
        yield "| " + " | ".join(cells) + " |"
    where = sorted({(row["device"], row["clips"]) for row in rows})
    told = ", ".join(f"{clips} held-out clips on {device}" for device, clips in where)
    yield f"\nBatches of 32; {told}; a copy's SSIM in brackets."


def main() -> None:
    """Train what is missing, judge it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="shards that are trained on")
    parser.add_argument("--heldout", help="shards of other scenes")
    parser.add_argument("--runs", type=Path, default=Path("runs/future"), help="where the runs lie")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--steps", type=int, help="instead of the config's")
    parser.add_argument("--clips", type=int, default=1_000_000, help="held-out clips at most")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--only-write", action="store_true", help="write the table of the rows there are")
    options = parser.parse_args()
    about = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"), options.precision)
    for seed in options.seeds:
        for name in [] if options.only_write else options.networks:
            run, seconds = train(name, seed, options)
            log = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            steps = max(json.loads(line).get("step", 0) for line in log)
            row = {"network": name, "seed": seed, "steps": steps, "seconds": seconds, "settings": NETWORKS[name]}
            row |= judge(run, options.heldout, options.clips)
            stamp = {"benchmark": "future_frames", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
            with open(RESULTS, "a", encoding="utf-8") as file:
                file.write(json.dumps({**stamp, **about, "load": os.getloadavg()[0], **row}) + "\n")
            print(name, seed, row["ssim"], row["ssim_copied"], flush=True)
    write_between(PAGE, "future frames", "\n".join(lines_of(read_rows())))


if __name__ == "__main__":
    main()
