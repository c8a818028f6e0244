"""Draw true and false triples of Shuffle and Learn: python -m benchmarks.figures.order_verification SHARDS OUT.png"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.figures.context_strips import BAD, GOOD, draw, example_of
from mmssl.tasks.context.order_verification import OrderVerification


def main(shards: str, out: str) -> None:
    """Two clips, four triples each."""
    task = OrderVerification()
    example = example_of(task, "order_verification", shards, 8)
    frames = example.frames.unflatten(0, (8, -1))
    rows = []
    for clip in (0, 1, 2, 3):
        for triple, label in zip(example.triple[clip], example.label[clip], strict=True):
            times = (example.chosen[clip, triple] / task.picture.rate).tolist()
            said, colour = ("1: in order", GOOD) if label else ("0: middle from\noutside", BAD)
            rows.append((said, colour, frames[clip, triple], [f"{t:.2f} s" for t in times]))
    draw(rows, Path(out), columns=4, label_width=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
