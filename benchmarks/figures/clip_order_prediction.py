"""Draw tuples of VCOP in some of their orders: python -m benchmarks.figures.clip_order_prediction SHARDS OUT.png"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.figures.context_strips import PLAIN, draw, example_of
from mmssl.clip import Span
from mmssl.tasks.context.clip_order_prediction import ClipOrderPrediction


def main(shards: str, out: str) -> None:
    """Two clips, three orders each; of each short clip the first, a middle and the last frame."""
    task = ClipOrderPrediction(picture=Span(2.56, 12.5), frames=8, interval=4, jitter=1 / 64)
    example = example_of(task, "clip_order_prediction", shards, 8)
    clips = example.clips.unflatten(0, (8, -1))  # [B, N, 3, F, S, S]
    rows = []
    for clip in range(2):
        for order, label in list(zip(example.order[clip], example.label[clip], strict=True))[:3]:
            shown = clips[clip, order][:, :, [0, 4, 7]].transpose(1, 2).flatten(0, 1)
            starts = example.start[clip, order]
            captions = [f"{(int(start) + f) / task.picture.rate:.2f} s" for start in starts for f in (0, 4, 7)]
            said = "".join(str(int(part) + 1) for part in order)
            rows.append((f"class {int(label)}\nclips {said}", PLAIN, shown, captions))
    draw(rows, Path(out), columns=1, label_width=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
