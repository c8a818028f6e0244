"""Clip order prediction, VCOP: in which order three short clips of a video are shown (Xu, Xiao, Zhao, Shao, Xie and
Zhuang, "Self-supervised spatiotemporal learning via video clip order prediction", CVPR 2019; of its encoders, R(2+1)D
is arXiv 1711.11248).

Clips of 8 frames with 4 frames between them, at half the rate of the paper's 16 and 8; the label is which of the
3! = 6 orders they are shown in, numbered as by `itertools.permutations`. Unlike single frames, a clip shows which way
things move, so an order and its reverse are two classes. Each clip goes through the video encoder alone, each pair of
presented slots through a shared layer, and all pair features together through the classifier.

Shortcuts that are closed: frames are left out between the clips, so their ends do not match; each clip has its own crop
(no camera drift tells the order) and its frames are brought to one mean and contrast (no fade does); a clip in which
nothing moves, or something swings so that another order looks smoother, gives no row; nor does one whose frames do not
come at the times asked for, since the rhythm of uneven steps goes on from clip to clip. All clips of a batch go through
the encoder in one pass, in the order of time: no statistics of a slot exist that could betray what it holds.

Departures from the paper: crops lie about the motion; a mirror is drawn for the whole tuple; the encoder's map enters
on a coarse grid beside the pooled vector, what the clips have in common is taken off, and the pair layer sees their
difference (as in `order_prediction`); each tuple is shown in all six orders, since only the small head runs again.
"""

from __future__ import annotations

import itertools
from typing import ClassVar, NamedTuple

import torch
from torch.nn import functional

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.distributed import global_mean
from mmssl.nn.encoders import Encoders
from mmssl.nn.ordering import OrderClassifier, PlacedFeature
from mmssl.ops.motion import UNIT, order_slack
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.context.looks import crop_fits, crop_side, motion_of, show
from mmssl.tasks.views import even_rows, inside, span_times

GRID = 4  # side of the grid on which the encoder's map enters a clip's feature
STEPS = 2  # parts of a clip's time in it: which way things move stays visible
MOST_CLIPS = 5  # 120 orders


class ClipOrderExample(NamedTuple):
    """Tuples of clips and the orders they are shown in."""

    clips: torch.Tensor  # float32 [N B, 3, F, S, S] in [0, 1]; the N clips of a row lie together, in the order of time
    order: torch.Tensor  # int64 [B, K, N], which of its clips (0 is the earliest) each slot shows
    label: torch.Tensor  # int64 [B, K] in 0..N!-1, the number of the order among `itertools.permutations`
    weight: torch.Tensor  # float32 [B], 0 where the video has no picture, is too short or uneven, or nothing moves
    valid: torch.Tensor  # float32 [B], 0 only where it has no picture or is too short
    even: torch.Tensor  # float32 [B], 1 where frames come at the times asked for
    start: torch.Tensor  # int64 [B, N], the first frame of each clip within the span


