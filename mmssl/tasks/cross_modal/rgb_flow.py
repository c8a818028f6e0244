"""Cross and Learn: the picture and the optical flow of one clip get one vector, those of two clips do not.

Sayed, Brattoli and Ommer, "Cross and learn: cross-modal self-supervision", arXiv 1811.03879. Two streams without
shared weights, features behind a ReLU, so that every cosine is at least 0. The cross-modal term draws a clip's picture
and flow together; the diversity term pushes two clips apart within each modality. There is no negative across
modalities, it follows from the two. Without the diversity term one constant vector is the best answer; standardised
channels (the batch normalisation of the paper's networks) keep from it too, and let training begin where it can learn.

Counter-measures:

- each field's mean movement is taken off: a camera's pan or shake says nothing of what is in the picture;
- the stack of fields is drawn in proportion to how much moves in it beside that, so that there is something to see;
  where nothing does, the clip takes no part;
- picture and flow are cut and mirrored together (a mirrored field moves the other way), so that places stay related;
- the film is played backwards at random: the fields in reverse order and negated, and the frames with them; colours
  are changed and at times one channel is shown three times: the streams should agree on what moves and where, not on
  tints or on the phase of a movement.

Departures from the paper and its code (https://github.com/nawidsayed/Cross-and-Learn): the partner is drawn among the
clips of the gathered batch, so that it costs no further decode; a stack of another length at another rate, in pixels a
second; stacks are drawn by the speed itself, not by ``log(1000 speed + 1)``; the mean movement is that of the whole
field, not of the square that is cut out of it; whether the film runs backwards is drawn for each clip by itself, not
for both of a pair; one channel three times in a quarter of the clips (`split`), where the code does it in all of them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.data.flow import CodecFlow, FlowSource
from mmssl.errors import UserError
from mmssl.losses.cross_and_learn import cosine_matrix, cross_and_learn, relu_cosine
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation
from mmssl.nn.matcher import Matcher
from mmssl.ops.augment import colour_jitter
from mmssl.ops.channel_split import some_one_channel
from mmssl.ops.crops import crop_at, mirror
from mmssl.ops.flow_input import field_motion, mirror_flow, to_pixels, without_pan
from mmssl.ops.partners import ring_partner
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.cross_modal.matching import matching_metrics, own_rows, without_the_lonely
from mmssl.tasks.views import span_times


class FlowExample(NamedTuple):
    """A picture, or a clip, and the stack of flow fields around it."""

    picture: torch.Tensor  # float32 [B, 3, S, S], or [B, 3, K + 1, S, S] for a video stream, in [0, 1]
    flow: torch.Tensor  # float32 [B, 2, K, S, S], pixels a second
    weight: torch.Tensor  # float32 [B]
    partner: torch.Tensor  # float64 [B], draws that say which clip each is compared with
    start: torch.Tensor  # int64 [B], number of the stack's earliest frame within the span


class FlowMatcher(Matcher):
    """A layer behind each stream, standardised and rectified, as the first fully connected layer of the paper's
    networks.

    Args:
        picture_encoder: "image" or "video".
        picture_width: width of that encoder.
        flow_width: width of the flow encoder.
        dimension: of the common space.
        standardise: whether channels are standardised over the batch before the ReLU.
    """

    def __init__(
        self, picture_encoder: str, picture_width: int, flow_width: int, dimension: int = 128, standardise: bool = True
    ) -> None:
        super().__init__()
        self.init_args: dict[str, Any] = {
            "picture_encoder": picture_encoder,
            "picture_width": picture_width,
            "flow_width": flow_width,
            "dimension": dimension,
            "standardise": standardise,
        }
        self.encoders = {"picture": picture_encoder, "flow": "flow"}
        self.standardise = standardise
        self.picture = nn.Sequential(nn.LayerNorm(picture_width), nn.Linear(picture_width, dimension))
        self.flow = nn.Sequential(nn.LayerNorm(flow_width), nn.Linear(flow_width, dimension))
        self.picture_scale = BatchStandardisation(dimension)
        self.flow_scale = BatchStandardisation(dimension)

    def project(self, modality: str, features: Features) -> torch.Tensor:
        """Rows [B, D] of "picture" or "flow" before they are gathered."""
        return torch.as_tensor((self.flow if modality == "flow" else self.picture)(features.pooled).float())

    def rectify(self, modality: str, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Float32 [N, D] >= 0 of gathered rows of `project`; rows of weight 0 have no part in the statistics."""
        if self.standardise:
            projected = (self.flow_scale if modality == "flow" else self.picture_scale)(projected, weight)
        return torch.relu(projected)

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors [B, D] of "picture" or "flow"."""
        return F.normalize(self.rectify(modality, self.project(modality, features)), dim=1)


class RGBFlow(PretextTask[Batch, FlowExample]):
    """One vector for picture and flow of a clip, different ones for two clips (Cross and Learn, arXiv 1811.03879).

    Args:
        picture: span that the stack is drawn from.
        fields: flow fields of a stack, K.
        size: (height, width) of the frames.
        flow: where the flow comes from; the codec's motion vectors cost nothing but must be in the file.
        stream: what the picture's stream sees: the stack's middle frame ("image"), or all its frames ("video").
        crop: side of the square that is cut out, as a share of the shorter side.
        dimension: of the common space.
        standardise: standardise the channels over the gathered batch before the ReLU, as the batch normalisation of the
            paper's networks does; without it the features of an untrained encoder are nearly one vector, and training
            stays for long where it is indifferent, with all features alike.
        cross: weight of the cross-modal term.
        diversity: weight of the diversity term; 0, without `standardise`, is there to show that features collapse.
        split: probability that one colour channel is shown three times (1 in the published code).
        gain: spread of the gain of a colour channel about 1.
        offset: spread of the offset of a colour channel, in full scales.
        reverse: probability that the film is played backwards, fields and frames.
        stabilise: show each field without its mean movement (off only to show what that is good for: stacks are drawn
            by what moves beside it either way).
    """

    uses: ClassVar = {"image": "image", "flow": "flow"}
    needs: ClassVar = ("picture",)
    score = Score("accuracy", floor=0.5, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("flow",)
    negatives: ClassVar = True

    def __init__(
        self,
        picture: Span = Span(3.0, 8.0),
        fields: int = 8,
        size: tuple[int, int] = (96, 96),
        flow: FlowSource = CodecFlow(),  # noqa: B008  (it holds no state)
        stream: Literal["image", "video"] = "image",
        crop: float = 0.875,
        dimension: int = 128,
        standardise: bool = True,
        cross: float = 0.5,
        diversity: float = 0.5,
        split: float = 0.25,
        gain: float = 0.2,
        offset: float = 0.05,
        reverse: float = 0.5,
        stabilise: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= fields < picture.count:
            raise UserError(f"rgb_flow: fields must be between 1 and {picture.count - 1}, got {fields}")
        if not 0 < crop <= 1:
            raise UserError(f"rgb_flow: crop must be in (0, 1], got {crop}")
        if stream not in ("image", "video"):
            raise UserError(f"rgb_flow: stream must be image or video, got {stream!r}")
        if cross <= 0 or diversity < 0:
            raise UserError(f"rgb_flow: cross must be above 0 and diversity not below, got {cross} and {diversity}")
        self.uses = {stream: stream, "flow": "flow"}  # type: ignore[misc]  # this task's own, of two there are
        self.picture = picture
        self.fields = fields
        self.source = flow
        self.stream = stream
        self.crop = crop
        self.dimension = dimension
        self.standardise = standardise
        self.cross, self.diversity = cross, diversity
        self.split, self.gain, self.offset = split, gain, offset
        self.reverse = reverse
        self.stabilise = stabilise
        self.window = Window(picture, size=(size[0], size[1]), motion=flow.motion)

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        widths = encoders[self.stream].width, encoders["flow"].width
        self.matcher = FlowMatcher(self.stream, *widths, self.dimension, self.standardise)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> FlowExample:
        """A stack where something moves, and its picture."""
        times = span_times(batch, self.picture)
        found = self.source(batch, times)
        steady = without_pan(found.values, found.known)
        motion = field_motion(steady, found.known)
        sums = F.pad(motion.cumsum(dim=1), (1, 0))
        moves = sums[:, self.fields :] - sums[:, : -self.fields]  # [B, starts]
        # Behind the clip's end its last frame and field stand still: no stack reaches there.
        whole = times[:, self.fields :] < batch.duration[:, None]
        moves = torch.where(whole, moves, torch.zeros_like(moves))
        start = draws.choice("start", moves)[:, :1]  # [B, 1]; any where nothing moves, such a row has no weight
        there = moves.gather(1, start)[:, 0] > 0

        # Backwards, field k is what moved between the same two frames, the other way. A field that lay at the pixels of
        # the later frame of its two (`FlowSource.at`) lies at those of the earlier one then, and the other way round.
        back = draws.bernoulli("reverse", self.reverse)
        order = torch.arange(self.fields, device=batch.device).expand(len(batch), -1)
        order = torch.where(back[:, None], self.fields - 1 - order, order)
        rows = torch.arange(len(batch), device=batch.device)[:, None]
        flow = (steady if self.stabilise else found.values)[rows, start + order]
        flow = torch.where(back[:, None, None, None, None], -flow, flow)
        seen = torch.arange(self.fields + 1, device=batch.device).expand(len(batch), -1)
        if self.stream == "image":
            seen = seen[:, self.fields // 2 : self.fields // 2 + 1]
        seen = torch.where(back[:, None], self.fields - seen, seen)
        shown = batch.frames_at(times.gather(1, start + seen))
        flip = draws.bernoulli("flip", 0.5)
        height, width = shown.shape[-2:]
        picture, flow = self._cut(shown, to_pixels(flow, self.source.cell, (height, width)), draws)
        picture = mirror(self._coloured(picture, draws), flip).transpose(1, 2)
        return FlowExample(
            picture=(picture[:, :, 0] if self.stream == "image" else picture).contiguous(),
            flow=mirror_flow(flow, flip).transpose(1, 2).contiguous(),
            weight=valid_rows(self, batch) * there,
            partner=draws.uniform("partner"),
            start=start[:, 0],
        )

    def _cut(self, frames: torch.Tensor, flow: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        """The same square of all frames [B, T, 3, H, W] and fields [B, K, 2, H, W]."""
        height, width = frames.shape[-2:]
        side = min(height, width, max(8, int(self.crop * min(height, width)) // 8 * 8))
        corner = draws.uniform("corner", (2,))
        top, left = ((corner[:, axis] * (length - side + 1)).long() for axis, length in enumerate((height, width)))
        cut = [crop_at(x.flatten(1, 2), top, left, side).unflatten(1, x.shape[1:3]) for x in (frames, flow)]
        return cut[0], cut[1]

    def _coloured(self, frames: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Float32 [B, T, 3, H, W] in [0, 1]: other colours, at times one channel three times; alike in all frames."""
        gain = draws.uniform("gain", (3,), 1.0 - self.gain, 1.0 + self.gain)
        made = colour_jitter(frames, gain, draws.uniform("offset", (3,), -self.offset, self.offset))
        return some_one_channel(made, draws.integers("channel", 3), draws.bernoulli("split", self.split))

    def forward(self, example: FlowExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-modal and diversity term over the gathered batch."""
        rows = own_rows(len(example.picture))
        picture = self.matcher.project("picture", encoders.encode(self.stream, example.picture))
        flow = self.matcher.project("flow", encoders.encode("flow", example.flow))
        picture, flow, weight, drawn = (distributed.gather(x) for x in (picture, flow, example.weight, example.partner))
        picture = self.matcher.rectify("picture", picture, weight)
        flow = self.matcher.rectify("flow", flow, weight)
        partner = ring_partner(drawn, weight > 0)
        paired = without_the_lonely(weight, partner)
        terms = cross_and_learn(picture, flow, partner, paired, self.cross, self.diversity)
        scores = cosine_matrix(picture.detach(), flow.detach())
        index = torch.arange(len(scores), device=scores.device)

        def mean(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return rate(values[rows], paired[rows])

        metrics = matching_metrics(scores, weight, drawn, rows) | {
            "s_true": mean(scores.diagonal()),
            "s_false": mean(scores[index, partner]),
            "s_pictures": mean(relu_cosine(picture, picture[partner])),
            "s_flows": mean(relu_cosine(flow, flow[partner])),
        }
        return Outcome({"cross_modal": terms[0], "diversity": terms[1]}, metrics)

    def exports(self) -> Matcher:
        """The two layers."""
        return self.matcher
