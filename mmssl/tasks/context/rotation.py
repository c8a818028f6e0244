"""Rotation prediction, RotNet (Gidaris, Singh, Komodakis, ICLR 2018, arXiv 1803.07728).

One frame of each clip is shown in all four quarter turns, and a linear layer on the picture encoder says which turn
it is. To know what is upright one must know what the thing is.

Shortcuts that are closed: the turns are transposes and flips, so no class alone is resampled; crop and mirror come
before the turn, so all four copies show the same pixels; the crop is square and its corner is drawn, so neither the
shape, a border nor the codec's grid of blocks tells the turn; black bars above and below or at the sides are not shown,
and a clip of which too little is left takes no part; all four copies are in one batch.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.distributed import global_mean
from mmssl.nn.encoders import Encoders
from mmssl.ops.crops import crop_at, mirror, within_bars
from mmssl.ops.rotation import all_turns
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows


class RotationExample(NamedTuple):
    """Pictures in four turns."""

    pictures: torch.Tensor  # float32 [4 B, 3, S, S] in [0, 1]; the four turns of a clip lie together
    label: torch.Tensor  # int64 [4 B], quarter turns counter-clockwise
    weight: torch.Tensor  # float32 [4 B], 0 where the clip has no picture, or too little within its black bars
    valid: torch.Tensor  # float32 [4 B], 0 only where the clip has no picture


class Rotation(PretextTask[Batch, RotationExample]):
    """Which of four quarter turns a picture was given.

    Args:
        picture: the frames that the one frame is drawn from.
        size: (height, width) of the decoded frames.
        crop: share of the shorter side that is kept, the same for all clips.
    """

    uses: ClassVar = {"image": "image"}
    needs: ClassVar = ("picture",)
    score = Score("accuracy", floor=0.25, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("label",)

    def __init__(self, picture: Span = Span(3.0, 8.0), size: tuple[int, int] = (96, 96), crop: float = 0.875) -> None:
        super().__init__()
        if not 0 < crop <= 1:
            raise ValueError(f"rotation: crop must be a share in (0, 1], got {crop}")
        self.picture = picture
        self.window = Window(picture=picture, size=size)
        self.crop = crop

    def setup(self, encoders: Encoders) -> None:
        """One linear layer on the pooled features, as in the paper."""
        self.head = nn.Linear(encoders["image"].width, 4)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> RotationExample:
        """Draw a frame, crop and mirror it, and turn it four times."""
        frame = draws.integers("frame", self.picture.count, (1,))
        frames = batch.frames_of(self.picture)
        pictures = frames[torch.arange(len(batch), device=batch.device), frame[:, 0]]
        height, width = pictures.shape[-2:]
        side = max(1, int(self.crop * min(height, width)))
        above, below, before, behind = within_bars(frames).unbind(1)
        down, right = below - above - side, behind - before - side  # how far a corner may lie from the first one
        fits = (down >= 0) & (right >= 0)
        top = above + (draws.uniform("top") * (down + 1)).long()
        left = before + (draws.uniform("left") * (right + 1)).long()
        top, left = (torch.where(fits, corner, torch.zeros_like(corner)) for corner in (top, left))
        valid = valid_rows(self, batch)
        pictures = mirror(crop_at(pictures, top, left, side), draws.bernoulli("mirror", 0.5))
        return RotationExample(
            pictures=all_turns(pictures).flatten(0, 1).float() / 255,
            label=torch.arange(4, device=batch.device).repeat(len(batch)),
            weight=(valid * fits).repeat_interleave(4),
            valid=valid.repeat_interleave(4),
        )

    def forward(self, example: RotationExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-entropy over the four turns, averaged over the valid clips of all ranks."""
        logits = self.head(encoders.encode("image", example.pictures).pooled).float()
        loss = functional.cross_entropy(logits, example.label, reduction="none")
        right = logits.argmax(dim=1) == example.label
        return Outcome(
            losses={"cross_entropy": global_mean(loss, example.weight)},
            metrics={
                "accuracy": rate(right, example.weight),
                "clips_large_enough": rate(example.weight > 0, example.valid),
            },
        )
