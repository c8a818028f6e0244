"""`mmssl demo`: the whole way on rendered scenes - corpus, shards, pretraining, action score, sound maps, report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from mmssl.clip import Span
from mmssl.data.shards import BuildSettings
from mmssl.data.shards import build as build_shards
from mmssl.data.soundstage import generate
from mmssl.errors import UserError
from mmssl.evaluation.action import evaluate_action
from mmssl.localization.draw import Drawn, clips_of, draw_all
from mmssl.localization.evaluate import evaluate_localization
from mmssl.nn.encoders import Encoders
from mmssl.report import ReportContent, Stage, read_metrics, results_markdown, write_pictures, write_report
from mmssl.training.environment import environment, versions
from mmssl.training.files import write_whole
from pipelines.config import parse_settings
from pipelines.demo_report import demo_content
from pipelines.pretrain import PretrainConfig
from pipelines.pretrain import run as pretrain

T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """How big a demo is.

    Args:
        preset: of Soundstage.
        train: clips that are trained on.
        test: clips of other scenes, for everything that is measured.
        steps: of pretraining.
        batch_size: clips a step.
        seeds: of the action probe.
        picture: height and width.
        drawn: overlays in the report.
        planned: seconds of each stage on two cores.
    """

    preset: str
    train: int
    test: int
    steps: int
    batch_size: int
    seeds: int
    picture: int
    drawn: int
    planned: tuple[float, ...]


STAGES = ("Soundstage", "shards", "pretraining", "action evaluation", "localization", "report")
FULL = Size("demo", 2000, 512, 800, 32, 5, 96, 12, (95, 70, 430, 70, 20, 5))
QUICK = Size("quick", 96, 64, 12, 16, 2, 64, 4, (15, 10, 30, 20, 10, 5))


class Stages:
    """Runs the stages one after the other and says what each took beside what was planned."""

    def __init__(self, console: Console, planned: tuple[float, ...]) -> None:
        self.console = console
        self.planned = dict(zip(STAGES, planned, strict=True))
        self.used: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do one stage."""
        number = len(self.used) + 1
        self.console.rule(f"[bold]{number}/{len(STAGES)} {name}[/] (planned {self.planned[name]:.0f} s)", align="left")
        began = time.monotonic()
        done = work()
        self.used[name] = time.monotonic() - began
        self.console.print(f"{name}: {self.used[name]:.0f} s")
        return done

    def rows(self) -> tuple[Stage, ...]:
        """The stages for the report."""
        return tuple(Stage(name, used, self.planned[name]) for name, used in self.used.items())


