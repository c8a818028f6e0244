"""Followed objects drawn over their frames: a PNG strip of a few frames, and an mp4 of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageDraw

from mmssl.metrics.segmentation import boundaries, widened

#: Colours of the objects, told apart by the colour-blind too (Okabe, Ito); the ninth object has the first one's.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178))
OPACITY = 0.45
SHORT_SIDE, LONG_SIDE = 144, 480  # pixels of a drawn frame: small ones are enlarged, large ones made smaller
TITLE = 16  # pixels above a row of the strip


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of object `number`, counted from 1."""
    return COLOURS[(number - 1) % len(COLOURS)]


def drawn_size(height: int, width: int) -> tuple[int, int]:
    """(height, width), even, at which frames of such a size are drawn."""
    scale = min(max(SHORT_SIDE / min(height, width), 1.0), LONG_SIDE / max(height, width))
    return 2 * max(round(height * scale / 2), 8), 2 * max(round(width * scale / 2), 8)


def overlay(frame: torch.Tensor, mask: torch.Tensor, boxes: bool = False) -> np.ndarray:
    """Uint8 [h, w, 3]: a frame uint8 [3, H, W] with its objects, mask uint8 [H, W], tinted and outlined.

    With `boxes` the rectangle around each object is drawn instead.
    """
    height, width = drawn_size(*frame.shape[-2:])
    image = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy()).resize((width, height), Image.Resampling.BICUBIC)
    laid = np.asarray(Image.fromarray(mask.cpu().numpy()).resize((width, height), Image.Resampling.NEAREST))
    picture = np.asarray(image, dtype=np.float32).copy()
    for number in sorted(set(np.unique(laid)) - {0}):
        inside, colour = laid == number, np.array(colour_of(int(number)), dtype=np.float32)
        if boxes:
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            drawn = Image.fromarray(picture.astype(np.uint8))
            corners = [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]
            ImageDraw.Draw(drawn).rectangle(corners, outline=colour_of(int(number)), width=2)
            picture = np.asarray(drawn, dtype=np.float32).copy()
            continue
        picture[inside] = (1 - OPACITY) * picture[inside] + OPACITY * colour
        edge = widened(boundaries(torch.from_numpy(inside))[None], 1)[0].numpy()
        picture[edge] = colour
    return np.asarray(np.clip(np.round(picture), 0, 255), dtype=np.uint8)


def strip(
    frames: torch.Tensor, rows: Mapping[str, torch.Tensor], chosen: Sequence[int], boxes: bool = False
) -> np.ndarray:
    """Uint8 [h, w, 3]: the chosen frames side by side, a titled row for each way to follow.

    Args:
        frames: uint8 [T, 3, H, W].
        rows: title -> masks, uint8 [T, H, W].
        chosen: numbers of the frames.
        boxes: see `overlay`.
    """
    lines = []
    for title, masks in rows.items():
        line = np.concatenate([overlay(frames[t], masks[t], boxes) for t in chosen], axis=1)
        head = Image.new("RGB", (line.shape[1], TITLE), (255, 255, 255))
        ImageDraw.Draw(head).text((3, 2), title, fill=(0, 0, 0))
        lines += [np.asarray(head), line]
    return np.concatenate(lines)


def write_strip(path: Path, picture: np.ndarray) -> None:
    """Write a strip as PNG."""
    Image.fromarray(picture).save(path, format="PNG", optimize=True)


def write_film(path: Path, frames: torch.Tensor, masks: torch.Tensor, rate: float, boxes: bool = False) -> None:
    """Write all frames with their objects as mp4 (H.264), `rate` frames a second.

    Args:
        path: of the file.
        frames: uint8 [T, 3, H, W].
        masks: uint8 [T, H, W].
        rate: frames a second.
        boxes: see `overlay`.
    """
    height, width = drawn_size(*frames.shape[-2:])
    with av.open(str(path), "w", format="mp4") as out:
        video: Any = out.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000), options={"crf": "20"})
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        for frame, mask in zip(frames, masks, strict=True):
            out.mux(video.encode(av.VideoFrame.from_ndarray(overlay(frame, mask, boxes), format="rgb24")))
        out.mux(video.encode(None))
