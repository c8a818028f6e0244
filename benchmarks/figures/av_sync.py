"""The figure of docs/tasks/av_sync.md: a clip with the right sound and with the wrong one, for each kind of negative.

python benchmarks/figures/av_sync.py 'shards/test-*.tar' docs/figures/av_sync.png
"""

from __future__ import annotations

import sys

import matplotlib
import torch
from sounds import batch_of, save, show_frames, show_sound

from mmssl.ops.loudness import envelope_distance
from mmssl.ops.partners import ring_partner
from mmssl.tasks.base import Moment
from mmssl.tasks.cross_modal.av_sync import AVSync

matplotlib.use("agg")
import matplotlib.pyplot as plt

CLIPS, SEED = 32, 0


def draw(shards: str, out: str) -> None:
    """One clip with clear events for each kind of negative."""
    kinds = {
        "easy": AVSync(augment=False),
        "hard": AVSync(augment=False),
        "super-hard": AVSync(augment=False, super_share=1),
    }
    figure, axes = plt.subplots(3, 3, figsize=(11, 3.2), height_ratios=(0.8, 1.2, 1.2), layout="constrained")
    batch = batch_of(shards, kinds["easy"].window, CLIPS, SEED)
    for column, (kind, task) in enumerate(kinds.items()):
        example = task.pretext(batch, batch.draws("av_sync"), Moment(90, 100, 0, 0.9))
        # The clip whose loudness over time differs most at the two instants: clear events.
        differ = envelope_distance(example.wave[:CLIPS], example.wave[CLIPS:], batch.audio_rate)
        row = int(torch.where(example.told & (example.weight > 0), differ, 0).argsort(descending=True)[column])
        offset = float(example.offset[row])
        show_frames(axes[0, column], example.clip[row], f"{kind} negative: 1 s of picture")
        show_sound(axes[1, column], example.wave[row], batch.audio_rate, "the sound of this second", "green")
        if kind == "easy":
            wrong = example.wave[int(ring_partner(example.partner, example.weight > 0)[row])]
            title = "another clip's"
        else:
            wrong, title = example.wave[CLIPS + row], f"the same clip's, {offset:+.2f} s"
        show_sound(axes[2, column], wrong, batch.audio_rate, title, "firebrick")
    save(figure, out)


if __name__ == "__main__":
    draw(*sys.argv[1:3])
