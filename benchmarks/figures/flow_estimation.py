"""The figure of flow estimation: two frames, the true flow, and what a trained estimator and DIS see of it.

python -m benchmarks.figures.flow_estimation --shards 'shards/test-*.tar' --run run
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.flow import SPAN, at_pixels
from mmssl.clip import Window
from mmssl.data import Stream
from mmssl.data.flow import DISFlow, NetworkFlow
from mmssl.nn.flow_estimator import load_estimator

ROWS, SCALE, GAP = 3, 2, 6
WHEEL = np.array([colorsys.hsv_to_rgb(hue / 360, 1, 1) for hue in range(360)])


def coloured(flow: torch.Tensor, most: float) -> np.ndarray:
    """Uint8 [H, W, 3] of flow [2, H, W]: direction as hue, speed up to `most` pixels as saturation; white is still."""
    x, y = flow.numpy()
    hue = np.degrees(np.arctan2(y, x)).astype(int) % 360
    speed = np.clip(np.hypot(x, y) / most, 0, 1)[..., None]
    return np.asarray((255 * (1 - speed * (1 - WHEEL[hue]))).round(), np.uint8)


def main() -> None:
    """Draw it: one row a clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/flow_estimation.png"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    window = Window(SPAN, size=(96, 96), truth=("flow",))
    with Stream(given.shards, window, ROWS, workers=0, shuffle=False, repeat=False, anchor="centre") as stream:
        batch, truth = next(iter(stream))
    times = batch.times(SPAN)[:, :2]
    seconds = float(times[0, 1] - times[0, 0])
    frames = batch.frames_at(times).movedim(2, -1).numpy()
    true = truth.dense["flow"].values[:, 0, 0] * seconds
    found = [
        true,
        at_pixels(NetworkFlow(load_estimator(given.run)), batch, times),
        at_pixels(DISFlow("medium"), batch, times),
    ]
    rows = []
    for row in range(ROWS):
        most = max(float(true[row].norm(dim=0).max()), 1.0)
        tiles = [frames[row, 0], frames[row, 1], *(coloured(flow[row], most) for flow in found)]
        tiles = [np.pad(tile, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for tile in tiles]
        rows.append(np.concatenate(tiles, axis=1))
    picture = np.concatenate(rows)[:-GAP, :-GAP].repeat(SCALE, 0).repeat(SCALE, 1)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