class ClipOrderPrediction(PretextTask[Batch, ClipOrderExample]):
    """Which of N! orders N clips are shown in.

    Args:
        picture: the frames that the clips are cut from; at least clips * frames + (clips - 1) * interval. Its rate
            should be that of the films, or a whole share of it: others are left out (`even_clips` tells how many not).
        size: (height, width) of the decoded frames.
        clips: N, 2 to 5.
        frames: of a clip.
        interval: frames left out between two clips, at least 1.
        crop: share of the shorter side that a clip shows.
        jitter: largest shift of a clip's own crop, as a share of the crop; at least a pixel where not 0.
        motion_threshold: how unlike the two most similar clips must be for the row to count, mean absolute difference
            of their frames in grey ranges (255 is 1) after the contrast was brought to 0.2.
        clearness: share of the way through the clips in the order of time that every other way has to reach; 0 takes
            all, as the paper does.
        orders: orders shown of each tuple, of different classes; 0 for all N!.
        width: features a clip, and a pair of clips.
        dropout: share of the pair features dropped in training (the paper's is 0.5).
        normalise: bring each frame to one mean and contrast (off only to show what that is good for).
    """

    uses: ClassVar = {"video": "video"}
    needs: ClassVar = ("picture",)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("label",)
    score = Score("accuracy", floor=1 / 6, ceiling=1.0)

    def __init__(
        self,
        picture: Span = Span(2.56, 12.5),
        size: tuple[int, int] = (96, 96),
        clips: int = 3,
        frames: int = 8,
        interval: int = 4,
        crop: float = 0.75,
        jitter: float = 1 / 64,
        motion_threshold: float = 0.01,
        clearness: float = 0.9,
        orders: int = 0,
        width: int = 256,
        dropout: float = 0.2,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        name = "clip_order_prediction"
        if not 2 <= clips <= MOST_CLIPS:
            raise ValueError(f"{name}: clips must be between 2 and {MOST_CLIPS}, got {clips}")
        if interval < 1:
            raise ValueError(f"{name}: interval must be at least 1, got {interval}: ends that touch tell the order")
        if frames < 2:
            raise ValueError(f"{name}: frames must be at least 2, got {frames}: one frame shows no direction")
        self.length = clips * frames + (clips - 1) * interval
        if self.length > picture.count:
            raise ValueError(
                f"{name}: {clips} clips of {frames} frames with {interval} between need {self.length} frames, the span "
                f"holds {picture.count}"
            )
        crop_fits(name, crop, jitter)
        table = torch.tensor(list(itertools.permutations(range(clips))))
        if not 0 <= orders <= len(table):
            raise ValueError(f"{name}: orders must be between 0 and {len(table)}, got {orders}")
        self.register_buffer("table", table, persistent=False)
        self.table: torch.Tensor
        self.score = Score("accuracy", floor=1 / len(table), ceiling=1.0)
        self.picture = picture
        self.window = Window(picture=picture, size=size)
        self.clips, self.frames, self.interval = clips, frames, interval
        self.crop, self.jitter = crop, jitter
        self.motion_threshold, self.clearness = motion_threshold, clearness
        self.orders = orders or len(table)
        self.width, self.dropout = width, dropout
        self.normalise = normalise

    @property
    def side(self) -> int:
        """Side of the crops in pixels; a run may set another size of the window."""
        return crop_side(self.window.size, self.crop)

    def setup(self, encoders: Encoders) -> None:
        """The clip layer, and the classifier over pairs of slots."""
        self.feature = PlacedFeature(encoders["video"], self.side, self.width, GRID, min(STEPS, self.frames))
        self.sort = OrderClassifier(self.clips, len(self.table), self.width, self.dropout)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> ClipOrderExample:
        """Draw where the tuple starts, crops and orders."""
        frames = batch.frames_of(self.picture)
        motion = motion_of(frames, self.side)
        first = draws.integers("start", self.picture.count - self.length + 1)
        step = self.frames + self.interval
        start = first[:, None] + step * torch.arange(self.clips, device=batch.device)
        chosen = (start[:, :, None] + torch.arange(self.frames, device=batch.device)).flatten(1)
        shown = show(
            frames, chosen, motion, draws, self.side, self.jitter, self.clips, split=False, normalise=self.normalise
        )
        shown = shown.reshape(len(batch) * self.clips, self.frames, 3, self.side, self.side).transpose(1, 2)

        moves = self._told(motion.distances, start)
        times = span_times(batch, self.picture)
        valid = valid_rows(self, batch) * inside(batch, times[:, 0], self.picture.seconds)
        even = even_rows(batch, times, self.picture.rate)
        label = draws.permutation("class", len(self.table))[:, : self.orders]
        return ClipOrderExample(
            clips=shown,
            order=self.table[label],
            label=label,
            weight=valid * moves * even,
            valid=valid,
            even=even.float(),
            start=start,
        )

    def _told(self, distances: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Bool [B]: whether the clips differ, and lie in the order of time on about the shortest way through them all.

        Something that swings shows the same frames in every clip, or the most unlike ones next to each other.
        """
        each = start[:, :, None] + torch.arange(self.frames, device=start.device)  # [B, N, F]
        rows = torch.arange(len(start), device=start.device)[:, None, None, None]
        unlike = distances[rows, each[:, :, None], each[:, None]].sum(dim=3)  # [B, N, N], frame by frame
        apart = torch.ones(self.clips, self.clips, dtype=torch.bool, device=start.device).triu(1)
        moves = unlike[:, apart].amin(dim=1) >= self.motion_threshold * UNIT * self.frames
        way = unlike.diagonal(offset=1, dim1=1, dim2=2).sum(dim=1)
        all_clips = torch.arange(self.clips, device=start.device)[None]
        other = way + order_slack(unlike, all_clips)[:, 0] if self.clips > 2 else way
        return moves & (other * 1000 >= round(1000 * self.clearness) * way)

    def forward(self, example: ClipOrderExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-entropy over the orders, averaged over the valid rows of all ranks."""
        rows, orders = example.label.shape
        # One pass over all clips; what is shown in which slot is settled afterwards.
        clips = torch.relu(self.feature(encoders.encode("video", example.clips)))
        logits = self.sort(clips.reshape(rows, self.clips, -1), example.order)
        loss = functional.cross_entropy(logits.flatten(0, 1), example.label.flatten(), reduction="none")
        right = (logits.argmax(dim=-1) == example.label).float()
        return Outcome(
            losses={"cross_entropy": global_mean(loss.reshape(rows, orders).mean(dim=1), example.weight)},
            metrics={
                "accuracy": rate(right.flatten(), example.weight.repeat_interleave(orders)),
                "even_clips": rate(example.even, example.valid),
                "used_clips": rate(example.weight > 0, example.valid),
            },
        )
