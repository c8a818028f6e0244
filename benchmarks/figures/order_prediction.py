"""Draw tuples of OPN in some of their orders: python -m benchmarks.figures.order_prediction SHARDS OUT.png"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.figures.context_strips import PLAIN, draw, example_of
from mmssl.tasks.context.order_prediction import OrderPrediction


def main(shards: str, out: str) -> None:
    """Four clips, three orders each; captions are seconds within the span."""
    task = OrderPrediction(jitter=1 / 64)
    example = example_of(task, "order_prediction", shards, 8)
    frames = example.frames.unflatten(0, (8, -1))
    rows = []
    for clip in range(4):
        for order, label in list(zip(example.order[clip], example.label[clip], strict=True))[:3]:
            times = (example.chosen[clip, order] / task.picture.rate).tolist()
            read = "".join(str(int(slot) + 1) for slot in order.argsort())
            rows.append((f"class {int(label)}\nread {read}", PLAIN, frames[clip, order], [f"{t:.2f} s" for t in times]))
    draw(rows, Path(out), columns=4, label_width=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
