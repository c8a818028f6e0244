"""The figure of docs/tasks/av_instance.md: clips with their sounds, and who is a negative of whom.

python benchmarks/figures/av_instance.py 'shards/test-*.tar' docs/figures/av_instance.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import matplotlib
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import Window
from mmssl.data import Stream
from mmssl.nn.audio import LogMel
from mmssl.nn.encoders import Build, Encoders
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.cross_modal.av_instance import AVInstance

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

CLIPS, BATCH, QUEUE, SEED = 24, 12, 40, 0
COLOURS = ("#f2f2f2", "#9ab6d6", "#2a7f3f", "#c0392b")
MEANING = ("empty place", "negative", "own sound: positive", "same sample: masked")


def batches(shards: str, window: Window, size: int, count: int) -> list[tuple[Batch, Truth]]:
    """The first batches of a shuffled stream."""
    stream = iter(Stream(shards, window, size, seed=SEED, workers=0))
    return [next(stream) for _ in range(count)]


def small_encoders() -> Encoders:
    """The small video and audio encoder, not trained."""
    torch.manual_seed(SEED)
    paths = {"video": "mmssl.nn.video.SmallVideoEncoder", "audio": "mmssl.nn.audio.SmallAudioEncoder"}
    return Encoders({name: Build(path, {}) for name, path in paths.items()})


def show_clip(axes: Any, clip: torch.Tensor, times: Sequence[int]) -> None:
    """Some frames of a clip [3, T, H, W] side by side."""
    axes.imshow(torch.cat([clip[:, t] for t in times], dim=2).permute(1, 2, 0).clamp(0, 1).numpy())
    axes.set_axis_off()


def show_sound(axes: Any, wave: torch.Tensor) -> None:
    """The log-mel spectrogram of a sound [S]."""
    axes.imshow(LogMel()(wave[None])[0, 0].numpy(), origin="lower", aspect="auto", cmap="magma")
    axes.set_axis_off()


def draw(shards: str, out: str) -> None:
    """Three clips, and the roles of all candidates in the fifth step, as the task gives them to its loss."""
    torch.set_num_threads(1)
    task = AVInstance(augment=False, queue=QUEUE, positives=4)
    multitask = MultiTask(small_encoders(), {"task": task}).eval()
    known = batches(shards, task.window, BATCH, CLIPS // BATCH)
    order = torch.Generator().manual_seed(SEED)
    roles, example = torch.zeros(0), None
    for step in range(5):  # a corpus of 24 clips, seen again and again: every batch meets its own clips in the queue
        batch = known[step % len(known)][0]
        moment = Moment(step, 5, step // len(known), step / 5)
        with torch.no_grad():
            outcome = multitask(batch, moment)[1]["task"]
        ids, occupied = outcome.carry["ids"], task.queue.occupied()
        others, same = task.queue.others(ids), ids[:, None] == ids[None]
        queued = torch.where(others, 1, torch.where(occupied[None], 3, 0))
        near = torch.where(torch.eye(BATCH, dtype=torch.bool), 2, torch.where(same, 3, 1))
        roles = torch.cat([near, queued], dim=1)
        example = task.pretext(batch, batch.draws("task"), moment)
        multitask.after_step({"task": [outcome.carry]}, moment)
    assert example is not None
    figure = plt.figure(figsize=(8.4, 3.4), layout="constrained")
    grid = figure.add_gridspec(3, 3, width_ratios=(1.6, 1.0, 4.6))
    for row, chosen in enumerate(torch.randperm(BATCH, generator=order)[:3].tolist()):
        show_clip(figure.add_subplot(grid[row, 0]), example.clip[chosen], (0, 3, 7))
        show_sound(figure.add_subplot(grid[row, 1]), example.wave[chosen])
    axes = figure.add_subplot(grid[:, 2])
    axes.imshow(roles.numpy(), cmap=ListedColormap(COLOURS), vmin=0, vmax=3, aspect="auto", interpolation="none")
    axes.axvline(BATCH - 0.5, color="black", linewidth=1)
    axes.set(xlabel=f"sounds: {BATCH} of the batch, {QUEUE} places of the queue", ylabel="pictures of the batch")
    axes.set(xticks=[], yticks=[])
    handles = [Patch(color=c, label=m) for c, m in zip(COLOURS, MEANING, strict=True)][1:]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=3, frameon=False, fontsize=8)
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    draw(*sys.argv[1:3])
