"""`mmssl evaluate audio`: how well frozen features tell sounds apart, beside random init and the mean spectrum."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl.evaluation.audio import AudioScores, evaluate_audio
from mmssl.evaluation.feature_cache import open_cache
from mmssl.evaluation.scores import COLUMNS
from mmssl.nn.encoders import evaluation_folder
from pipelines.evaluate import write_results
from pipelines.shared import counting_bar, score_table


def audio(
    encoders: Path,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    group: str | None = None,
    label: str | None = None,
    out: Path | None = None,
    features: Path | None = None,
    encoder: str = "audio",
    seconds: float = 2.0,
    views: int = 1,
    seeds: int = 5,
    workers: int = 2,
    batch_size: int = 64,
    device: str | None = None,
) -> dict[str, Any]:
    """Linear probe and nearest neighbours on the frozen audio encoder of labelled clips; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        shards: one set of clips, split by their field split (train, test), or by --group.
        train: shards of the train clips, with --test.
        test: shards of the test clips, with --train.
        group: regular expression on a clip's source or key; one group at a time is left out and tested.
        label: dotted path of the label in a clip's description, for instance truth.material; its own label unless
            given.
        out: folder for results.json; beside the encoders unless given.
        features: folder in which features are kept for the next time; evaluation/features beside the encoders unless
            given.
        encoder: which encoder of the bundle.
        seconds: length of a view.
        views: views a clip, evenly spread; 1 is the clip's middle.
        seeds: random initialisations, train parts and heads that the score is averaged over.
        workers: decode processes.
        batch_size: clips at a time.
        device: cpu or cuda; the fastest there is unless given.
    """
    begin = time.perf_counter()
    folder = out if out is not None else evaluation_folder(encoders) / "audio"
    console = Console()
    with counting_bar(console) as progress:
        bar = progress.add_task("features", total=None)
        scores = evaluate_audio(
            encoders,
            shards,
            train,
            test,
            group=group,
            label=label,
            encoder=encoder,
            seconds=seconds,
            views=views,
            seeds=seeds,
            batch_size=batch_size,
            workers=workers,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            cache=open_cache(evaluation_folder(encoders) / "features", features),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    results: dict[str, Any] = scores.as_dict() | {
        "shards": shards,
        "train": train,
        "test": test,
        "encoders": str(encoders),
        "seconds_used": round(time.perf_counter() - begin, 2),
    }
    path = write_results(folder, results, scores.per_clip)
    _print(console, scores)
    console.print(f"{path}", soft_wrap=True)
    return results


def _print(console: Console, scores: AudioScores) -> None:
    about = scores.about
    protocols = " and ".join(about["protocol"].values())
    score_table(console, f"Sounds by the frozen encoder '{about['encoder']}': {protocols}", COLUMNS, scores.rows())
    lines = [
        f"{about['clips']} clips with sound, {len(about['classes'])} classes ({about['label']}), "
        f"{about['test_clips']} tested in {about['folds']} fold(s) ({about['split']}), {about['views']} view(s) of "
        f"{about['seconds']} s, {about['seeds']} seeds",
        *scores.sentences(),
    ]
    if about["left_out"]:
        key, cause = next(iter(about["left_out"].items()))
        lines.append(f"{len(about['left_out'])} clips left out, for instance '{key}': {cause}")
    for line in lines:
        console.print(line, markup=False, highlight=False)
