"""Draw clips at their four paces: python -m benchmarks.figures.pace_prediction SHARDS OUT.png"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.figures.context_strips import PLAIN, draw, example_of
from mmssl.tasks.context.pace_prediction import PacePrediction


def main(shards: str, out: str) -> None:
    """Two clips at four paces, each with its own scale, place and colours."""
    task = PacePrediction(shown=4)
    example = example_of(task, "pace_prediction", shards, 8)
    clips = example.clips.unflatten(0, (8, -1))
    rows = []
    for clip in range(2):
        for place in example.label[clip].argsort().tolist():
            label, chosen = int(example.label[clip, place]), example.chosen[clip, place]
            captions = [f"{int(f) / task.picture.rate:.2f} s" for f in chosen]
            rows.append((f"class {label}\nstride {label + 1}", PLAIN, clips[clip, place].transpose(0, 1), captions))
    draw(rows, Path(out), columns=1, label_width=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
