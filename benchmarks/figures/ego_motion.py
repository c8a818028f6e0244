"""Draw pairs of frames with the camera motion between them, by its three sources of labels.

python -m benchmarks.figures.ego_motion SHARDS OUT.png, from shards of Soundstage built with --dense_truth true
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import torch

from benchmarks.figures.context_strips import PLAIN, draw
from mmssl.data import Stream
from mmssl.tasks.base import Moment
from mmssl.tasks.free_labels.ego_motion import EgoMotion, Labels

CLIPS = 3
UNITS = {"right": 100, "up": 100, "down": 100, "ahead": 100, "zoom": 100, "yaw": 57.3, "pitch": 57.3, "roll": 57.3}


def main(shards: str, out: str) -> None:
    """Three clips by each source: both frames, and what moved, in hundredths or, for angles, in degrees."""
    rows = []
    for labels in get_args(Labels):
        task = EgoMotion(labels=labels)
        with Stream(shards, task.window, CLIPS, workers=0, shuffle=False, anchor="centre") as stream:
            batch, truth = next(iter(stream))
        given = batch.with_privileged({name: truth.dense[name] for name in task.needs_truth})
        example = task.pretext(given, batch.draws("ego_motion"), Moment(0, 1, 0, 0.0))
        frames = example.frames.unflatten(0, (CLIPS, 2))
        for clip in range(CLIPS):
            said = [f"{p} {UNITS[p] * float(v):+.1f}" for p, v in zip(task.parts, example.motion[clip], strict=True)]
            unlike = (frames[clip, 1] - frames[clip, 0]).abs().mean(dim=0, keepdim=True).expand(3, -1, -1)
            shown = torch.cat([frames[clip], (4 * unlike).clamp(0, 1)[None]])
            label = labels + "\n" + "\n".join(said)
            rows.append((label, PLAIN, shown, ["first", "second", "difference"]))
    draw(rows, Path(out), side=88, columns=3, label_width=76)


if __name__ == "__main__":
    main(*sys.argv[1:])
