"""Draw clips at the places of their features, trained beside random weights:

python -m benchmarks.figures.clip_map ENCODERS SHARDS OUT.png [CLIPS]
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmssl.evaluation.clip_map import ClipMap, in_square, map_clips, tsne
from mmssl.report.clip_map_page import label_looks
from mmssl.report.pictures import PALETTE

SIDE, THUMB, TITLE, EDGE = 460, 26, 20, 2
COLOURS = 96  # of the PNG: pages of documents stay small


def panel(made: ClipMap, places: np.ndarray, title: str) -> Image.Image:
    """Thumbnails at their places [N, 2] in [0, 1], edged in the colour of their label."""
    image = Image.new("RGB", (SIDE, SIDE + TITLE), (245, 246, 248))
    looks = label_looks(made.labels)
    room = SIDE - THUMB - 2 * EDGE
    for n in range(len(made.keys)):
        colour = PALETTE[int(looks[made.labels[n]].split()[0][1:]) % 8] if made.labels[n] else "#8a929c"
        box = Image.new("RGB", (THUMB + 2 * EDGE,) * 2, colour)
        picture = Image.fromarray(made.pictures[n]).resize((THUMB, THUMB), Image.Resampling.LANCZOS)
        box.paste(picture, (EDGE, EDGE))
        image.paste(box, (round(float(places[n, 0]) * room), TITLE + round(float(places[n, 1]) * room)))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, SIDE, TITLE), fill=(255, 255, 255))
    pen.text((2, 2), title, fill=(26, 29, 33), font=ImageFont.load_default(13))
    return image


def main(encoders: str, shards: str, out: str, clips: str = "300") -> None:
    """Two panels; the titles give the share of the five nearest clips that have the clip's label."""
    made = map_clips(encoders, shards, limit=int(clips), workers=1)
    shares = made.agreement()["agreement"]
    panels = [
        panel(made, made.places, f"trained: {100 * shares['pretrained']['mean']:.0f} % of neighbours share the label"),
        panel(
            made,
            in_square(tsne(made.random_init[0])),
            f"random weights: {100 * shares['random_init']['mean']:.0f} % (chance {100 * shares['chance']:.0f} %)",
        ),
    ]
    whole = Image.new("RGB", (2 * SIDE + 12, SIDE + TITLE), (255, 255, 255))
    for n, one in enumerate(panels):
        whole.paste(one, (n * (SIDE + 12), 0))
    whole.quantize(COLOURS).save(out, "PNG", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
