"""`mmssl evaluate image`: how well frozen features tell classes of pictures apart, beside random init and colours."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmssl.evaluation.image import PROBES, ROWS, evaluate_image
from mmssl.nn.encoders import evaluation_folder
from pipelines.evaluate import write_results


def image(
    encoders: Path,
    data: Path | None = None,
    train: Path | None = None,
    test: Path | None = None,
    out: Path | None = None,
    encoder: str = "image",
    size: int = 96,
    level: int | None = None,
    grid: int = 1,
    limit: int | None = None,
    test_limit: int | None = None,
    seeds: int = 5,
    batch_size: int = 64,
    threads: int = 2,
    device: str | None = None,
) -> dict[str, Any]:
    """Linear probe and nearest neighbours on frozen features of labelled pictures; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        data: a folder with train and test (or val) as class folders or zip files of them, or a zip file with both.
        train: class folders or a zip file of them, with --test.
        test: class folders or a zip file of them, with --train.
        out: folder for results.json; beside the encoders unless given.
        encoder: which picture encoder of the bundle.
        size: side in pixels of what the encoder sees.
        level: stride of the map whose means are the features; the pooled vector unless given.
        grid: with --level, means of so many parts a side.
        limit: train pictures of each class at most, drawn from their names.
        test_limit: test pictures of each class at most, drawn from their names.
        seeds: random initialisations, train parts and heads that the score is averaged over.
        batch_size: pictures at a time.
        threads: that decode.
        device: cpu or cuda; the fastest there is unless given.
    """
    begin = time.perf_counter()
    folder = out if out is not None else evaluation_folder(encoders) / "image"
    console = Console()
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("pictures", total=None)
        scores = evaluate_image(
            encoders,
            data,
            train,
            test,
            encoder=encoder,
            size=size,
            level=level,
            grid=grid,
            limit=limit,
            test_limit=test_limit,
            seeds=seeds,
            batch_size=batch_size,
            threads=threads,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    results = scores.as_dict() | {
        "encoders": str(encoders),
        "data": [str(place) for place in (data, train, test) if place is not None],
        "seconds_used": round(time.perf_counter() - begin, 2),
    }
    path = write_results(folder, results, scores.per_clip())
    _print(console, results)
    console.print(f"{path}", soft_wrap=True)
    return results


def _print(console: Console, results: dict[str, Any]) -> None:
    top = f"top_{results['top']}"
    table = Table(
        title=f"Pictures by the frozen encoder '{results['encoder']}': {' and '.join(results['protocol'].values())}"
    )
    table.add_column("accuracy in %", no_wrap=True)
    for name in ("top 1", "std of seeds", top.replace("_", " "), "mean of classes"):
        table.add_column(name, justify="right", no_wrap=True)
    for probe in PROBES:
        for row in ROWS:
            found = results[probe]["rows"][row]
            numbers = [f"{100 * found[k]:.1f}" for k in ("mean", "std", top, "mean_class_accuracy")]
            table.add_row(f"{probe}: {row.replace('_', ' ')}", *numbers)
    for name in ("chance", "majority"):
        table.add_row(name, f"{100 * results[name]:.1f}")
    console.print(table)
    lines = [
        f"{results['train_pictures']} train pictures ({results['train_share']:.0%} of them a seed), "
        f"{results['test_pictures']} tested, {len(results['classes'])} classes, {results['size']} x {results['size']} "
        f"pixels, features: {results['features']}, {results['seeds']} seeds"
    ]
    for probe in PROBES:
        for row, d in results[probe]["pretrained_minus"].items():
            lines.append(
                f"{probe}: pretrained minus {row.replace('_', ' ')} {100 * d['mean']:+.1f} points "
                f"[{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]: {d['verdict']}"
            )
    if results["in_train_and_test"]:
        lines.append(f"{results['in_train_and_test']} pictures are, byte for byte, in train and in test")
    for part, left_out in results["left_out"].items():
        if left_out:
            key, cause = next(iter(left_out.items()))
            lines.append(f"{len(left_out)} {part} pictures cannot be read, for instance '{key}': {cause}")
    for line in lines:
        console.print(line, markup=False, highlight=False)
