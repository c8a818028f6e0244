"""Flow estimation: by how many pixels does every point of a frame move to the next frame?

RAFT: Teed and Deng, arXiv 2003.12039; FlowNet: Dosovitskiy et al., arXiv 1504.06852. The label is the flow that a
renderer knows, so this is no self-supervision: the task declares `needs_truth` and learns from rendered clips alone.
Its features are those of the bundle's encoder, which so learns what tells the points of a picture apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.losses.flow import sequence_l1
from mmssl.nn.encoders import Encoders
from mmssl.nn.flow_estimator import FlowEstimator, Network
from mmssl.ops.flow import end_point_error, fl_all, masked_mean, mirror, mirrored
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows

STEP = 8  # pixels: what sides of crops are multiples of
# A point is the middle of a crop by its speed (pixels a pair, at most so much), or by this much when it stands still.
FAST, STILL = 4.0, 0.02


class FlowExample(NamedTuple):
    """Pairs of frames, K a clip, those of a clip together."""

    first: torch.Tensor  # float32 [K B, 3, h, w] in [0, 1]
    second: torch.Tensor  # float32 [K B, 3, h, w]
    flow: torch.Tensor  # float32 [K B, 2, h, w], pixels from the first to the second
    known: torch.Tensor  # bool [K B, h, w]
    weight: torch.Tensor  # float32 [K B], 0 where nothing of the clip's flow is known


class FlowEstimation(PretextTask[Batch, FlowExample]):
    """The flow between neighbouring frames, from the truth of rendered clips.

    In training frames are cropped, mostly about what moves, mirrored (left and right, above and below, rows and
    columns: flow with them) and change their brightness and contrast together; scores are of whole frames as they are.

    Args:
        picture: the frames that pairs are neighbours in. Truth is the flow to the next frame of the source: at another
            rate than the source's it is taken to go on evenly.
        size: (height, width) of the decoded frames.
        pairs: pairs drawn of each clip.
        crop: side in pixels of what is seen in training, rounded to multiples of 8 and at most the frame's.
        network: "recurrent" (RAFT) or "stacked" (FlowNetSimple).
        settings: further arguments of the network.
        gamma: weight of an estimate in the loss over that of the next, better one.
        encoder: name of the encoder in the bundle.
        moving: pixels a pair from which on a point counts as moving, in the metrics.
    """

    uses: ClassVar = {"image": "image"}
    needs: ClassVar = ("picture",)
    needs_truth: ClassVar = ("flow",)
    score = Score("end_point_error", floor=None, ceiling=0.0, higher_is_better=False)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("flow", "known")

    def __init__(
        self,
        picture: Span = Span(0.64, 12.5),
        size: tuple[int, int] = (96, 96),
        pairs: int = 4,
        crop: int = 48,
        network: Network = "recurrent",
        settings: Mapping[str, Any] | None = None,
        gamma: float = 0.8,
        encoder: str = "image",
        moving: float = 0.5,
    ) -> None:
        super().__init__()
        if not 1 <= pairs < picture.count:
            raise ValueError(f"flow_estimation: {picture.count} frames have no {pairs} pairs of neighbours")
        if crop < 2 * STEP:
            raise ValueError(f"flow_estimation: a crop of {crop} pixels is too small, at least {2 * STEP} are needed")
        self.window = Window(picture=picture, size=size, truth=("flow",))
        self.picture = picture
        self.pairs, self.crop, self.gamma, self.moving = pairs, crop, gamma, moving
        self.kind, self.settings, self.encoder = network, dict(settings or {}), encoder
        self.uses = {encoder: "image"}  # type: ignore[misc]  # of this one object

    def setup(self, encoders: Encoders) -> None:
        """The network that fits the encoder's maps."""
        widths = encoders[self.encoder].level_widths
        self.estimator = FlowEstimator(self.kind, widths, self.settings, self.encoder)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> FlowExample:
        """Pairs of neighbours with the truth between them."""
        times = batch.times(self.picture)
        frames = batch.frames_at(times)
        flow, known = batch.privileged_at("flow", times)
        begins = batch.frame_times_at(times)
        rows = torch.arange(len(batch), device=batch.device)[:, None]
        number = draws.uniform("pair", (self.picture.count - 1,)).argsort(dim=1)[:, : self.pairs]
        seconds = (begins[rows, number + 1] - begins[rows, number]).float()
        first, second = frames[rows, number], frames[rows, number + 1]
        # A frame that stands twice (the clip is slower than the window) has no neighbour.
        known = known[rows, number] & (seconds > 1e-6)[..., None, None]
        flow = flow[rows, number] * seconds[..., None, None, None]
        return self._shown(first, second, flow, known, valid_rows(self, batch), draws)

    def _shown(
        self,
        first: torch.Tensor,
        second: torch.Tensor,
        flow: torch.Tensor,
        known: torch.Tensor,
        weight: torch.Tensor,
        draws: Draws,
    ) -> FlowExample:
        """The pairs [B, K, ...] as they are shown, in one row each."""
        weight = weight.repeat_interleave(self.pairs) * known.flatten(2).any(dim=2).flatten()
        first, second, flow, known = (x.flatten(0, 1) for x in (first, second, flow, known))
        first, second = first.float() / 255, second.float() / 255
        if not self.training:
            return FlowExample(first, second, flow, known, weight)
        height, width = first.shape[-2:]
        side = min(self.crop, height, width) // STEP * STEP
        top, left = self._corners(flow, known, side, draws)
        across, down, turned = (draws.bernoulli(n, 0.5, (self.pairs,)).flatten() for n in ("across", "down", "turned"))

        def cut(x: torch.Tensor) -> torch.Tensor:
            span = torch.arange(side, device=x.device)
            row, column = top[:, None] + span, left[:, None] + span
            index = (row[:, :, None] * width + column[:, None, :]).flatten(1)
            shape = (*x.shape[:-2], side, side)
            flat = x.flatten(-2)
            index = index.view(len(x), *[1] * (flat.ndim - 2), -1).expand(*flat.shape[:-1], -1)
            return flat.gather(-1, index).view(shape)

        first, second = (mirror(cut(x), across, down, turned) for x in (first, second))
        gain = draws.uniform("gain", (self.pairs,), 0.7, 1.3).float().flatten()[:, None, None, None]
        offset = draws.uniform("offset", (self.pairs, 3), -0.1, 0.1).float().flatten(0, 1)[:, :, None, None]
        first, second = (((x - 0.5) * gain + 0.5 + offset).clamp(0, 1) for x in (first, second))
        return FlowExample(
            first, second, mirrored(cut(flow), across, down, turned), mirror(cut(known), across, down, turned), weight
        )

    def _corners(
        self, flow: torch.Tensor, known: torch.Tensor, side: int, draws: Draws
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Int64 [K B] each: rows and columns where crops begin; most lie about a point that moves.

        In a film most points stand nearly still; crops drawn evenly would show little else.
        """
        height, width = flow.shape[-2:]
        moves = torch.linalg.vector_norm(flow, dim=1).clamp(max=FAST) * known + STILL
        reached = moves.flatten(1).double().cumsum(dim=1)
        drawn = draws.uniform("crop", (self.pairs, 3)).flatten(0, 1)
        point = torch.searchsorted(reached, drawn[:, :1] * reached[:, -1:]).clamp(max=height * width - 1)
        shift = (0.25 + 0.5 * drawn[:, 1:]) * side  # the point lies in the middle half of the crop
        top = (torch.div(point[:, 0], width, rounding_mode="floor") - shift[:, 0].long()).clamp(0, height - side)
        left = (point[:, 0] % width - shift[:, 1].long()).clamp(0, width - side)
        return top, left

    def forward(self, example: FlowExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Loss over all estimates, errors of the last."""
        flows = self.estimator(encoders, example.first, example.second)
        losses = sequence_l1(flows, example.flow, example.known, self.gamma)
        with torch.no_grad():
            error = end_point_error(flows[-1], example.flow)
            still = torch.linalg.vector_norm(example.flow, dim=1)
            moves = example.known & (still > self.moving)
            some = example.weight * moves.flatten(1).any(dim=1)
        return Outcome(
            losses={"sequence_l1": distributed.global_mean(losses, example.weight)},
            metrics={
                "end_point_error": rate(masked_mean(error, example.known), example.weight),
                "floor": rate(masked_mean(still, example.known), example.weight),
                "end_point_error_moving": rate(masked_mean(error, moves), some),
                "floor_moving": rate(masked_mean(still, moves), some),
                "fl_all": rate(fl_all(flows[-1], example.flow, example.known), example.weight),
            },
        )

    def exports(self) -> FlowEstimator:
        """The network, for `mmssl.data.flow.NetworkFlow`."""
        return self.estimator
