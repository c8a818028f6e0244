"""`mmssl evaluate detection`: Faster R-CNN on a run's picture encoder, frozen or fine-tuned, beside random init."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmssl.errors import UserError
from mmssl.evaluation.boxed_pictures import BoxedSets, coco_boxes, soundstage_boxes
from mmssl.evaluation.detection import ROWS, evaluate_detection
from mmssl.evaluation.detector import Detector
from mmssl.nn.encoders import evaluation_folder
from pipelines.evaluate import write_results


def detection(
    encoders: Path,
    corpus: Path | None = None,
    train: Path | None = None,
    test: Path | None = None,
    images: Path | None = None,
    test_images: Path | None = None,
    out: Path | None = None,
    classes: Literal["shapes", "materials", "objects"] = "shapes",
    frames: int = 1,
    limit: int | None = None,
    test_limit: int | None = None,
    encoder: str = "image",
    backbone: Literal["frozen", "finetune"] = "frozen",
    size: int = 96,
    steps: int = 300,
    batch_size: int = 4,
    rate: float = 1e-3,
    channels: int = 64,
    anchor: float = 4.0,
    proposals: int = 100,
    seeds: int = 5,
    device: str | None = None,
) -> dict[str, Any]:
    """AP of Faster R-CNN on the picture encoder, pretrained beside random init; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        corpus: a Soundstage corpus with dense truth.
        train: annotations of the train pictures in COCO's format, with --test and --images.
        test: annotations of the test pictures in COCO's format.
        images: folder of the pictures that the annotations name.
        test_images: folder of the test pictures where it is another.
        out: folder for results.json; beside the encoders unless given.
        classes: what the bodies of a Soundstage corpus are told by.
        frames: of each Soundstage clip, evenly spread.
        limit: train clips (or pictures) at most.
        test_limit: test clips (or pictures) at most.
        encoder: which picture encoder of the bundle.
        backbone: keep the encoder as it is, or train it along at a tenth of the rate.
        size: shorter side in pixels that pictures are brought to.
        steps: of the optimizer.
        batch_size: pictures a step.
        rate: highest learning rate.
        channels: of the feature pyramid.
        anchor: side of an anchor in cells of its level.
        proposals: regions of a picture that are looked at.
        seeds: random initialisations and trainings that the score is averaged over.
        device: cpu or cuda; the fastest there is unless given.
    """
    begin = time.perf_counter()
    folder = out if out is not None else evaluation_folder(encoders) / "detection"
    how = Detector(backbone, size, steps, batch_size, rate, channels, anchor, proposals)
    for name, value in (("limit", limit), ("test_limit", test_limit)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: at least 1 is needed; leave it out for all")
    sets = _sets(corpus, train, test, images, test_images, classes, frames, limit, test_limit)
    console = Console()
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("steps", total=None)
        scores = evaluate_detection(
            encoders,
            sets,
            how=how,
            encoder=encoder,
            seeds=seeds,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    results = scores.as_dict() | {
        "encoders": str(encoders),
        "data": [str(place) for place in (corpus, train, test, images, test_images) if place is not None],
        "seconds_used": round(time.perf_counter() - begin, 2),
    }
    path = write_results(folder, results)
    _print(console, results)
    console.print(f"{path}", soft_wrap=True)
    return results


def _sets(
    corpus: Path | None,
    train: Path | None,
    test: Path | None,
    images: Path | None,
    test_images: Path | None,
    classes: Literal["shapes", "materials", "objects"],
    frames: int,
    limit: int | None,
    test_limit: int | None,
) -> BoxedSets:
    given = [place for place in (train, test, images, test_images) if place is not None]
    if corpus is not None and not given:
        return soundstage_boxes(corpus, classes, frames, limit, test_limit)
    if corpus is None and train is not None and test is not None and images is not None:
        return coco_boxes(train, test, images, test_images, limit, test_limit)
    raise UserError(
        "give either --corpus (Soundstage with dense truth) or --train, --test and --images (COCO's format)"
    )


def _print(console: Console, results: dict[str, Any]) -> None:
    settings = results["settings"]
    table = Table(
        title=f"Boxes by Faster R-CNN on the {settings['backbone']} encoder '{results['encoder']}': "
        f"{results['protocol']}"
    )
    table.add_column("in %", no_wrap=True)
    for name in ("AP", "std of seeds", "AP50", "AP75"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in ROWS:
        found = results["rows"][row]
        numbers = [f"{100 * found[key]:.1f}" for key in ("ap", "std", "ap_50", "ap_75")]
        table.add_row(row.replace("_", " "), *numbers)
    console.print(table)
    lines = [
        f"{results['train_boxes']} boxes in {results['train_pictures']} train pictures, {results['test_boxes']} in "
        f"{results['test_pictures']} test pictures, {len(results['classes'])} classes, {settings['steps']} steps of "
        f"{settings['batch_size']} pictures, {results['seeds']} seeds"
    ]
    lines += [f"{name.replace('_', ' ')}: {count}" for name, count in results["notes"].items() if count]
    for row, minus in results["pretrained_minus"].items():
        interval = f" [{100 * minus['low']:+.1f}, {100 * minus['high']:+.1f}]" if "low" in minus else ""
        lines.append(
            f"pretrained minus {row.replace('_', ' ')} {100 * minus['mean']:+.1f} points{interval}: {minus['verdict']}"
        )
    for line in lines:
        console.print(line, markup=False, highlight=False)
