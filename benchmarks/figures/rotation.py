"""Draw frames in their four quarter turns: python -m benchmarks.figures.rotation SHARDS OUT.png"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.figures.context_strips import PLAIN, draw, example_of
from mmssl.tasks.context.rotation import Rotation

CLIPS = 6


def main(shards: str, out: str) -> None:
    """The first clips, each with its four classes; the caption is the turn, counter-clockwise."""
    example = example_of(Rotation(crop=0.667), "rotation", shards, CLIPS)
    pictures, label = example.pictures.unflatten(0, (CLIPS, 4)), example.label.unflatten(0, (CLIPS, 4))
    rows = [
        (f"clip {clip + 1}", PLAIN, pictures[clip], [f"class {n}: {90 * n}" for n in label[clip].tolist()])
        for clip in range(CLIPS)
    ]
    draw(rows, Path(out), side=72, columns=2, label_width=50)


if __name__ == "__main__":
    main(*sys.argv[1:])
