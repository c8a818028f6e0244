"""Order verification, Shuffle and Learn: whether the middle one of three frames was really between the two others
(Misra, Zitnick, Hebert, "Shuffle and learn: unsupervised learning using temporal order verification", ECCV 2016,
arXiv 1603.08561).

Of five frames a < b < c < d < e of a stretch that moves, (b, c, d) is in order; (b, a, d) and (b, e, d) are not. Each
is shown backwards as often as forwards, with the same label: the direction of time is not asked.

Shortcuts that are closed: the outer frames b and d are the same in both classes, so only the middle tells; frames a and
e lie close to the pair and pairs are short, so that the middle of a clip is not where the true middles are; where
nothing moves there is no row; a middle frame that looks like b or d is not used, nor are three frames of something that
swings and of which the outermost do not look the most unlike, for nobody could tell. Each frame's
crop jitters by itself and is brought to one mean and contrast (no camera drift or fade gives the order away).

Departures from the paper:

- Motion is measured by differences of frames in the busiest square, not by optical flow.
- The encoder's map enters beside the pooled vector. Frames are told about the middle of the outer two, in units of
  their distance: a mean of all shown frames would tell of the other triples' middles, and two false ones that are one
  frame would give themselves away. The head sees the differences between the frames beside the frames.
- One true triple and `wrong` false ones of each pair are shown, since only the small head runs again; in training they
  are a quarter to three quarters, the paper's best share. The score is the balanced accuracy of the class that were
  the likelier if both were as frequent (plain accuracy would be 0.75 for "always false"); `auc` beside it does not
  depend on a threshold.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.distributed import global_mean
from mmssl.nn.encoders import Encoders
from mmssl.nn.ordering import PlacedFeature, about_the_ends
from mmssl.ops.motion import UNIT, beside, frame_pairs, seen_in_order, unlike_both
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.context.looks import crop_fits, crop_side, motion_of, show


class VerificationExample(NamedTuple):
    """Frames of a pair with its true and false middles, and the triples made of them."""

    frames: torch.Tensor  # float32 [(3 + W) B, 3, S, S] in [0, 1]: b, d, the true middle, W false ones of each clip
    triple: torch.Tensor  # int64 [B, 1 + W, 3], which of its clip's frames each slot shows
    label: torch.Tensor  # int64 [B, 1 + W], 1 where the middle frame was really between, else 0
    weight: torch.Tensor  # float32 [B], 0 where the clip has no picture or nothing can be told
    valid: torch.Tensor  # float32 [B], 0 only where the clip has no picture
    chosen: torch.Tensor  # int64 [B, 3 + W], frame numbers within the span, in the order of `frames`


class OrderVerification(PretextTask[Batch, VerificationExample]):
    """Whether the middle frame of three was really between the others.

    Args:
        picture: the frames that are chosen from.
        size: (height, width) of the decoded frames.
        crop: share of the shorter side that a frame shows.
        jitter: largest shift of a frame's own crop, as a share of the crop; at least a pixel where not 0.
        pair_seconds: least and largest time between b and d.
        outside_seconds: least and largest time from a to b, and from d to e.
        wrong: false triples for each true one; 3 makes the paper's best share, 25 % true.
        difference: how unlike b, d and the middle must be, mean absolute difference in grey ranges (255 is 1) after the
            contrast was brought to 0.2.
        clearness: share of the largest difference between three frames that the two outermost in time have to reach;
            0 takes all, as the paper does.
        width: features a frame, and of the hidden layer.
        normalise: bring each frame to one mean and contrast (off only to show what that is good for).
        split: keep one colour channel a frame.
    """

    uses: ClassVar = {"image": "image"}
    needs: ClassVar = ("picture",)
    score = Score("balanced_accuracy", floor=0.5, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("label",)

    def __init__(
        self,
        picture: Span = Span(3.0, 8.0),
        size: tuple[int, int] = (96, 96),
        crop: float = 2 / 3,
        jitter: float = 1 / 64,
        pair_seconds: tuple[float, float] = (0.5, 1.0),
        outside_seconds: tuple[float, float] = (0.25, 1.0),
        wrong: int = 3,
        difference: float = 0.01,
        clearness: float = 0.9,
        width: int = 256,
        normalise: bool = True,
        split: bool = False,
    ) -> None:
        super().__init__()
        if wrong < 1:
            raise ValueError(f"order_verification: wrong must be at least 1, got {wrong}")
        crop_fits("order_verification", crop, jitter)
        least, most = (max(2, round(seconds * picture.rate)) for seconds in pair_seconds)
        near, far = (max(1, round(seconds * picture.rate)) for seconds in outside_seconds)
        pairs = frame_pairs(picture.count, least, most)
        between, outside = beside(picture.count, pairs, near, far)
        room = outside.any(dim=1)
        if not bool(room.any()):
            raise ValueError(
                f"order_verification: of {picture.count} frames none lies {near} outside two that are {least} apart"
            )
        for name, table in (("pairs", pairs), ("between", between), ("outside", outside)):
            self.register_buffer(name, table[room], persistent=False)
        self.pairs: torch.Tensor
        self.between: torch.Tensor
        self.outside: torch.Tensor
        self.picture = picture
        self.window = Window(picture=picture, size=size)
        self.crop, self.jitter = crop, jitter
        self.wrong, self.difference, self.width = wrong, difference, width
        self.clearness = clearness
        self.normalise, self.split = normalise, split

    @property
    def side(self) -> int:
        """Side of the crops in pixels; a run may set another size of the window."""
        return crop_side(self.window.size, self.crop)

    def setup(self, encoders: Encoders) -> None:
        """The frame layer, and two layers on three presented frames and their differences."""
        self.feature = PlacedFeature(encoders["image"], self.side, self.width)
        self.head = nn.Sequential(nn.Linear(6 * self.width, self.width), nn.ReLU(), nn.Linear(self.width, 2))

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> VerificationExample:
        """Choose a pair by motion, its true and false middles by how they look; draw slots and directions."""
        frames = batch.frames_of(self.picture)
        motion = motion_of(frames, self.side)
        fit = unlike_both(motion.distances, self.pairs, round(self.difference * UNIT))
        fit = fit & seen_in_order(motion.distances, self.pairs, self.clearness)
        true, false = fit & self.between, fit & self.outside
        usable = true.any(dim=2) & false.any(dim=2)  # [B, N]
        # Motion passed between b and d: the differences of neighbouring frames, summed.
        steps = motion.distances.diagonal(offset=1, dim1=1, dim2=2)
        passed = functional.pad(steps.cumsum(dim=1), (1, 0))
        passed = passed[:, self.pairs[:, 1]] - passed[:, self.pairs[:, 0]]
        pick = draws.choice("pair", torch.where(usable, passed.clamp(min=1), torch.zeros_like(passed)))
        row = torch.arange(len(batch), device=batch.device)
        kept = pick[:, 0]
        middle = draws.choice("middle", true[row, kept].double())
        outer = draws.choice("outer", false[row, kept].double(), self.wrong)
        chosen = torch.cat([self.pairs[kept], middle, outer], dim=1)

        shown = show(
            frames,
            chosen,
            motion,
            draws,
            self.side,
            self.jitter,
            chosen.shape[1],
            split=self.split,
            normalise=self.normalise,
        )
        # The triples of a pair in an order of their own, each forwards or backwards.
        place = draws.permutation("place", 1 + self.wrong)
        ends = draws.bernoulli("backwards", 0.5, (1 + self.wrong,)).long()
        valid = valid_rows(self, batch)
        return VerificationExample(
            frames=shown,
            triple=torch.stack([ends, place + 2, 1 - ends], dim=2),
            label=(place == 0).long(),
            weight=valid * usable[row, kept],
            valid=valid,
            chosen=chosen,
        )

    def forward(self, example: VerificationExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-entropy of true and false triples, averaged over the valid clips of all ranks."""
        clips, shown = example.label.shape
        parts = torch.relu(self.feature(encoders.encode("image", example.frames)))
        parts = about_the_ends(parts.reshape(clips, 3 + self.wrong, -1))
        rows = torch.arange(clips, device=parts.device)[:, None]
        first, middle, last = (parts[rows, example.triple[:, :, slot]] for slot in range(3))  # [B, 1 + W, width]
        changes = [(first - middle).abs(), (middle - last).abs(), (first - last).abs()]
        logits = self.head(torch.cat([first, middle, last, *changes], dim=2)).float()
        loss = functional.cross_entropy(logits.flatten(0, 1), example.label.flatten(), reduction="none")
        # What the shares of true and false triples add to every answer is taken off.
        margin = (logits[..., 1] - logits[..., 0]).detach() + math.log(self.wrong)
        return Outcome(
            losses={"cross_entropy": global_mean(loss.reshape(clips, shown).mean(dim=1), example.weight)},
            metrics={
                "balanced_accuracy": rate(balanced(margin, example.label), example.weight),
                "auc": rate(ranked(margin, example.label), example.weight),
                "moving_clips": rate(example.weight > 0, example.valid),
            },
        )


def balanced(margin: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Float [B]: mean of the shares of true rows above 0 and of false rows below; exactly 0 counts half.

    Args:
        margin: float [B, K].
        label: int64 [B, K], at least one 0 and one 1 a clip.
    """
    true = (label == 1).float()
    above = (margin > 0).float() + 0.5 * (margin == 0).float()
    return ((above * true).sum(1) / true.sum(1) + ((1 - above) * (1 - true)).sum(1) / (1 - true).sum(1)) / 2


def ranked(margin: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Float [B]: share of pairs of a clip's true and false rows of which the true one lies above; ties count half."""
    ahead = margin[:, :, None] - margin[:, None, :]
    pairs = ((label[:, :, None] == 1) & (label[:, None, :] == 0)).float()
    won = (ahead > 0).float() + 0.5 * (ahead == 0).float()
    return (won * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))
