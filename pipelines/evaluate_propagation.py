"""`mmssl evaluate propagation`: how well a run's features carry the first frame's masks through films."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mmssl.errors import UserError
from mmssl.evaluation.propagation import Propagation
from mmssl.evaluation.tracking import ROWS, evaluate_propagation
from mmssl.nn.encoders import evaluation_folder
from pipelines.evaluate import write_results


def propagation(
    encoders: Path,
    clips: Path,
    out: Path | None = None,
    labels: Literal["masks", "boxes"] = "masks",
    split: str = "test",
    limit: int | None = None,
    encoder: str = "image",
    size: int | None = None,
    strides: tuple[int, ...] = (4, 8),
    memory: int = 7,
    radius: int = 6,
    top_k: int = 10,
    temperature: float = 0.05,
    grey: bool = True,
    seed: int = 0,
    device: str | None = None,
) -> dict[str, Any]:
    """J and F of the first frame's masks followed by features alone; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        clips: a Soundstage corpus with dense truth, or a folder with JPEGImages/ and Annotations/.
        out: folder for results.json; beside the encoders unless given.
        labels: follow masks, or boxes around objects (judged by the intersection over union of boxes).
        split: part of a Soundstage corpus.
        limit: how many clips at most.
        encoder: which picture encoder of the bundle.
        size: shorter side in pixels of what the encoder sees; the frame's own unless given.
        strides: levels that describe a cell; a cell has the finest one's side.
        memory: frames just before each frame that it may copy from, beside the first.
        radius: how far away a cell may copy from, in cells.
        top_k: cells that a cell copies from.
        temperature: of the softmax over their similarities.
        grey: show lightness alone, as an encoder trained on colorization saw it.
        seed: of the random weights.
        device: cpu or cuda; the fastest there is unless given.
    """
    begin = time.perf_counter()
    how = settings(size, strides, memory, radius, top_k, temperature, grey)
    folder = out if out is not None else evaluation_folder(encoders) / "propagation"
    console = Console()
    with Progress(
        SpinnerColumn(), TextColumn("{task.completed} clips"), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        bar = progress.add_task("clips", total=None)
        scores = evaluate_propagation(
            encoders,
            clips,
            how=how,
            labels=labels,
            split=split,
            limit=limit,
            encoder=encoder,
            seed=seed,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            progress=lambda done: progress.update(bar, completed=done),
        )
    results = scores.as_dict() | {
        "encoders": str(encoders),
        "folder": str(clips),
        "seconds_used": round(time.perf_counter() - begin, 2),
    }
    path = write_results(folder, results, scores.per_clip())
    _print(console, results)
    console.print(f"{path}", soft_wrap=True)
    return results


def settings(
    size: int | None,
    strides: tuple[int, ...],
    memory: int,
    radius: int,
    top_k: int,
    temperature: float,
    grey: bool,
) -> Propagation:
    """Settings of the propagation; UserError where they make no sense."""
    if size is not None and size < 16:
        raise UserError(f"size={size}: the encoder needs to see 16 pixels at least")
    try:
        return Propagation(size, tuple(strides), memory, radius, top_k, temperature, grey)
    except ValueError as error:
        raise UserError(str(error)) from error


def _print(console: Console, results: dict[str, Any]) -> None:
    masks = results["labels"] == "masks"
    table = Table(
        title=f"{results['protocol']}, {results['labels']}: {results['objects']} objects of {results['clips']} clip(s)"
    )
    table.add_column("in %", no_wrap=True)
    for name in ("J&F", "J", "F") if masks else ("IoU of boxes",):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("model minus this", justify="right", no_wrap=True)
    for name in ROWS:
        row, minus = results["rows"][name], results["model_minus"].get(name)
        said = ""
        if minus is not None:
            interval = f" [{100 * minus['low']:+.1f}, {100 * minus['high']:+.1f}]" if "low" in minus else ""
            said = f"{100 * minus['mean']:+.1f}{interval} {minus['verdict']}"
        numbers = [row[key] for key in (("j_and_f", "j", "f") if masks else ("box_iou",))]
        table.add_row(name.replace("_", " "), *(f"{100 * value:.1f}" for value in numbers), said)
    console.print(table)
