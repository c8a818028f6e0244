"""Draws what `av_localization` is given and what it finds: docs/figures/av_localization.png.

    python benchmarks/figures/av_localization.py 'shards/test-*.tar' --run runs/av

Each column is a clip: the drawn frame with the true box, the log-mel spectrogram of the sound around it, the map for
that sound, and the map of the same frame for the sound of the next column.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from PIL import Image

from mmssl.clip import Span, Window
from mmssl.data.stream import Stream
from mmssl.localization.maps import match_maps, sound_seconds
from mmssl.localization.truth import boxes_at, in_clip, in_frame
from mmssl.metrics.localization import resize_map
from mmssl.nn.encoders import Encoders

OUT = Path(__file__).parents[2] / "docs" / "figures" / "av_localization.png"
ROWS = ("frame and true box", "sound around it", "map for this sound", "map for the next clip's")


def draw(shards: str, run: Path, out: Path = OUT, columns: int = 6, first: int = 0) -> None:
    """Write the figure for `columns` clips of the shards, from the clip `first` on.

    Args:
        shards: shard specification; the clips hold boxes.
        run: a run folder with the head `av_localization`.
        out: the picture.
        columns: clips.
        first: the clip of the first column.
    """
    encoders, head = Encoders.from_pretrained(run), Encoders.load_head(run, "av_localization")
    audio = encoders[head.encoders["sound"]]
    window = Window(Span(0.2, 10), Span(sound_seconds(head), audio.rate), size=(96, 96))
    stream = Stream(
        shards,
        window,
        first + columns,
        workers=0,
        rank=0,
        world=1,
        shuffle=False,
        repeat=False,
        anchor="centre",
    )
    with stream as passing:
        batch, truth = next(iter(passing))
    chosen = list(range(first, first + columns))
    frames, waves = batch.frames[chosen, 0, 1], batch.audio[chosen, 0]
    own = match_maps(encoders, head, frames, waves).numpy()
    other = match_maps(encoders, head, frames, waves.roll(-1, dims=0)).numpy()
    sounds = audio.frontend(waves)[:, 0]
    figure, axes = plt.subplots(len(ROWS), columns, figsize=(1.25 * columns + 0.7, 5.2), dpi=80)
    for column, row in enumerate(chosen):
        picture = frames[column].permute(1, 2, 0).numpy()
        meta, time = truth.metas[row], float(batch.frame_times[row, 0, 1])
        boxes = in_frame(in_clip(meta, boxes_at(meta, time)), batch.geometry[row].numpy(), (96, 96))
        axes[0, column].imshow(picture)
        axes[1, column].imshow(sounds[column], origin="lower", aspect="auto", cmap="magma")
        low, high = min(own[column].min(), other[column].min()), max(own[column].max(), other[column].max())
        for place, found in ((2, own[column]), (3, other[column])):
            axes[place, column].imshow(picture)
            heat = resize_map(found, 96)
            axes[place, column].imshow(heat, cmap="inferno", alpha=0.65, vmin=low, vmax=high)
            peak = int(heat.argmax())
            axes[place, column].plot(peak % 96, peak // 96, "o", mfc="none", mec="white", ms=7)
        for place in (0, 2, 3):
            for x0, y0, x1, y1 in boxes:
                style: dict[str, Any] = {"fill": False, "ec": "lime", "lw": 1}
                axes[place, column].add_patch(Rectangle((96 * x0, 96 * y0), 96 * (x1 - x0), 96 * (y1 - y0), **style))
    for place, name in enumerate(ROWS):
        axes[place, 0].set_ylabel(name, fontsize=7)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout(pad=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    plt.close(figure)
    Image.open(out).convert("RGB").quantize(96).save(out, optimize=True)  # a quarter of the bytes


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards")
    parser.add_argument("--run", type=Path, required=True, help="run folder of a training with av_localization")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw(options.shards, options.run, options.out, first=options.first)


if __name__ == "__main__":
    main()
