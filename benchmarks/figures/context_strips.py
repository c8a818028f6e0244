"""What the figures of the tasks on time share: clips of shards, and strips of frames with their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from mmssl.batch import Batch
from mmssl.data import Stream
from mmssl.tasks.base import Moment, PretextTask

GOOD, BAD, PLAIN = (30, 130, 60), (180, 50, 40), (70, 70, 70)


def example_of(task: PretextTask[Any, Any], name: str, shards: str, clips: int) -> Any:
    """The task's example of the first clips of the shards."""
    with Stream(shards, task.window, clips, workers=0, shuffle=False, anchor="centre") as stream:
        batch: Batch = next(iter(stream))[0]
    return task.pretext(batch, batch.draws(name), Moment(0, 1, 0, 0.0))


def draw(
    rows: list[tuple[str, tuple[int, int, int], torch.Tensor, list[str]]],
    path: Path,
    side: int = 64,
    columns: int = 1,
    label_width: int = 150,
) -> None:
    """Write a picture of strips.

    Args:
        rows: (label, its colour, frames float [N, 3, S, S] in [0, 1], a caption for each) of each strip.
        path: the png.
        side: of a frame in the picture.
        columns: strips beside each other.
        label_width: pixels left of a strip.
    """
    most = max(len(frames) for _, _, frames, _ in rows)
    wide, tall = label_width + most * (side + 3), side + 16
    lines = -(-len(rows) // columns)
    canvas = Image.new("RGB", (columns * wide, lines * tall + 4), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for number, (label, colour, frames, captions) in enumerate(rows):
        left, top = number // lines * wide, number % lines * tall + 2
        pen.multiline_text((left + 4, top + 8), label, fill=colour, font=font)
        for place, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
            array = (frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            x = left + label_width + place * (side + 3)
            canvas.paste(Image.fromarray(array).resize((side, side)), (x, top))
            pen.text((x + 2, top + side), caption, fill=PLAIN, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(96).save(path, optimize=True)
