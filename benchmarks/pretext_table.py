"""Each pretext task trained three times (law 6) for several seeds: as it is meant, with broken pairs, and blind.

    mmssl soundstage corpus --clips 512 --seed 1 --dense_truth true
    mmssl soundstage corpus --clips 256 --seed 1 --split test --dense_truth true
    mmssl shards build corpus shards --clip_seconds null --size "[96,96]" --fit stretch --dense_truth true
    python benchmarks/pretext_table.py --train 'shards/train-*.tar' --heldout 'shards/test-*.tar' --steps 300
    python benchmarks/pretext_table.py --train ... --heldout ... --configs dense_predictive_coding  # 1,000 steps
    python benchmarks/pretext_table.py --only-write

Every training is a `mmssl pretrain` of `configs/pretrain/<task>.yaml` in a process of its own and is scored on clips
that are not trained on, whatever was done to its training. One row a training is appended to
results/pretext_table.jsonl; trainings whose row is there already, with the same settings, are not repeated, so that
the program can be stopped and started again. The encoders of the true trainings stay under --runs for
`benchmarks/action_table.py`. The table is written into docs/results.md between its marks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from pages import write_between

from mmssl.metrics.statistics import far_above_floor
from mmssl.report import read_metrics
from mmssl.training.environment import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "pretext_table.jsonl"
PAGE = ROOT / "docs" / "results.md"
CONFIGS = ROOT / "configs" / "pretrain"
CONTROLS = ("none", "broken_pairs", "blind")
Row = dict[str, Any]


def table_configs() -> list[str]:
    """Names of the configs of one task each, and of all together."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in ("av", "demo"))


def arguments_of(name: str, control: str, seed: int, options: argparse.Namespace) -> tuple[Path, list[str]]:
    """The run folder of a training, made free, and the arguments of `mmssl`."""
    run = options.runs / f"{name}-{control}-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    settings = {
        "run": run,
        "data.shards": options.train,
        "data.heldout": options.heldout,
        "data.workers": options.workers,
        "train.control": control,
        "train.precision": options.precision,
        "train.heldout_batches": options.heldout_batches,
        "train.monitor_every": 0,
        "train.gradients_every": 0,
        "train.heldout_every": 1_000_000,
        "train.checkpoint_every": 1_000_000,
        "train.tensorboard": "false",
        "seed": seed,
        **({"train.steps": options.steps} if options.steps else {}),
    }
    flags = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    return run, ["pretrain", "--config", str(CONFIGS / f"{name}.yaml"), *flags]


def rows_of(run: Path, name: str, control: str, seed: int, seconds: float) -> list[Row]:
    """A row for each task of a finished training; what no probe needs of its folder is removed."""
    log = list(read_metrics(run / "metrics.jsonl"))
    steps = max(row["step"] for row in log)
    rows = [
        {
            "config": name,
            "task": row["task"],
            "control": control,
            "seed": seed,
            "steps": steps,
            "seconds": round(seconds, 1),
            **{
                key: row[key]
                for key in ("score_name", "score", "floor", "ceiling", "ablated", "ablated_floor", "count")
            },
        }
        for row in log
        if row.get("event") == "heldout" and row["step"] == steps
    ]
    if control == "none":
        shutil.rmtree(run / "checkpoints", ignore_errors=True)  # the encoders are what the probes need
    else:
        shutil.rmtree(run)
    return rows


def train(name: str, control: str, seed: int, options: argparse.Namespace) -> list[Row]:
    """Train once, in a process of its own; a row for each task that the config trains."""
    run, arguments = arguments_of(name, control, seed, options)
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    began = time.monotonic()
    cores = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // options.jobs, 1))} if options.jobs > 1 else {}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | cores, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return rows_of(run, name, control, seed, time.monotonic() - began)


def read_rows() -> list[Row]:
    """All rows there are; of trainings with one name the newest, and none of a score that a task no longer has."""
    if not RESULTS.is_file():
        return []
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    scores = {(r["config"], r["task"]): r["score_name"] for r in sorted(rows, key=lambda r: str(r["time"]))}
    rows = [r for r in rows if r["score_name"] == scores[r["config"], r["task"]]]
    return list({(r["config"], r["task"], r["control"], r["seed"]): r for r in rows}.values())


def is_done(rows: Sequence[Row], name: str, control: str, seed: int, options: argparse.Namespace) -> bool:
    """Whether a training's row is there, and its encoders where probes need them."""
    wanted = (name, control, seed, (CONFIGS / f"{name}.yaml").read_text(), options.steps)
    there = any((r["config"], r["control"], r["seed"], r["settings"], r["steps_asked"]) == wanted for r in rows)
    return there and (control != "none" or not options.keep or (options.runs / f"{name}-none-{seed}").is_dir())


def spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation of the values that there are."""
    found = [value for value in values if value is not None]
    if not found:
        return "-"
    deviation = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.3f}{deviation}"


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown, one line a task of a config."""
    lines = [
        "| config | task | score | true | floor | ceiling | way | broken pairs | blind | input zeroed | steps | s "
        "| seeds of the three |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for config, task in sorted({(r["config"], r["task"]) for r in rows}, key=lambda c: (c[0] == "all", c)):
        mine = [r for r in rows if (r["config"], r["task"]) == (config, task)]
        by = {control: [r for r in mine if r["control"] == control] for control in CONTROLS}
        true = by["none"]
        if not true:
            continue
        floor = statistics.mean(r["floor"] for r in true)
        ceiling = true[0]["ceiling"]
        ways = [(r["score"] - r["floor"]) / (ceiling - r["floor"]) for r in true]
        seeds = [str(len({r["seed"] for r in by[control]})) for control in CONTROLS]
        far = all(far_above_floor(r["score"], r["floor"], ceiling) for r in true)
        lines.append(
            f"| {config} | {task} | {true[0]['score_name']} | {spread([r['score'] for r in true])} | {floor:.3g} | "
            f"{ceiling:.3g} | {statistics.mean(ways):.0%}{'' if far else ' (not far)'} | "
            f"{spread([r['score'] for r in by['broken_pairs']])} | {spread([r['score'] for r in by['blind']])} | "
            f"{ablated(true)} | {true[0]['steps']} | "
            f"{statistics.mean(r['seconds'] for r in true):.0f} | {', '.join(seeds)} |"
        )
    counts = Counter(device for (*_, device) in {(r["config"], r["control"], r["seed"], r["device"]) for r in rows})
    told = ", ".join(f"{count} on {device}" for device, count in counts.most_common())
    return "\n".join([*lines, "", f"Trainings behind this table: {told}."])


def ablated(rows: Sequence[Row]) -> str:
    """The score with the input zeroed, and its floor where that is another one: it depends on what is said then."""
    told = spread([r["ablated"] for r in rows])
    floors = [(r["floor"], r["ablated_floor"]) for r in rows if r.get("ablated_floor") is not None]
    if all(abs(blind - seeing) < 0.005 for seeing, blind in floors):
        return told
    return f"{told} (floor {statistics.mean(blind for _, blind in floors):.3g})"


def write(row: Row, about: dict[str, Any], options: argparse.Namespace) -> None:
    """Append a row to the results and print it."""
    stamp = {"benchmark": "pretext_table", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    more = {"settings": (CONFIGS / f"{row['config']}.yaml").read_text(), "steps_asked": options.steps}
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps({**stamp, **about, "load": os.getloadavg()[0], **row, **more}) + "\n")
    print(
        f"{row['config']:24} {row['control']:13} seed {row['seed']}: {row['task']} {row['score']} "
        f"(floor {row['floor']})",
        flush=True,
    )


def main() -> None:
    """Train what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="shards that are trained on")
    parser.add_argument("--heldout", help="shards of other scenes")
    parser.add_argument("--runs", type=Path, default=Path("runs/table"), help="where the runs lie")
    parser.add_argument("--configs", nargs="*", default=table_configs(), help="names in configs/pretrain")
    parser.add_argument("--controls", nargs="*", default=CONTROLS, choices=CONTROLS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="instead of what the configs say")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; the cores are shared out")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--heldout-batches", type=int, default=8)
    parser.add_argument("--keep", action="store_true", help="train again where the encoders of a done row are gone")
    parser.add_argument("--only-write", action="store_true", help="write the table of the rows there are")
    options = parser.parse_args()
    about = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"), options.precision)
    kinds = [(c, n, s) for s in options.seeds for c in options.controls for n in options.configs]

    def run(control: str, name: str, seed: int) -> list[Row]:
        if (name == "all" and control != "none") or is_done(read_rows(), name, control, seed, options):
            return []  # together, one task's hidden input is another's: only alone is a control a control
        return train(name, control, seed, options)

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            for ready in as_completed([pool.submit(run, *kind) for kind in ([] if options.only_write else kinds)]):
                for row in ready.result():
                    write(row, about, options)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # those that run come to their end, and are lost
            raise
    write_between(PAGE, "pretext table", table(read_rows()))


if __name__ == "__main__":
    main()
