"""`mmssl inspect clips`: a map of clips by their features, as a page to walk in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from mmssl.evaluation.clip_map import map_clips
from mmssl.report.clip_map_page import agreement_sentences, clip_map_page
from mmssl.report.shell import write_page
from mmssl.training.environment import versions
from mmssl.training.files import write_whole
from pipelines.shared import counting_bar, make_folder, view_span


def run(
    encoders: Path,
    shards: str,
    out: Path,
    encoder: str = "video",
    limit: int = 600,
    method: Literal["tsne", "pca"] = "tsne",
    seconds: float = 2.0,
    rate: float = 8.0,
    size: int = 96,
    seed: int = 0,
    seeds: int = 5,
    workers: int = 2,
    batch_size: int = 32,
    device: str | None = None,
) -> dict[str, Any]:
    """Draw clips at the places of their features, with their nearest neighbours: index.html and clips.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        shards: shards whose clips are drawn.
        out: folder for the page.
        encoder: which encoder of the bundle.
        limit: how many clips, drawn by the seed; no more than 2,000.
        method: t-SNE, or the first two principal components.
        seconds: length of what the encoder sees.
        rate: frames a second.
        size: height and width of the frames.
        seed: of the drawn clips and of t-SNE.
        seeds: random initialisations that the neighbours' agreement stands beside.
        workers: decode processes.
        batch_size: clips at a time.
        device: cpu or cuda; the fastest there is unless given.
    """
    make_folder(out)
    console = Console()
    with counting_bar(console) as progress:
        bar = progress.add_task("features", total=None)
        made = map_clips(
            str(encoders),
            shards,
            encoder=encoder,
            picture=view_span(seconds, rate),
            size=size,
            limit=limit,
            method=method,
            seed=seed,
            seeds=seeds,
            batch_size=batch_size,
            workers=workers,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    found = made.as_dict() | {"encoders": str(encoders), "versions": versions()}
    write_whole(out / "clips.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    page = write_page(out / "index.html", clip_map_page(made))
    for sentence in agreement_sentences(made):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{page}", soft_wrap=True, markup=False)
    return found
