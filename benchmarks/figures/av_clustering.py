"""The figure of docs/tasks/av_clustering.md: clips that one cluster of sounds puts together, before any training.

python benchmarks/figures/av_clustering.py 'shards/test-*.tar' docs/figures/av_clustering.png
"""

from __future__ import annotations

import sys

import matplotlib
import torch
from av_instance import batches, show_sound, small_encoders

from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.cross_modal.av_clustering import AVClustering

matplotlib.use("agg")
import matplotlib.pyplot as plt

CLIPS, CLUSTERS, SHOWN, EACH = 96, 8, 3, 3


def draw(shards: str, out: str) -> None:
    """The largest clusters: a frame and the sound of the first clips of each, with the material that truly sounds."""
    torch.set_num_threads(1)
    task = AVClustering("xdc", augment=False, clusters=CLUSTERS, queue=CLIPS, every=1)
    multitask = MultiTask(small_encoders(), {"task": task}).eval()
    (batch, truth), *_ = batches(shards, task.window, CLIPS, 1)
    moment = Moment(0, 1, 0, 0.0)
    with torch.no_grad():
        multitask.after_step({"task": [multitask(batch, moment)[1]["task"].carry]}, moment)
        carry = multitask(batch, moment)[1]["task"].carry
        example = task.pretext(batch, batch.draws("task"), moment)
        label = task.clusters_of(carry, task.classify)["video"][0]  # what pictures are taught: the cluster of the sound
    label = torch.where(carry["weight"] > 0, label, torch.full_like(label, CLUSTERS))
    largest = torch.bincount(label, minlength=CLUSTERS + 1)[:CLUSTERS].argsort(descending=True)[:SHOWN].tolist()
    figure = plt.figure(figsize=(6.6, 2.8), layout="constrained")
    for column, part in enumerate(figure.subfigures(1, SHOWN)):
        rows = (label == largest[column]).nonzero()[:EACH, 0].tolist()
        part.suptitle(f"label {largest[column]}", fontsize=9)
        axes = part.subplots(2, EACH, squeeze=False, height_ratios=(1, 1.4))
        for a in axes.flat:
            a.set_axis_off()
        for place, row in enumerate(rows):
            axes[0, place].imshow(example.clip[row, :, 4].permute(1, 2, 0).numpy())
            material = truth.metas[row].get("truth", {}).get("material")
            axes[0, place].set_title(str(material or ""), fontsize=7)
            show_sound(axes[1, place], example.wave[row])
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    draw(*sys.argv[1:3])
