"""`mmssl inspect attention`: maps of every stage of an encoder over clips, trained beside random weights."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl.errors import UserError
from mmssl.evaluation.stages import StageMaps, likeness, stage_maps
from mmssl.report.attention_page import attention_page
from mmssl.report.shell import write_page
from mmssl.report.stage_pictures import stage_picture
from mmssl.training.environment import versions
from mmssl.training.files import write_whole
from pipelines.shared import counting_bar, make_folder, view_span

MOST_CLIPS = 64


def run(
    encoders: Path,
    shards: str,
    out: Path,
    encoder: str = "image",
    limit: int = 8,
    columns: int = 6,
    seconds: float = 2.0,
    rate: float = 3.0,
    size: int = 96,
    seed: int = 0,
    workers: int = 2,
    batch_size: int = 8,
    device: str | None = None,
) -> dict[str, Any]:
    """Draw where each stage of an encoder answers, over the frames of clips: {key}.png, index.html, attention.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        shards: shards whose first clips are drawn.
        out: folder for the pictures and the page.
        encoder: which encoder of the bundle: image, video or audio.
        limit: how many clips, 64 at most.
        columns: frames drawn of a clip, evenly spread.
        seconds: length of what the encoder sees.
        rate: frames a second; a video encoder sees the film at this rate too.
        size: height and width of the frames.
        seed: of the random weights beside.
        workers: decode processes.
        batch_size: clips at a time.
        device: cpu or cuda; the fastest there is unless given.
    """
    if not 1 <= limit <= MOST_CLIPS or columns < 1:
        raise UserError(f"limit={limit}, columns={columns}: 1 to {MOST_CLIPS} clips and at least 1 column are needed")
    make_folder(out)
    console = Console()
    left_out: dict[str, str] = {}
    clips: list[StageMaps] = []
    with counting_bar(console) as progress:
        bar = progress.add_task("maps", total=None)
        for clip in stage_maps(
            str(encoders),
            shards,
            encoder=encoder,
            picture=view_span(seconds, rate),
            size=size,
            limit=limit,
            seed=seed,
            batch_size=batch_size,
            workers=workers,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            left_out=left_out,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        ):
            clips.append(clip)
    if not clips[0].stages:
        raise UserError(f"encoder '{encoder}' gives neither maps nor attention; there is nothing to draw")
    pictures = [stage_picture(clip, columns) for clip in clips]
    names = file_names([clip.key for clip in clips])
    for name, picture in zip(names, pictures, strict=True):
        (out / f"{name}.png").write_bytes(picture)
    about = {
        "encoder": encoder,
        "encoders": str(encoders),
        "shards": shards,
        "seconds": seconds,
        "rate": rate,
        "size": size,
        "seed": seed,
        "decoder": "pyav",
        "left_out": left_out,
    }
    found = about | {
        "map": "root mean square over channels (arXiv 1612.03928, p = 2); rollout arXiv 2005.00928",
        "correlation": likeness(clips),
        "clips": [{"key": c.key, "label": c.label, "png": f"{name}.png"} for c, name in zip(clips, names, strict=True)],
        "versions": versions(),
    }
    write_whole(out / "attention.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    page = write_page(out / "index.html", attention_page(clips, pictures, about))
    console.print(f"{len(clips)} clips, {len(clips[0].stages)} stages: {page}", soft_wrap=True, markup=False)
    return found


def file_names(keys: Sequence[str]) -> list[str]:
    """A file name for each key, without anything that a file system minds, no two alike."""
    names: list[str] = []
    for key in keys:
        name = re.sub(r"[^0-9A-Za-z_.-]+", "_", key).strip(".")[:120] or "clip"
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names
