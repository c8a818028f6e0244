"""The figure of video colorization: what the encoder sees, the colours it must copy, and copying the same place.

python -m benchmarks.figures.video_colorization 'shards/train-*.tar' docs/figures/video_colorization.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw

from mmssl.data.stream import Stream
from mmssl.nn.encoders import Build, Encoders
from mmssl.tasks.base import Moment
from mmssl.tasks.generation.video_colorization import FRAMES, REFERENCES, SAMPLES, VideoColorization

START = Moment(0, 1, 0, 0.0)
SIDE = 128  # pixels of a drawn frame
TITLE = 16


def picture(shards: str, clips: int = 3) -> Image.Image:
    """Two rows a clip: lightness of the four frames and what copying the same place gets wrong; colours of the cells.

    The clusters are fitted to the colours of the first batches, as in training.
    """
    task = VideoColorization()
    encoders = Encoders({"image": Build("mmssl.nn.image.SmallImageEncoder", {})})
    task.setup(encoders)
    example = None
    for batch, _ in Stream(shards, task.window, 32, workers=1, rank=0, world=1, shuffle=True, repeat=True):
        example = task.pretext(batch, batch.draws("video_colorization"), START)
        if int(task.collected) == SAMPLES:
            break
        task.after_step(encoders, [{"colours": example.colours, "weight": example.weight}], START)
    assert example is not None
    # Clips in which much of the target's colour has changed its place show what is asked.
    changed = example.target != example.copied
    chosen = changed.float().mean(dim=1).argsort(descending=True)[: 4 * clips : 4]
    rows = []
    for row in chosen.tolist():
        grey = [shown(f.permute(1, 2, 0)) for f in example.grey.reshape(-1, FRAMES, *example.grey.shape[1:])[row]]
        numbers = torch.cat([example.reference[row], example.target[row]]).reshape(FRAMES, -1)
        side = int(example.target.shape[1] ** 0.5)
        colours = [shown(palette(task.centroids)[n].reshape(side, side, 3)) for n in numbers]
        wrong = torch.where(changed[row], 0.1, 1.0).reshape(side, side, 1).expand(-1, -1, 3)
        rows += [np.concatenate([*grey, shown(wrong)], axis=1), np.concatenate([*colours, shown(wrong)], axis=1)]
    titles = [*(f"reference {n + 1}" for n in range(REFERENCES)), "target", "black: has moved"]
    head = Image.new("RGB", (SIDE * len(titles), TITLE), "white")
    for n, title in enumerate(titles):
        ImageDraw.Draw(head).text((n * SIDE + 4, 2), title, fill="black")
    return Image.fromarray(np.concatenate([np.asarray(head), *rows]))


def palette(centroids: torch.Tensor, lightness: float = 65.0) -> torch.Tensor:
    """Float32 [K, 3] in [0, 1]: the clusters' colours at one lightness."""
    lab = np.concatenate([np.full((len(centroids), 1), lightness, np.float32), centroids.numpy()], axis=1)
    rgb = cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_LAB2RGB)[0]
    return torch.from_numpy(np.clip(rgb, 0, 1))


def shown(values: torch.Tensor) -> np.ndarray:
    """Uint8 [SIDE, SIDE, 3] of values in [0, 1], [h, w, 3], in whole blocks."""
    image = Image.fromarray((values * 255).round().to(torch.uint8).numpy())
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.NEAREST))


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards")
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=3)
    given = parser.parse_args()
    picture(given.shards, given.clips).quantize(128).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
