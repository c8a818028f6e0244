"""The figure of docs/tasks/dense_predictive_coding.md: blocks of clips as the encoder is given them.

python benchmarks/figures/dense_predictive_coding.py 'shards/test-*.tar' docs/figures/dense_predictive_coding.png
"""

from __future__ import annotations

import contextlib
import sys

import matplotlib
import torch

from mmssl.data import Source, Stream
from mmssl.tasks.base import Moment
from mmssl.tasks.contrastive.dense_predictive_coding import STEPS, DensePredictiveCoding

matplotlib.use("agg")
import matplotlib.pyplot as plt

CLIPS = 2


def draw(shards: str, out: str) -> None:
    """First and last frame of every block of some clips."""
    task = DensePredictiveCoding()
    stream = Stream([Source("data", shards)], task.window, CLIPS, workers=0, shuffle=False, repeat=False,
                    anchor="centre", decoder="pyav")  # fmt: skip
    with contextlib.closing(stream):
        batch, _ = next(iter(stream))
    example = task.pretext(batch, batch.draws("dense_predictive_coding"), Moment(0, 1, 0, 0.0))
    blocks = torch.cat([example.seen, example.next], dim=1)
    count = blocks.shape[1]
    figure, axes = plt.subplots(CLIPS, count, figsize=(14, 0.95 * CLIPS + 0.3), layout="constrained")
    for clip in range(CLIPS):
        for block in range(count):
            first, last = blocks[clip, block, :, 0], blocks[clip, block, :, -1]
            axis = axes[clip, block]
            axis.imshow(torch.cat([first, last], dim=2).permute(1, 2, 0), interpolation="nearest")
            axis.set_axis_off()
            if clip == 0:
                seen = block < count - STEPS
                axis.set_title(f"seen {block + 1}" if seen else f"to predict {block - count + STEPS + 1}", fontsize=9)
    figure.savefig(out, dpi=56)


if __name__ == "__main__":
    draw(*sys.argv[1:3])
