"""Order prediction, OPN: sort four shuffled frames of a clip (Lee, Huang, Singh, Yang, "Unsupervised representation
learning by sorting sequences", ICCV 2017, arXiv 1708.01246).

Four frames are shown in four slots, and the label is the order in which the slots must be read to run through time;
4!/2 = 12 classes, for an order and its reverse share one (many motions look as likely backwards). Every frame goes
through the picture encoder alone; each pair of presented slots (i < j) through a shared layer; the six pair features
together through the classifier.

Shortcuts that are closed: each frame keeps one colour channel (no colour fringe or drift tells the order) and is
brought to one mean and contrast (no fade does); each frame's crop jitters by itself (no camera drift does); frames
and crop are chosen where something moves, and a clip in which nothing moves gives no row, for its label would be
noise.

Departures from the paper:

- The classes are orders of *slots in time*. The authors' program groups orders of *frames in slots* with their
  reverses; for eight of the twelve classes that is not what playing the film backwards does, and on motion that has
  no direction of time nobody can then score above 2/3 (on drawn discs: 0.65 that way, 0.97 this way).
- The encoder's map enters the frame feature on a coarse grid beside the pooled vector. The paper's first dense layer
  saw the whole map, too; a pooled vector alone loses where things are.
- The mean of the four frames' features is taken off each, and the pair layer sees the absolute difference of the two
  beside both: what the frames have in common drowns a small net's first steps.
- Tuples are drawn by how plainly their order can be seen (`ops.motion.order_slack`), not by motion alone: something
  that swings moves much, and no one can say which of two equal frames came first.
- Each tuple is shown in all twelve classes, since only the small head has to run again for another order.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch.nn import functional

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.distributed import global_mean
from mmssl.nn.encoders import Encoders
from mmssl.nn.ordering import OrderClassifier, PlacedFeature
from mmssl.ops.motion import UNIT, frame_tuples, order_slack
from mmssl.ops.permutations import order_classes, orders_of
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.context.looks import crop_fits, crop_side, motion_of, show

FRAMES = 4  # frames a tuple; 12 classes
CLASSES = len(order_classes(FRAMES))
GRID = 8  # side of the grid on which the encoder's map enters the frame feature


class OrderExample(NamedTuple):
    """Tuples of frames and the orders they are shown in."""

    frames: torch.Tensor  # float32 [4 B, 3, S, S] in [0, 1], three equal channels; the frames of a clip lie together
    order: torch.Tensor  # int64 [B, K, 4], which of its four frames (0 is the earliest) each slot shows
    label: torch.Tensor  # int64 [B, K] in 0..11, the class of the slots read in the order of time
    weight: torch.Tensor  # float32 [B], 0 where the clip has no picture or nothing moves
    valid: torch.Tensor  # float32 [B], 0 only where the clip has no picture
    chosen: torch.Tensor  # int64 [B, 4], rising frame numbers within the span


class OrderPrediction(PretextTask[Batch, OrderExample]):
    """Which of twelve orders four frames are shown in.

    Args:
        picture: the frames that four are chosen from.
        size: (height, width) of the decoded frames.
        crop: share of the shorter side that a frame shows.
        jitter: largest shift of a frame's own crop, as a share of the crop; at least a pixel where not 0.
        gap_seconds: least and largest time between neighbouring frames of a tuple.
        motion_threshold: how unlike the two most similar frames of a tuple must be for the clip to count, mean
            absolute difference in grey ranges (255 is 1) after the contrast was brought to 0.2.
        orders: orders shown of each tuple, 1 to 12, of different classes.
        width: features a frame, and a pair of frames.
        dropout: share of the pair features dropped in training.
        normalise: bring each frame to one mean and contrast (off only to show what that is good for).
        split: keep one colour channel a frame (off only to show what that is good for).
    """

    uses: ClassVar = {"image": "image"}
    needs: ClassVar = ("picture",)
    score = Score("accuracy", floor=1 / 12, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("label",)

    def __init__(
        self,
        picture: Span = Span(3.0, 8.0),
        size: tuple[int, int] = (96, 96),
        crop: float = 2 / 3,
        jitter: float = 1 / 16,
        gap_seconds: tuple[float, float] = (0.125, 0.375),
        motion_threshold: float = 0.004,
        orders: int = 12,
        width: int = 256,
        dropout: float = 0.2,
        normalise: bool = True,
        split: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= orders <= CLASSES:
            raise ValueError(f"order_prediction: orders must be between 1 and 12, got {orders}")
        crop_fits("order_prediction", crop, jitter)
        least, most = (max(1, round(seconds * picture.rate)) for seconds in gap_seconds)
        # A short span still holds a tuple of evenly spaced frames; a shorter one raises.
        most = max(least, min(most, picture.count - 1))
        self.register_buffer("tuples", frame_tuples(picture.count, FRAMES, least, most), persistent=False)
        self.tuples: torch.Tensor
        self.picture = picture
        self.window = Window(picture=picture, size=size)
        self.crop, self.jitter = crop, jitter
        self.motion_threshold = motion_threshold
        self.orders = orders
        self.width, self.dropout = width, dropout
        self.normalise, self.split = normalise, split

    @property
    def side(self) -> int:
        """Side of the crops in pixels; a run may set another size of the window."""
        return crop_side(self.window.size, self.crop)

    def setup(self, encoders: Encoders) -> None:
        """The frame layer, and the classifier over pairs of slots."""
        self.feature = PlacedFeature(encoders["image"], self.side, self.width, GRID)
        self.sort = OrderClassifier(FRAMES, CLASSES, self.width, self.dropout)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> OrderExample:
        """Choose frames and crop by motion, draw the orders."""
        frames = batch.frames_of(self.picture)
        motion = motion_of(frames, self.side)
        slack = order_slack(motion.distances, self.tuples)
        slack = torch.where(slack >= self.motion_threshold * UNIT, slack, torch.zeros_like(slack))
        pick = draws.choice("tuple", slack)
        moves = slack.gather(1, pick)[:, 0] >= self.motion_threshold * UNIT
        chosen = self.tuples[pick[:, 0]]

        shown = show(
            frames, chosen, motion, draws, self.side, self.jitter, FRAMES, split=self.split, normalise=self.normalise
        )
        valid = valid_rows(self, batch)
        label = draws.permutation("class", CLASSES)[:, : self.orders]
        reverse = draws.bernoulli("reverse", 0.5, (self.orders,))
        return OrderExample(
            frames=shown,
            order=orders_of(label, reverse, FRAMES).argsort(dim=-1),
            label=label,
            weight=valid * moves,
            valid=valid,
            chosen=chosen,
        )

    def forward(self, example: OrderExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-entropy over the twelve orders, averaged over the valid clips of all ranks."""
        clips, orders = example.label.shape
        # One pass over all frames; what is shown in which slot is settled afterwards.
        frames = self.feature(encoders.encode("image", example.frames)).reshape(clips, FRAMES, -1)
        logits = self.sort(frames, example.order)
        loss = functional.cross_entropy(logits.flatten(0, 1), example.label.flatten(), reduction="none")
        right = (logits.argmax(dim=-1) == example.label).float()
        return Outcome(
            losses={"cross_entropy": global_mean(loss.reshape(clips, orders).mean(dim=1), example.weight)},
            metrics={
                "accuracy": rate(right.flatten(), example.weight.repeat_interleave(orders)),
                "moving_clips": rate(example.weight > 0, example.valid),
            },
        )
