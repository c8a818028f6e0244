"""Draw pairs of frames with the camera motion between them, by its three sources of labels.

    python -m benchmarks.figures.ego_motion SHARDS OUT.png
    python -m benchmarks.figures.ego_motion SHARDS            # how far vectors and poses agree, instead

From shards of Soundstage built with --dense_truth true.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import torch

from benchmarks.figures.context_strips import PLAIN, draw
from mmssl.clip import Window
from mmssl.data import Stream
from mmssl.tasks.base import Moment
from mmssl.tasks.free_labels.ego_motion import EgoMotion, Labels

CLIPS = 3
START = Moment(0, 1, 0, 0.0)
UNITS = {"right": 100, "up": 100, "down": 100, "ahead": 100, "zoom": 100, "yaw": 57.3, "pitch": 57.3, "roll": 57.3}


def strips(shards: str, out: str) -> None:
    """Three clips by each source: both frames, and what moved, in hundredths or, for angles, in degrees."""
    rows = []
    for labels in get_args(Labels):
        task = EgoMotion(labels=labels)
        with Stream(shards, task.window, CLIPS, workers=0, shuffle=False, anchor="centre") as stream:
            batch, truth = next(iter(stream))
        given = batch.with_privileged({name: truth.dense[name] for name in task.needs_truth})
        example = task.pretext(given, batch.draws("ego_motion"), START)
        frames = example.frames.unflatten(0, (CLIPS, 2))
        for clip in range(CLIPS):
            said = [f"{p} {UNITS[p] * float(v):+.1f}" for p, v in zip(task.parts, example.motion[clip], strict=True)]
            unlike = (frames[clip, 1] - frames[clip, 0]).abs().mean(dim=0, keepdim=True).expand(3, -1, -1)
            shown = torch.cat([frames[clip], (4 * unlike).clamp(0, 1)[None]])
            label = labels + "\n" + "\n".join(said)
            rows.append((label, PLAIN, shown, ["first", "second", "difference"]))
    draw(rows, Path(out), side=88, columns=3, label_width=76)


def agreement(shards: str) -> None:
    """Print the correlation of each part of the content's motion (vectors) with each of the camera's (poses)."""
    vectors, poses = EgoMotion(labels="vectors"), EgoMotion(labels="pose")
    window = Window(picture=vectors.picture, motion=True, truth=("pose",))
    found = []
    with Stream(shards, window, 64, workers=0, shuffle=False, repeat=False, anchor="centre") as stream:
        for batch, truth in stream:
            given = batch.with_privileged({"pose": truth.dense["pose"]})
            # The same draws: the same two frames, mirrored and exchanged alike.
            one, other = (task.pretext(given, batch.draws("ego_motion"), START) for task in (vectors, poses))
            found.append(torch.cat([one.motion, other.motion], dim=1)[(one.weight > 0) & (other.weight > 0)])
    motion = torch.cat(found)
    likeness = torch.corrcoef(motion.T)
    print(f"{len(motion)} clips; " + " ".join(f"{part:>6}" for part in poses.parts))
    for number, part in enumerate(vectors.parts):
        row = " ".join(f"{float(value):+6.2f}" for value in likeness[number, len(vectors.parts) :])
        print(f"{part:>9}: {row}   standard deviation {float(motion[:, number].std()):.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    strips(*sys.argv[1:3]) if len(sys.argv) > 2 else agreement(sys.argv[1])