def demo_config(
    folder: Path, size: Size, seed: int, tasks: list[str] | None = None, run: Path | None = None
) -> tuple[PretrainConfig, str]:
    """The settings of the demo's pretraining: `configs/pretrain/demo.yaml` and the demo's size.

    Args:
        folder: of the demo, with its shards.
        size: of the demo.
        seed: of the pretraining.
        tasks: names of the tasks to train; all when None.
        run: the run folder; `run` in the demo's folder when None.
    """
    config = str(config_file("pretrain/demo.yaml"))
    flags = {
        "run": run or folder / "run",
        "seed": seed,
        "data.shards": str(folder / "shards" / "train-*.tar"),
        "data.heldout": str(folder / "shards" / "test-*.tar"),
        "data.batch_size": size.batch_size,
        "data.workers": 1,  # decoding takes a tenth of the step: a second process would only push training aside
        "data.size": f"[{size.picture}, {size.picture}]",
        "train.steps": size.steps,
        "train.heldout_batches": max(1, size.test // size.batch_size),
        "train.heldout_every": max(1, size.steps // 2),
        "train.monitor_every": max(1, size.steps // 3),
        "train.checkpoint_every": max(1, size.steps // 2),
        "train.log_every": max(1, size.steps // 70),
        "train.gradients_every": 0,
    }
    arguments = ["--config", config, *(part for n, v in flags.items() for part in (f"--{n}", str(v)))]
    settings, _, resolved = parse_settings(PretrainConfig, arguments, "mmssl demo")
    if tasks is not None:
        kept = {name: settings.tasks[name] for name in tasks}
        weights = {name: weight for name, weight in settings.weights.items() if name in kept}
        settings = replace(settings, tasks=kept, weights=weights)
    return settings, resolved


def config_file(name: str) -> Path:
    """A config of the package: installed beside the programs, or in the checkout's configs folder."""
    for folder in (Path(str(files("pipelines"))) / "configs", Path(__file__).parent.parent / "configs"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"the config {name} is missing from this installation; install mmssl again")


def make_corpus(folder: Path, size: Size, seed: int, console: Console) -> None:
    """Render train and test clips; what is there stays."""

    def tell(done: int, total: int) -> None:
        if done % 200 == 0 or done == total:
            console.print(f"  {done} of {total} clips")

    for split, clips in (("train", size.train), ("test", size.test)):
        generate(folder / "corpus", clips, seed, size.preset, split, on_progress=tell)


def make_shards(folder: Path, size: Size) -> None:
    """Build train and test shards."""
    settings = BuildSettings(clip_seconds=None, size=(size.picture, size.picture), fit="stretch", samples_per_shard=128)
    build_shards(folder / "corpus", folder / "shards", settings)


def measure_action(folder: Path, run: Path, size: Size) -> dict[str, Any]:
    """The action probe of the video encoder beside random init."""
    scores = evaluate_action(
        run,
        train=str(folder / "shards" / "train-*.tar"),
        test=str(folder / "shards" / "test-*.tar"),
        picture=Span(2.0, 8.0) if size.preset != "quick" else Span(1.5, 8.0),
        size=size.picture,
        seeds=size.seeds,
        batch_size=16,  # what fits into a CPU's cache
        autocast=True,
    )
    return scores.as_dict()


def measure_localization(
    folder: Path, run: Path, size: Size, seed: int, draw: bool = True
) -> tuple[dict[str, Any], list[Drawn]]:
    """Sound maps: scores over all test clips and, unless `draw` is off, overlays of some."""
    encoders, head = Encoders.from_pretrained(run), Encoders.load_head(run, "av_localization")
    shards = str(folder / "shards" / "test-*.tar")
    scores = evaluate_localization(encoders, head, shards, size=size.picture, seed=seed).as_dict()
    if not draw:
        return scores, []
    out = folder / "maps"
    out.mkdir(exist_ok=True)
    drawn = list(draw_all(encoders, head, clips_of(shards), out, limit=size.drawn, size=size.picture))
    return scores, [one for one in drawn if isinstance(one, Drawn)]


def run(out: Path = Path("demo"), quick: bool = False, seed: int = 0) -> None:
    """Run the whole way on rendered scenes and write a report.

    Args:
        out: folder of the demo; a corpus and shards that are there are used again, a finished run is not overwritten.
        quick: a tiny corpus and a dozen steps: shows that everything works here, not that anything is learned.
        seed: of corpus and training.
    """
    size = QUICK if quick else FULL
    console = Console()
    if (out / "run").exists():
        raise UserError(
            f"{out / 'run'} exists already: a finished or interrupted demo; remove it or give another --out"
        )
    console.print(
        f"mmssl demo: {size.train} + {size.test} clips, {size.steps} steps of {size.batch_size} clips, "
        f"planned {sum(size.planned) / 60:.0f} min on two cores"
    )
    stages = Stages(console, size.planned)
    stages.run("Soundstage", lambda: make_corpus(out, size, seed, console))
    stages.run("shards", lambda: make_shards(out, size))
    config, resolved = demo_config(out, size, seed)
    finished = stages.run("pretraining", lambda: pretrain(config, resolved=resolved, console=console))
    action = stages.run("action evaluation", lambda: measure_action(out, finished, size))
    localization, drawn = stages.run("localization", lambda: measure_localization(out, finished, size, seed))
    rows = read_metrics(finished / "metrics.jsonl")

    def report() -> tuple[ReportContent, dict[str, Any]]:
        content = demo_content(
            finished, str(out / "shards" / "test-*.tar"), rows, action, localization, drawn, resolved, seed, quick
        )
        return content, results(size, rows, action, localization, stages)

    content, found = stages.run("report", report)
    content = replace(content, stages=stages.rows())
    found["seconds"] = {**stages.used, "total": sum(stages.used.values())}
    write_whole(out / "results.json", json.dumps(found, indent=2) + "\n")
    page = write_report(out / "report", content)
    write_pictures(out / "report", content)
    _print_times(console, stages)
    console.print(results_markdown(content), markup=False, highlight=False)
    console.print(f"[bold]{page}[/]")


def results(
    size: Size, rows: list[dict[str, Any]], action: dict[str, Any], localization: dict[str, Any], stages: Stages
) -> dict[str, Any]:
    """What `results.json` says."""
    pretext: dict[str, Any] = {}
    for row in rows:
        if row.get("event") == "heldout":  # the last one of each task stays
            names = ("score_name", "score", "floor", "ceiling", "ablated", "ablated_floor", "count", "step")
            pretext[row["task"]] = {name: row.get(name) for name in names}
    return {
        "preset": size.preset,
        "size": {"train": size.train, "test": size.test, "steps": size.steps, "batch_size": size.batch_size},
        "action": action,
        "localization": localization,
        "pretext": pretext,
        "seconds": dict(stages.used),
        "versions": versions(),
        "environment": environment(torch.device("cpu"), "auto"),
    }


def _print_times(console: Console, stages: Stages) -> None:
    table = Table(title="Time")
    for column in ("stage", "planned s", "used s"):
        table.add_column(column, justify="right" if column != "stage" else "left")
    for name, used in stages.used.items():
        table.add_row(name, f"{stages.planned[name]:.0f}", f"{used:.0f}")
    table.add_row("all", f"{sum(stages.planned.values()):.0f}", f"{sum(stages.used.values()):.0f}")
    console.print(table)
