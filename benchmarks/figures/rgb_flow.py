"""The figure of docs/tasks/rgb_flow.md: what the two streams are shown of three clips.

python benchmarks/figures/rgb_flow.py 'shards/test-*.tar' docs/figures/rgb_flow.png
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb

from mmssl.data import Source, Stream
from mmssl.tasks.base import Moment
from mmssl.tasks.cross_modal.rgb_flow import RGBFlow

matplotlib.use("agg")
import matplotlib.pyplot as plt

CLIPS, SHOWN, SEED = 32, 3, 0
FIELDS = (0, 3, 6)


def colours(flow: torch.Tensor, fastest: float) -> np.ndarray:
    """Float [H, W, 3] of a field [2, H, W]: the direction is the hue, the speed the saturation."""
    x, y = flow.double().numpy()
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1.0
    return np.asarray(hsv_to_rgb(np.stack([hue, np.clip(np.hypot(x, y) / fastest, 0, 1), np.ones_like(hue)], axis=-1)))


def draw(shards: str, out: str) -> None:
    """Three clips: the picture as drawn, fields as they are, and without their mean movement."""
    task, raw = RGBFlow(), RGBFlow(stabilise=False)
    with contextlib.closing(Stream([Source("test", shards)], task.window, CLIPS, seed=SEED, workers=0)) as stream:
        batch, _ = next(iter(stream))
    moment = Moment(0, 1, 0, 0.0)
    example, plain = (t.pretext(batch, batch.draws("rgb_flow"), moment) for t in (task, raw))
    pan = plain.flow.mean(dim=(2, 3, 4)).norm(dim=1)
    chosen = pan.argsort(descending=True)[: 2 * SHOWN : 2].tolist()
    figure, axes = plt.subplots(SHOWN, 1 + 2 * len(FIELDS), figsize=(11, 4.8), layout="constrained")
    for row, clip in enumerate(chosen):
        axes[row, 0].imshow(example.picture[clip].permute(1, 2, 0))
        for part, (flow, said) in enumerate(((plain.flow, "as coded"), (example.flow, "less its mean"))):
            for column, field in enumerate(FIELDS):
                place = axes[row, 1 + part * len(FIELDS) + column]
                place.imshow(colours(flow[clip, :, field], 40.0))
                if row == 0:
                    place.set_title(f"field {field}, {said}", fontsize=8)
    axes[0, 0].set_title("picture stream", fontsize=8)
    for place in axes.flat:
        place.set_xticks([])
        place.set_yticks([])
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=75)


if __name__ == "__main__":
    draw(*sys.argv[1:3])
