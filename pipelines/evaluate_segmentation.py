"""`mmssl evaluate segmentation`: what each pixel shows, told by a linear head on a run's frozen maps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmssl.evaluation.segmentation import ROWS, evaluate_segmentation
from mmssl.nn.encoders import evaluation_folder
from pipelines.evaluate import write_results


def segmentation(
    encoders: Path,
    data: Path,
    out: Path | None = None,
    classes: Literal["shapes", "materials", "objects"] = "shapes",
    frames: int = 2,
    encoder: str = "image",
    size: int = 96,
    strides: tuple[int, ...] | None = None,
    cells: int = 20_000,
    limit: int | None = None,
    test_limit: int | None = None,
    seeds: int = 5,
    device: str | None = None,
) -> dict[str, Any]:
    """Mean IoU of a linear head on frozen maps, beside random init and plain colours; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        data: a Soundstage corpus with dense truth, or pictures and masks laid out as VOC's, or train/ and test/ with
            JPEGImages/ and Annotations/ in each.
        out: folder for results.json; beside the encoders unless given.
        classes: what the bodies of a Soundstage corpus are told by.
        frames: of each Soundstage clip, evenly spread.
        encoder: which picture encoder of the bundle.
        size: square size in pixels that pictures are brought to for the encoder; masks are judged at their own.
        strides: levels that the head stands on; all of the encoder unless given.
        cells: of the train pictures' maps that a head is fitted to, at most.
        limit: train clips at most.
        test_limit: test clips at most.
        seeds: random initialisations, train parts and cells that the score is averaged over.
        device: cpu or cuda; the fastest there is unless given.
    """
    begin = time.perf_counter()
    folder = out if out is not None else evaluation_folder(encoders) / "segmentation"
    console = Console()
    columns = (TextColumn("heads"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("heads", total=None)
        scores = evaluate_segmentation(
            encoders,
            data,
            classes=classes,
            frames=frames,
            encoder=encoder,
            size=size,
            strides=strides,
            cells=cells,
            limit=limit,
            test_limit=test_limit,
            seeds=seeds,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    results = scores.as_dict() | {
        "encoders": str(encoders),
        "data": str(data),
        "seconds_used": round(time.perf_counter() - begin, 2),
    }
    path = write_results(folder, results, scores.per_clip())
    _print(console, results)
    console.print(f"{path}", soft_wrap=True)
    return results


def _print(console: Console, results: dict[str, Any]) -> None:
    table = Table(title=f"Classes of pixels by the frozen encoder '{results['encoder']}': {results['protocol']}")
    table.add_column("in %", no_wrap=True)
    for name in ("mean IoU", "std of seeds", "pixels right"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in ROWS:
        found = results["rows"][row]
        numbers = [f"{100 * found[key]:.1f}" for key in ("mean_iou", "std", "pixel_accuracy")]
        table.add_row(row.replace("_", " "), *numbers)
    console.print(table)
    by_class = ", ".join(
        f"{name} {100 * iou:.1f}" for name, iou in results["rows"]["pretrained"]["class_iou"].items() if iou is not None
    )
    lines = [
        f"{results['train_pictures']} train pictures of {results['train_clips']} clips ({results['train_share']:.0%} "
        f"of them a seed), {results['test_pictures']} pictures of {results['test_clips']} clips tested, levels of "
        f"strides {', '.join(map(str, results['strides']))}, {results['seeds']} seeds",
        f"pretrained, IoU of each class: {by_class}",
    ]
    if results["left_out"]:
        key, cause = next(iter(results["left_out"].items()))
        lines.append(f"{len(results['left_out'])} clips left out, for instance '{key}': {cause}")
    for row, minus in results["pretrained_minus"].items():
        interval = f" [{100 * minus['low']:+.1f}, {100 * minus['high']:+.1f}]" if "low" in minus else ""
        lines.append(
            f"pretrained minus {row.replace('_', ' ')} {100 * minus['mean']:+.1f} points{interval}: {minus['verdict']}"
        )
    for line in lines:
        console.print(line, markup=False, highlight=False)
