"""Ego-motion: how the camera moved between two frames, one class for each dimension of the motion.

Agrawal, Carreira and Malik, "Learning to see by moving", ICCV 2015, arXiv 1505.01596: two frames go through one
network, their features together through a small one, and every dimension of the motion, binned, has its own softmax.
Labels come from where the motion is known:

- ``pose``: the camera's pose in a rendered scene (`needs_truth`), five dimensions in the camera's own axes;
- ``vectors``: for any film, a similarity fitted robustly to the codec's motion vectors, four dimensions. What moves by
  itself is outvoted where it fills less than about half of the picture;
- ``warp``: two views of one frame, moved against each other by a drawn similarity, four dimensions; no film is needed,
  and the label is exact.

Shortcuts. Bins are quantiles of the training's own motions, so that no class is met more often (`QuantileBins`); the
mirror and the exchange of the two frames, both drawn, make every motion as likely as its opposite and change the
labels as they must. The frames' colours are changed one by one: brightness that drifts as the camera turns is no cue.
With ``warp`` each view is moved by half of the motion, on top of a motion that both have in common: neither is the one
that has moved, both are interpolated alike, and a horizon that tilts says little. Both are cut from the middle of the
frame, so that nothing beyond its border is ever seen: repeated edges would tell the motion in a single view.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.data.flow import CodecFlow
from mmssl.distributed import global_mean
from mmssl.nn.bins import QuantileBins
from mmssl.nn.blocks import group_norm
from mmssl.nn.encoders import Encoders
from mmssl.ops.augment import colour_jitter
from mmssl.ops.camera_motion import (
    POSE_PARTS,
    SIMILARITY_PARTS,
    compose_similarities,
    fit_similarity,
    half_similarity,
    inverse_similarity,
    relative_pose,
    warp_similarity,
)
from mmssl.ops.crops import mirror
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows

Labels = Literal["pose", "vectors", "warp"]
#: what a mirror turns into its opposite
MIRRORED = {"right", "yaw", "roll"}
#: how far a drawn similarity goes: share of the view's side, share of its side, log of the zoom, radians
WARP = (0.07, 0.07, 0.1, 0.15)
#: standard deviations expected before any motion was seen: metres and radians; shares of the side and radians
POSE_SCALES = (0.05, 0.03, 0.05, 0.01, 0.006)
SIMILARITY_SCALES = (0.02, 0.02, 0.02, 0.02)


@lru_cache(maxsize=16)
def view_size(height: int, width: int) -> tuple[int, int]:
    """The largest (height, width), multiples of 8, of views that see nothing beyond the border of such a frame.

    Raises:
        ValueError: the frame is too small.
    """
    extremes = torch.tensor(list(itertools.product(*((-reach, reach) for reach in WARP)))).double()
    motion, common = extremes.repeat_interleave(len(extremes), dim=0), extremes.repeat(len(extremes), 1) / 2
    edge = torch.tensor([width - 3, height - 3]).double() / 2  # within the middles of the last pixels but one
    for high in range(height // 8 * 8, 0, -8):
        wide = width * high // height // 8 * 8
        sides = torch.tensor([wide, high, 1, 1]).double()
        moved = compose_similarities(half_similarity(motion * sides), common * sides)
        right, down, zoom, roll = inverse_similarity(moved)[:, None].unbind(2)
        x, y = torch.tensor([[wide, wide, -wide, -wide], [high, -high, high, -high]]).double() / 2
        cos, sin = zoom.exp() * roll.cos(), zoom.exp() * roll.sin()
        seen = torch.stack([cos * x - sin * y + right, sin * x + cos * y + down])
        if wide and (seen.abs() <= edge[:, None, None]).all():
            return high, wide
    raise ValueError(f"ego_motion: frames of {height} x {width} are too small for labels 'warp'")


def warped_views(frame: torch.Tensor, motion: torch.Tensor, common: torch.Tensor) -> torch.Tensor:
    """Uint8 [B, 2, 3, h, w]: two views of a frame; `motion` brings the content of the first to that of the second.

    Args:
        frame: uint8 [B, 3, H, W].
        motion: float64 [B, 4], `SIMILARITY_PARTS`, shifts in shares of the view's side.
        common: likewise, what both have moved by before.
    """
    size = view_size(*frame.shape[-2:])
    top, left = ((whole - part) // 2 for whole, part in zip(frame.shape[-2:], size, strict=True))
    sides = torch.tensor([size[1], size[0], 1.0, 1.0], dtype=torch.float64, device=frame.device)
    half = half_similarity(motion * sides)
    views = []
    for moved in (inverse_similarity(half), half):
        whole = warp_similarity(frame.float(), compose_similarities(moved, common * sides))
        views.append(whole[:, :, top : top + size[0], left : left + size[1]])
    return torch.stack(views, dim=1).round().to(torch.uint8)


class EgoMotionExample(NamedTuple):
    """Two frames and how the camera moved between them."""

    frames: torch.Tensor  # float32 [2 B, 3, H, W] in [0, 1]; the two frames of a clip lie together
    motion: torch.Tensor  # float64 [B, D], the dimensions of the motion
    classes: torch.Tensor  # int64 [B, D]
    weight: torch.Tensor  # float32 [B], 0 where the motion is not known


class EgoMotion(PretextTask[Batch, EgoMotionExample]):
    """How the camera moved between two frames.

    Args:
        picture: the frames that two are chosen from.
        size: (height, width) of the decoded frames; with "warp" the views are smaller (`view_size`).
        labels: where the labels come from: "pose" (rendered scenes built with dense truth), "vectors" (any film) or
            "warp" (any frame).
        gap_seconds: least and most time between the two frames, within `picture`.
        bins: classes of each dimension.
        width: channels of the network on the two frames' features.
        learned_from: motions that the bins' edges are learned from, at the beginning of the training.
    """

    uses: ClassVar = {"image": "image"}
    needs: ClassVar = ("picture",)
    score = Score("accuracy", floor=None, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("classes",)
    needs_truth: ClassVar = ("pose",)  # with labels="pose", which is the default; else none

    def __init__(
        self,
        picture: Span = Span(2.0, 12.5),
        size: tuple[int, int] = (96, 96),
        labels: Labels = "pose",
        gap_seconds: tuple[float, float] = (0.4, 1.2),
        bins: int = 7,
        width: int = 128,
        learned_from: int = 2048,
    ) -> None:
        super().__init__()
        if labels not in ("pose", "vectors", "warp"):
            raise ValueError(f"ego_motion: labels are pose, vectors or warp, not '{labels}'")
        if labels != "pose":
            self.needs_truth = ()  # type: ignore[misc, assignment]  # of this one object
        self.motion_from, self.picture, self.width = labels, picture, width
        self.least, self.most = (max(1, round(seconds * picture.rate)) for seconds in gap_seconds)
        if not self.least <= self.most < picture.count:
            raise ValueError(
                f"ego_motion: gap_seconds {gap_seconds} are {self.least} to {self.most} steps, which do not rise or do "
                f"not fit between {picture.count} frames"
            )
        if labels == "warp":
            view_size(*size)
        self.parts = POSE_PARTS if labels == "pose" else SIMILARITY_PARTS
        scales = POSE_SCALES if labels == "pose" else SIMILARITY_SCALES
        self.window = Window(picture=picture, size=size, motion=labels == "vectors", truth=self.needs_truth)
        self.bins = QuantileBins(scales, bins, learned_from)
        self.register_buffer(
            "signs", torch.tensor([-1.0 if p in MIRRORED else 1.0 for p in self.parts]).double(), persistent=False
        )
        self.signs: torch.Tensor

    def setup(self, encoders: Encoders) -> None:
        """A small network on the two frames' finest and coarsest maps, and a classifier for each dimension."""
        encoder = encoders["image"]
        self.fine, self.coarse = min(encoder.strides), max(encoder.strides)
        widths = encoder.level_widths
        self.enter = nn.Sequential(
            group_norm(widths[self.fine]), nn.ReLU(), nn.Conv2d(widths[self.fine], self.width, 1)
        )
        self.deep = nn.Sequential(
            group_norm(widths[self.coarse]), nn.ReLU(), nn.Conv2d(widths[self.coarse], self.width, 1)
        )
        self.compare = nn.Sequential(
            nn.Conv2d(3 * self.width, self.width, 3, 2, 1),
            nn.GroupNorm(8, self.width),
            nn.ReLU(),
            nn.Conv2d(self.width, self.width, 3, 2, 1),
            nn.GroupNorm(8, self.width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(9 * self.width, len(self.parts) * self.bins.bins)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> EgoMotionExample:
        """Choose two frames, find the motion between them, draw mirror and order."""
        times = batch.times(self.picture)
        count, steps = len(batch), times.shape[1]
        gap = self.least + draws.integers("gap", self.most - self.least + 1)
        start = (draws.uniform("start") * (steps - gap)).long()
        start = torch.minimum(start, steps - 1 - gap)
        rows = torch.arange(count, device=batch.device)
        pair = times[rows[:, None], torch.stack([start, start + gap], dim=1)]
        frames = batch.frames_at(pair)
        valid = valid_rows(self, batch)
        if self.motion_from == "warp":
            reach = torch.tensor(WARP, dtype=torch.float64, device=batch.device)
            motion = (2 * draws.uniform("warp", (4,)).double() - 1) * reach
            common = (draws.uniform("common", (4,)).double() - 0.5) * reach
            frames = warped_views(frames[:, 0], motion, common)
        elif self.motion_from == "pose":
            poses, known = batch.privileged_at("pose", pair)
            motion, backwards = relative_pose(poses[:, 0], poses[:, 1]), relative_pose(poses[:, 1], poses[:, 0])
            valid = valid * known.all(dim=1)
        else:
            motion, known_share = self._from_vectors(batch, times, start, gap)
            # Behind the clip's end the last field is repeated beside a frame that stands still.
            valid = valid * (known_share > 0.5) * (pair[:, 1] < batch.duration)
        if self.motion_from != "pose":
            height, width = frames.shape[-2:]
            sides = torch.tensor([width, height, 1.0, 1.0], dtype=torch.float64, device=batch.device)
            backwards = inverse_similarity(motion * sides) / sides  # shifts are shares of the sides
        flip, turn = draws.bernoulli("mirror", 0.5), draws.bernoulli("exchange", 0.5)
        frames = torch.where(turn[:, None, None, None, None], frames.flip(1), frames)
        motion = torch.where(turn[:, None], backwards, motion)
        frames = mirror(frames, flip)
        motion = torch.where(flip[:, None], motion * self.signs, motion)
        flat = frames.flatten(0, 1)[:, None]
        gain, offset = draws.uniform("gain", (6,), 0.85, 1.15), draws.uniform("offset", (6,), -0.05, 0.05)
        shown = colour_jitter(flat, gain.reshape(-1, 3), offset.reshape(-1, 3))[:, 0]
        return EgoMotionExample(shown, motion, self.bins(motion), valid)

    def _from_vectors(
        self, batch: Batch, times: torch.Tensor, start: torch.Tensor, gap: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the similarities of all steps between the two frames, and the share of steps that are known."""
        source = CodecFlow()
        flow = source(batch, times)
        seconds = (times[:, 1:] - times[:, :-1])[:, :, None, None, None]
        rows, steps, _, height, width = flow.values.shape
        step = fit_similarity(
            (flow.values.double() * seconds).flatten(0, 1), flow.known.flatten(0, 1), source.cell
        ).unflatten(0, (rows, steps))
        sides = torch.tensor([width * source.cell, height * source.cell, 1, 1], dtype=torch.float64, device=step.device)
        number = torch.arange(steps, device=step.device)
        inside = (number >= start[:, None]) & (number < (start + gap)[:, None])
        known = inside & (flow.known.flatten(2).sum(dim=2) >= 4)
        # A key frame has no vectors: the camera is taken to have moved on as in the steps beside it.
        share = known.sum(dim=1) / inside.sum(dim=1)
        motion = (step / sides * known[:, :, None]).sum(dim=1) / share.clamp(min=0.1)[:, None]
        return motion, share

    def forward(self, example: EgoMotionExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-entropy over the bins of each dimension, averaged over dimensions and valid clips of all ranks."""
        features = encoders.encode("image", example.frames)
        fine = self.enter(features.levels[self.fine])
        deep = self.deep(features.levels[self.coarse])
        deep = functional.interpolate(deep, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        first, second = (fine + deep).unflatten(0, (-1, 2)).unbind(1)
        compared = self.compare(torch.cat([first, second, second - first], dim=1))
        logits = self.classifier(compared).float().unflatten(1, (len(self.parts), self.bins.bins))
        loss = functional.cross_entropy(logits.flatten(0, 1), example.classes.flatten(), reduction="none")
        guess = logits.argmax(dim=2)
        weight = example.weight.repeat_interleave(len(self.parts))
        right = (guess == example.classes).float()
        metrics = {
            "accuracy": rate(right.flatten(), weight),
            "within_one": rate(((guess - example.classes).abs() <= 1).float().flatten(), weight),
            "floor": rate((example.classes == self.bins.fullest).float().flatten(), weight),
        }
        metrics |= {f"accuracy_{part}": rate(right[:, n], example.weight) for n, part in enumerate(self.parts)}
        return Outcome(
            losses={"cross_entropy": global_mean(loss.unflatten(0, logits.shape[:2]).mean(dim=1), example.weight)},
            metrics=metrics,
            carry={"motion": example.motion, "weight": example.weight},
        )

    def after_step(self, encoders: Encoders, carries: Sequence[Mapping[str, torch.Tensor]], moment: Moment) -> None:
        """The bins learn from the motions of the step, those of all ranks."""
        for carry in carries:
            motion, weight = (distributed.gather(carry[name]) for name in ("motion", "weight"))
            self.bins.take(motion[weight > 0])
