"""What the figures of the tasks on picture and sound share: a batch of shards, panels of frames and spectrograms."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmssl.batch import Batch
from mmssl.clip import Window
from mmssl.data.sources import Source
from mmssl.data.stream import Stream
from mmssl.nn.audio import LogMel


def batch_of(shards: str, window: Window, clips: int, seed: int) -> Batch:
    """One batch of `clips` clips of the shards."""
    with Stream([Source("figure", shards)], window, clips, workers=0, seed=seed) as stream:
        batch, _ = next(iter(stream))
        return batch


def show_sound(axes: Any, wave: torch.Tensor, rate: int, title: str, colour: str, mark: float | None = None) -> None:
    """The log-mel spectrogram of one sound, float32 [S]; a line at `mark` seconds."""
    mel = LogMel(rate)(wave[None])[0, 0].numpy()
    axes.imshow(mel, origin="lower", aspect="auto", extent=(0, len(wave) / rate, 0, len(mel)), cmap="magma")
    if mark is not None:
        axes.axvline(mark, color="white", linewidth=1)
    axes.set_title(title, fontsize=8, color=colour)
    axes.set_xticks([])
    axes.set_yticks([])


def show_frames(axes: Any, frames: torch.Tensor, title: str) -> None:
    """Frames float32 [3, T, H, W] in [0, 1] side by side."""
    axes.imshow(np.concatenate(list(frames.permute(1, 2, 3, 0).numpy().clip(0, 1)), axis=1))
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def save(figure: Any, out: str) -> None:
    """Write the figure as a PNG of 200 colours: spectrograms are noise, which nothing else makes small."""
    whole = io.BytesIO()
    figure.savefig(whole, dpi=80)
    Image.open(whole).convert("RGB").quantize(200, dither=Image.Dither.NONE).save(out, optimize=True)
