"""Drawn films of discs with their masks, written as the readers of `masked_clips` expect them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmssl.evaluation.masked_clips import MaskedClip

COLOURS = np.array([[90, 90, 90], [220, 60, 50], [60, 90, 220]], dtype=np.uint8)


def discs(count: int = 12, size: int = 96, seed: int = 0) -> MaskedClip:
    """Two discs that cross the picture on their own lines, in plain colours on a plain ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    masks = np.zeros((count, size, size), dtype=np.uint8)
    for number, height in ((1, 0.3), (2, 0.7)):
        start, way = 0.25 + 0.1 * rng.random(), 0.4 * rng.choice([-1.0, 1.0])
        start = start if way > 0 else 1 - start
        for t in range(count):
            centre = (start + way * t / (count - 1)) * size
            masks[t][(y - height * size) ** 2 + (x - centre) ** 2 < (0.14 * size) ** 2] = number
    frames = COLOURS[masks] + rng.integers(0, 8, (count, size, size, 1), dtype=np.uint8)
    return MaskedClip(
        f"discs{seed}", torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)
    )


def write_frames(folder: Path, clip: MaskedClip, place: str = "", white: bool = False) -> None:
    """JPEGImages/ and Annotations/ of a clip; `white` writes object 1 as 255 and leaves the others out."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name / place).mkdir(parents=True, exist_ok=True)
    for number, (frame, mask) in enumerate(zip(clip.frames, clip.masks, strict=True)):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / "JPEGImages" / place / f"{number:05d}.jpg")
        if white:
            image = Image.fromarray(((mask == 1) * 255).to(torch.uint8).numpy())
        else:
            image = Image.fromarray(mask.numpy()).convert("P")
            image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0] + [0] * 759)
            image.putdata(mask.flatten().tolist())
        image.save(folder / "Annotations" / place / f"{number:05d}.png")
