"""`mmssl evaluate action`: how well frozen features tell actions apart, beside random init and chance."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.action import DEFAULT_PROBES
from mmssl.evaluation.scores import COLUMNS, RETRIEVAL_COLUMNS, Scores
from mmssl.evaluation.tokens import GIGABYTES, TOKENS
from mmssl.nn.encoders import encoders_folder
from mmssl.training.environment import versions
from mmssl.training.files import write_whole


def action(
    encoders: Path,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    group: str | None = None,
    out: Path | None = None,
    encoder: str = "video",
    seconds: float = 2.0,
    rate: float = 8.0,
    size: int = 96,
    views: int = 1,
    seeds: int = 5,
    workers: int = 2,
    batch_size: int = 64,
    device: str | None = None,
    probes: list[str] | None = None,
    tokens: int = TOKENS,
    token_gigabytes: float = GIGABYTES,
) -> dict[str, Any]:
    """Probes of frozen features of labelled clips: linear, nearest neighbours and others; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        shards: one set of clips, split by their field split (train, test), or by --group.
        train: shards of the train clips, with --test.
        test: shards of the test clips, with --train.
        group: regular expression on a clip's source or key; one group at a time is left out and tested.
        out: folder for results.json; beside the encoders unless given.
        encoder: which encoder of the bundle.
        seconds: length of a view.
        rate: frames a second.
        size: height and width of the frames.
        views: views a clip, evenly spread; 1 is the clip's middle.
        seeds: random initialisations, train parts and heads that the score is averaged over.
        workers: decode processes.
        batch_size: clips at a time.
        device: cpu or cuda; the fastest there is unless given.
        probes: any of linear, knn, retrieval, attentive; linear and knn unless given.
        tokens: the most places of a view that the attentive probe looks at.
        token_gigabytes: the most memory for them, all encoders together.
    """
    begin = time.perf_counter()
    folder = out if out is not None else encoders_folder(encoders).parent / "evaluation" / "action"
    console = Console()
    with _progress(console) as progress:
        bar = progress.add_task("features", total=None)
        scores: Scores = EVALUATIONS["action"](
            encoders,
            shards,
            train,
            test,
            group=group,
            encoder=encoder,
            picture=_span(seconds, rate),
            size=size,
            views=views,
            seeds=seeds,
            batch_size=batch_size,
            workers=workers,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            probes=DEFAULT_PROBES if probes is None else probes,
            tokens=tokens,
            token_gigabytes=token_gigabytes,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    results: dict[str, Any] = scores.as_dict() | {
        "shards": shards,
        "train": train,
        "test": test,
        "encoders": str(encoders),
        "seconds_used": round(time.perf_counter() - begin, 2),
        "versions": versions(),
    }
    path = write_results(folder, results)
    _print(console, scores)
    console.print(f"{path}", soft_wrap=True)
    return results


def write_results(folder: Path, results: dict[str, Any]) -> Path:
    """Write results.json whole into a folder that is made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder '{folder}' cannot be made ({error.strerror}); give another --out") from error
    path = folder / "results.json"
    write_whole(path, json.dumps(results, indent=2, allow_nan=False) + "\n")
    return path


def _span(seconds: float, rate: float) -> Span:
    try:
        return Span(seconds, rate)
    except ValueError as error:
        raise UserError(f"seconds={seconds} and rate={rate}: {error}") from error


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("clips"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _print(console: Console, scores: Scores) -> None:
    about = scores.about
    title = f"Actions by the frozen encoder '{about['encoder']}': {', '.join(about['protocol'].values())}"
    _table(console, title, COLUMNS, scores.rows())
    if found := scores.retrieval_rows():
        _table(console, "Is a clip of the same class among the k nearest train clips?", RETRIEVAL_COLUMNS, found)
    console.print(
        f"{about['clips']} clips, {len(about['classes'])} classes, {about['test_clips']} tested in {about['folds']} "
        f"fold(s) ({about['split']}), {about['views']} view(s) of {about['seconds']} s at {about['rate']}/s, "
        f"{about['seeds']} seeds",
        markup=False,
        highlight=False,
    )
    for sentence in scores.sentences():
        console.print(sentence, markup=False, highlight=False)
    if about["left_out"]:
        key, cause = next(iter(about["left_out"].items()))
        console.print(f"{len(about['left_out'])} clips left out, for instance '{key}': {cause}", markup=False)


def _table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
