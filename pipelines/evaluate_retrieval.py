"""`mmssl evaluate retrieval`: pictures, sounds and sentences found by one another in the space of an exported head."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from mmssl.errors import UserError
from mmssl.evaluation.crossmodal import GALLERIES, GALLERY, evaluate_retrieval, only_head
from mmssl.evaluation.retrieval_scores import RetrievalScores
from mmssl.nn.encoders import evaluation_folder
from pipelines.evaluate import write_results
from pipelines.shared import counting_bar


def retrieval(
    encoders: Path,
    shards: str | None = None,
    head: str | None = None,
    out: Path | None = None,
    label: str | None = None,
    picture_label: str | None = None,
    sentences: Literal["nearest", "joined", "best"] = "nearest",
    seconds: float | None = None,
    rate: float = 8.0,
    size: int = 96,
    views: int = 1,
    gallery: int = GALLERY,
    galleries: int = GALLERIES,
    seeds: int = 5,
    max_sentences: int = 8,
    workers: int = 2,
    batch_size: int = 32,
    device: str | None = None,
) -> dict[str, Any]:
    """R@1/5/10, median rank and nDCG@30 of retrieval in both directions; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        shards: clips that nobody trained on.
        head: exported head that compares two modalities, for instance av_embedding or subtitle_matching; the only one
            of the run unless given.
        out: folder for results.json; beside the encoders unless given.
        label: dotted path of the class in a clip's description, for instance truth.material; its own label unless
            given.
        picture_label: the same for the picture, where it is another; each item of a list there counts.
        sentences: which sentences of a clip are its text: the one nearest to its middle, all joined, or the best of
            all.
        seconds: length of the picture that a video encoder sees; that of the head's sound, else 2, unless given.
        rate: frames a second.
        size: height and width of the frames.
        views: views a clip, evenly spread; 1 is the middle.
        gallery: clips of a gallery, which all recalls depend on; all clips where there are fewer.
        galleries: how many at most, drawn without a clip in common.
        seeds: random initialisations of encoders and head.
        max_sentences: sentences of a clip that are looked at, nearest to its middle first.
        workers: decode processes.
        batch_size: clips at a time.
        device: cpu or cuda; the fastest there is unless given.
    """
    begin = time.perf_counter()
    if shards is None:
        raise UserError("retrieval needs clips: give --shards")
    head = head if head is not None else only_head(encoders)
    folder = out if out is not None else evaluation_folder(encoders) / "retrieval" / head
    console = Console()
    with counting_bar(console) as progress:
        bar = progress.add_task("embeddings", total=None)
        scores = evaluate_retrieval(
            encoders,
            shards,
            head=head,
            label=label,
            picture_label=picture_label,
            sentences=sentences,
            seconds=seconds,
            rate=rate,
            size=size,
            views=views,
            gallery=gallery,
            galleries=galleries,
            seeds=seeds,
            max_sentences=max_sentences,
            batch_size=batch_size,
            workers=workers,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    results: dict[str, Any] = scores.as_dict() | {
        "shards": shards,
        "encoders": str(encoders),
        "seconds_used": round(time.perf_counter() - begin, 2),
    }
    path = write_results(folder, results, scores.per_clip())
    _print(console, scores)
    console.print(f"{path}", soft_wrap=True)
    return results


def _print(console: Console, scores: RetrievalScores) -> None:
    about = scores.about
    table = Table(
        title=f"{about['protocol']}, {about['head']}, {about['galleries']} gallery(s) of {about['gallery']} clips"
    )
    table.add_column("in %", no_wrap=True)
    for name in ("R@1", "R@5", "R@10", "median", "nDCG@30", "class R@1"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in scores.rows():
        table.add_row(*row)
    console.print(table)
    lines = [
        f"{about['queries']} queries of {about['clips']} clips with {' and '.join(about['modalities'])}, "
        f"{about['seeds']} seeds of random weights; {about['not_in_a_gallery']} clips are in no gallery",
        f"relevant by class: {about['classes'] or 'the clips have no label'}",
    ]
    if "text" in about:
        lines.append(f"text: {about['text']['rule']}; {about['same_text']['queries']} queries share theirs with others")
    judged = next(iter(scores.directions.values())).controls.get("shuffled_within_label")
    if judged is not None:
        lines.append(f"another's of the label: {judged.count()} queries have another clip with the same labels")
    lines += scores.sentences()
    lines += [f"left out: {count} clips, {cause}" for cause, count in about["left_out_counts"].items()]
    for line in lines:
        console.print(line, markup=False, highlight=False)
