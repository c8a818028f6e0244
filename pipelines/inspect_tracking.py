"""`mmssl inspect tracking`: followed masks or boxes drawn over the frames."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from mmssl.errors import UserError
from mmssl.evaluation.draw_tracks import strip, write_film, write_strip
from mmssl.evaluation.masked_clips import masked_clips
from mmssl.evaluation.propagation import object_ids
from mmssl.evaluation.tracking import first_mask, followed, judge
from mmssl.nn.encoders import Encoders
from pipelines.evaluate_propagation import settings
from pipelines.shared import make_folder


def run(
    encoders: Path,
    clips: Path,
    out: Path,
    labels: Literal["masks", "boxes"] = "masks",
    split: str = "test",
    limit: int = 4,
    frames: int = 6,
    rate: float = 12.5,
    film: bool = True,
    encoder: str = "image",
    size: int | None = None,
    strides: tuple[int, ...] = (4, 8),
    memory: int = 7,
    radius: int = 6,
    top_k: int = 10,
    temperature: float = 0.05,
    grey: bool = True,
    device: str | None = None,
) -> list[dict[str, Any]]:
    """Draw what a run's features follow, the truth and the first mask left where it is: {clip}.png and {clip}.mp4.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        clips: a Soundstage corpus with dense truth, or a folder with JPEGImages/ and Annotations/.
        out: folder for the pictures.
        labels: follow masks, or boxes around objects.
        split: part of a Soundstage corpus.
        limit: how many clips.
        frames: frames in the strip, evenly spread.
        rate: frames a second of the mp4.
        film: whether to write the mp4 too.
        encoder: which picture encoder of the bundle.
        size: shorter side in pixels of what the encoder sees; the frame's own unless given.
        strides: levels that describe a cell.
        memory: frames just before each frame that it may copy from, beside the first.
        radius: how far away a cell may copy from, in cells.
        top_k: cells that a cell copies from.
        temperature: of the softmax over their similarities.
        grey: show lightness alone.
        device: cpu or cuda; the fastest there is unless given.
    """
    if limit < 1 or frames < 2 or rate <= 0:
        raise UserError(f"limit={limit}, frames={frames}, rate={rate}: at least 1, 2, and above 0 are needed")
    how = settings(size, strides, memory, radius, top_k, temperature, grey)
    bundle = Encoders.from_pretrained(encoders).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    make_folder(out)
    console = Console()
    drawn: list[dict[str, Any]] = []
    for clip in masked_clips(clips, split, limit):
        if not object_ids(clip.masks[0]):
            console.print(f"not drawn: '{clip.key}' shows no object in its first frame", markup=False)
            continue
        found = followed(clip, bundle, how, encoder, labels)
        still = first_mask(clip, labels).expand(len(clip.frames), -1, -1)
        ours, theirs = (float(judge(masks, clip, labels)[0].mean()) for masks in (found, still))
        rows = {
            f"followed: J {100 * ours:.0f} %": found,
            f"first one left where it is: J {100 * theirs:.0f} %": still,
            "truth": clip.masks,
        }
        name = re.sub(r"[^0-9A-Za-z_.-]+", "_", clip.key)
        chosen = np.linspace(0, len(clip.frames) - 1, min(frames, len(clip.frames))).round().astype(int).tolist()
        write_strip(out / f"{name}.png", strip(clip.frames, rows, chosen, labels == "boxes"))
        if film:
            write_film(out / f"{name}.mp4", clip.frames, found, rate, labels == "boxes")
        drawn.append({"clip": clip.key, "j": ours, "copy_first_j": theirs, "png": f"{name}.png"})
        console.print(f"{name}: followed {100 * ours:.1f} %, left where it is {100 * theirs:.1f} %", markup=False)
    if not drawn:
        raise UserError(f"no clip in '{clips}' shows an object in its first frame")
    return drawn
