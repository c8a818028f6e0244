"""The figure of docs/tasks/av_correspondence.md: frames with their own sound and with the one they are held against.

python benchmarks/figures/av_correspondence.py 'shards/test-*.tar' docs/figures/av_correspondence.png
"""

from __future__ import annotations

import sys

import matplotlib
from sounds import batch_of, save, show_frames, show_sound

from mmssl.ops.partners import ring_partner
from mmssl.tasks.base import Moment
from mmssl.tasks.cross_modal.av_correspondence import AVCorrespondence
from mmssl.tasks.cross_modal.frame_sound import frame_and_sound_times

matplotlib.use("agg")
import matplotlib.pyplot as plt

CLIPS, SHOWN, SEED = 32, 4, 0


def draw(shards: str, out: str) -> None:
    """Four clips of a batch of 32: the false pair is the one that training would see."""
    task = AVCorrespondence(augment=False)
    batch = batch_of(shards, task.window, CLIPS, SEED)
    example = task.pretext(batch, batch.draws("av_correspondence"), Moment(0, 1, 0, 0.0))
    times = frame_and_sound_times(batch, task.picture, task.sound_span, task.sound_seconds, False)[0][:, 0]
    partner = ring_partner(example.place, example.weight > 0)
    rows = example.weight.nonzero()[:SHOWN, 0].tolist()
    figure, axes = plt.subplots(3, SHOWN, figsize=(2.0 * SHOWN, 4.6), height_ratios=(2, 1.1, 1.1), layout="constrained")
    for column, row in enumerate(rows):
        other = int(partner[row])
        at, apart = float(times[row]), float(times[other] - times[row])
        show_frames(axes[0, column], example.picture[row][:, None], f"frame at {at:.2f} s")
        rate = batch.audio_rate
        show_sound(axes[1, column], example.wave[row], rate, "its own sound: together", "green")
        show_sound(axes[2, column], example.wave[other], rate, f"another clip's, {apart:+.2f} s: not", "firebrick")
    save(figure, out)


if __name__ == "__main__":
    draw(*sys.argv[1:3])
