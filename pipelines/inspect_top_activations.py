"""`mmssl inspect top-activations`: the clips that make an encoder's filters answer most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl.evaluation.top_activations import TOP, top_activations
from mmssl.report.shell import write_page
from mmssl.report.top_activations_page import contact_sheet, top_activations_page
from mmssl.training.environment import versions
from mmssl.training.files import write_whole
from pipelines.shared import counting_bar, make_folder, view_span


def run(
    encoders: Path,
    shards: str,
    out: Path,
    encoder: str = "image",
    level: int | None = None,
    channels: list[int] | None = None,
    filters: int = 16,
    top: int = TOP,
    seconds: float = 2.0,
    rate: float = 4.0,
    size: int = 96,
    limit: int | None = None,
    random_init: bool = False,
    seed: int = 0,
    workers: int = 2,
    batch_size: int = 32,
    device: str | None = None,
) -> dict[str, Any]:
    """Draw what makes filters answer most, one clip a source: sheet.png, index.html and top_activations.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        shards: shards whose clips are looked through.
        out: folder for the pictures and the page.
        encoder: which encoder of the bundle: image, video or audio.
        level: stride of the level; the coarsest one unless given.
        channels: which filters, as [3,17]; evenly spread ones unless given.
        filters: how many, where --channels does not say; 64 at most.
        top: clips a filter.
        seconds: length of what the encoder sees.
        rate: frames a second; a video encoder sees the film at this rate too.
        size: height and width of the frames.
        limit: look through so many clips at most.
        random_init: look at the same architecture with random weights instead.
        seed: of these.
        workers: decode processes.
        batch_size: clips at a time.
        device: cpu or cuda; the fastest there is unless given.
    """
    make_folder(out)
    console = Console()
    with counting_bar(console) as progress:
        bar = progress.add_task("clips", total=None)
        found = top_activations(
            str(encoders),
            shards,
            encoder=encoder,
            level=level,
            channels=channels,
            filters=filters,
            top=top,
            picture=view_span(seconds, rate),
            size=size,
            limit=limit,
            random_init=random_init,
            seed=seed,
            batch_size=batch_size,
            workers=workers,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    results = found.as_dict() | {"encoders": str(encoders), "versions": versions()}
    write_whole(out / "top_activations.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    (out / "sheet.png").write_bytes(contact_sheet(found))
    page = write_page(out / "index.html", top_activations_page(found))
    sides = " x ".join(map(str, found.about["receptive_field"]))
    console.print(
        f"{len(found.filters)} filters of stride {found.about['level']} (receptive field {sides}) over "
        f"{found.about['clips']} clips: {page}",
        soft_wrap=True,
        markup=False,
    )
    return results
