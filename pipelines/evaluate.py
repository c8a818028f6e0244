"""`mmssl evaluate action`: how well frozen features tell actions apart, beside random init and chance."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.action import DEFAULT_PROBES
from mmssl.evaluation.feature_cache import open_cache
from mmssl.evaluation.per_clip import NAME, PerClip
from mmssl.evaluation.scores import COLUMNS, RETRIEVAL_COLUMNS, Scores
from mmssl.evaluation.tokens import GIGABYTES, TOKENS
from mmssl.nn.encoders import evaluation_folder
from mmssl.training.environment import versions
from mmssl.training.files import write_whole
from pipelines.shared import counting_bar, make_folder, score_table, view_span


def action(
    encoders: Path,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    group: str | None = None,
    out: Path | None = None,
    features: Path | None = None,
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
    compare: list[Path] | None = None,
) -> dict[str, Any]:
    """Probes of frozen features of labelled clips: linear, nearest neighbours and others; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, its encoders folder, or a YAML file that names classes of encoders.
        shards: one set of clips, split by their field split (train, test), or by --group.
        train: shards of the train clips, with --test.
        test: shards of the test clips, with --train.
        group: regular expression on a clip's source or key; one group at a time is left out and tested.
        out: folder for results.json; beside the encoders unless given.
        features: folder in which features are kept for the next time; evaluation/features beside the encoders unless
            given.
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
        compare: other runs, evaluated in the same way before, to be put beside this one in one table.
    """
    begin = time.perf_counter()
    if compare is not None:
        from mmssl.report.runs import find_results

        find_results(compare, "action")  # what is missing is said before anything is decoded
    folder = out if out is not None else evaluation_folder(encoders) / "action"
    console = Console()
    with counting_bar(console) as progress:
        bar = progress.add_task("features", total=None)
        scores: Scores = EVALUATIONS["action"](
            encoders,
            shards,
            train,
            test,
            group=group,
            encoder=encoder,
            picture=view_span(seconds, rate),
            size=size,
            views=views,
            seeds=seeds,
            batch_size=batch_size,
            workers=workers,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            cache=open_cache(evaluation_folder(encoders) / "features", features),
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
    }
    path = write_results(folder, results, scores.per_clip)
    _print(console, scores)
    console.print(f"{path}", soft_wrap=True)
    if compare is not None:
        from pipelines.compare import compare_with

        compare_with(path, compare, folder / "compare", "action")
    return results


def write_results(folder: Path, results: dict[str, Any], per_clip: PerClip | None = None) -> Path:
    """Write results.json whole into a folder that is made if it is missing.

    Args:
        folder: where.
        results: plain values; the versions of what moves results are added.
        per_clip: what each clip scored, written to scores.npz beside it, for `mmssl evaluate compare`.
    """
    results.setdefault("versions", versions())
    make_folder(folder)
    path = folder / "results.json"
    if per_clip is not None:
        per_clip.save(folder / NAME)
    else:  # a file of an earlier evaluation would be taken for that of this one
        (folder / NAME).unlink(missing_ok=True)
    write_whole(path, json.dumps(results, indent=2, allow_nan=False) + "\n")
    return path


def _print(console: Console, scores: Scores) -> None:
    about = scores.about
    title = f"Actions by the frozen encoder '{about['encoder']}': {', '.join(about['protocol'].values())}"
    score_table(console, title, COLUMNS, scores.rows())
    if found := scores.retrieval_rows():
        score_table(console, "Is a clip of the same class among the k nearest train clips?", RETRIEVAL_COLUMNS, found)
    console.print(
        f"{about['clips']} clips, {len(about['classes'])} classes, {about['test_clips']} tested in {about['folds']} "
        f"fold(s) ({about['split']}), {about['views']} view(s) of {about['seconds']} s at {about['rate']}/s, "
        f"{about['seeds']} seeds",
        markup=False,
        highlight=False,
    )
    features = about["features"]
    console.print(
        f"{features['from_cache']} of {features['clip_features']} clip features came from the cache",
        markup=False,
        highlight=False,
    )
    for sentence in scores.sentences():
        console.print(sentence, markup=False, highlight=False)
    if about["left_out"]:
        key, cause = next(iter(about["left_out"].items()))
        console.print(f"{len(about['left_out'])} clips left out, for instance '{key}': {cause}", markup=False)
