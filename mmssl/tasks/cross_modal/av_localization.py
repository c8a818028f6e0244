"""Sound localization from correspondence: AVE-Net / AVOL-Net in today's form.

Arandjelovic and Zisserman, "Objects that sound", arXiv 1712.06651: a fully convolutional picture tower, a pooled
sound tower, a scalar product at each place and the maximum over places as the evidence that they belong together.
Today's form contrasts every picture with every sound of the batch (EZ-VSL, Mo and Morgado, arXiv 2203.09324). What is
made of the similarities of places and sounds is a rule of its own (`localization_rules`), one of five published ones.

Positives overlap in time; a sound's start has one distribution whether it serves as positive or negative, so the
time grid tells nothing. Clips below a loudness are no valid rows: silence would only say "no match". The frame is
drawn from what the clip has, never from behind its end. No objectness prior is mixed into the map.

*Time in the clip* is open by default, as in the papers: where a fade, a title or a jingle tells frame and sound alike
how far the clip is, a rival of another time is told without looking at things. `same_time` closes it: clips are
compared with those next to them in time alone.

Ceiling: the other clip's sound may fit the picture as well, so the two-way accuracy cannot reach 1 but
``1 - P(it fits) / 2``. In Soundstage's demo it fits if its material is among the 3 to 5 of the 12 that are in sight,
3.6 on average, and one frame tells nothing else of a sound: 0.85. `ceiling` states it for a corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.losses.similarity import place_map
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation, MapProjection, Projection
from mmssl.nn.matcher import Matcher
from mmssl.nn.teacher import Teacher
from mmssl.ops.loudness import loudness
from mmssl.ops.partners import near_rows
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, valid_rows
from mmssl.tasks.cross_modal.localization_rules import AvolNet, LocalizationRule, Projected
from mmssl.tasks.cross_modal.matching import NEAR_IN_TIME, matching_metrics, own_rows
from mmssl.tasks.views import frame, heard_from, sound, span_times


class LocalizationExample(NamedTuple):
    """Inputs and the draw of the partner."""

    picture: torch.Tensor  # float32 [B, 3, H, W] in [0, 1]
    wave: torch.Tensor  # float32 [B, S], the sound around the frame
    weight: torch.Tensor  # float32 [B]
    partner: torch.Tensor  # float64 [B], draws (or, of one time, times) that say whose sound each is compared with


class LocalizationMatcher(Matcher):
    """Projections of picture places and sounds into one space; the map is their scalar product.

    A place's vector keeps its length unless asked otherwise: standardised over all places of a batch, what is
    everywhere (the background) is short and what is rare is long, so that the maximum looks at things first. Sounds are
    unit vectors.

    Args:
        picture_width: channels of the image encoder's level.
        sound_width: width of the audio encoder.
        stride: which level of the image encoder gives the map.
        dimension: of the common space.
        sound_seconds: length of the sound that is compared with a frame.
        unit_places: whether places are unit vectors too, so that the map holds cosines.
        heads: parts of the space that are normalised apart; the map is the mean over them.
        dropout: share of the level's values hidden from the projection in training.
    """

    encoders: dict[str, str] = {"picture": "image", "sound": "audio"}  # noqa: RUF012

    def __init__(
        self,
        picture_width: int,
        sound_width: int,
        stride: int = 8,
        dimension: int = 128,
        sound_seconds: float = 1.0,
        unit_places: bool = False,
        heads: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.init_args: dict[str, Any] = {
            "picture_width": picture_width,
            "sound_width": sound_width,
            "stride": stride,
            "dimension": dimension,
            "sound_seconds": sound_seconds,
            "unit_places": unit_places,
            "heads": heads,
            "dropout": dropout,
        }
        self.stride = stride
        self.sound_seconds = sound_seconds
        self.unit_places, self.heads, self.dropout = unit_places, heads, dropout
        self.picture = MapProjection(picture_width, heads * dimension)
        self.sound = Projection(sound_width, heads * dimension)
        self.picture_scale = BatchStandardisation(heads * dimension)
        self.sound_scale = BatchStandardisation(heads * dimension)

    def project(self, modality: str, features: Features) -> torch.Tensor:
        """Rows of one modality before they are gathered: [B, D, h, w] of "picture" or [B, D] of "sound"."""
        if modality == "sound":
            return torch.as_tensor(self.sound(features.pooled))
        level = F.dropout(features.levels[self.stride], self.dropout, self.training)
        return torch.as_tensor(self.picture(level))

    def places(self, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of every place, float32 [N, D, h, w], of mean length about 1, from gathered rows of `project`."""
        scaled = self.picture_scale(projected, weight)
        return self._unit(scaled) if self.unit_places else torch.as_tensor(scaled * projected.shape[1] ** -0.5)

    def sounds(self, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors float32 [N, D] of gathered rows of `project`."""
        return self._unit(self.sound_scale(projected, weight))

    def _unit(self, scaled: torch.Tensor) -> torch.Tensor:
        """Each head's part of [N, D, ...] at length ``heads ** -0.5``, the whole at length 1."""
        parts = F.normalize(scaled.unflatten(1, (self.heads, -1)), dim=2)
        return torch.as_tensor(parts.flatten(1, 2) * self.heads**-0.5)

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors [B, D]; a picture's is the mean over its places."""
        projected = self.project(modality, features)
        if modality == "sound":
            return self.sounds(projected)
        return F.normalize(self.places(projected).mean(dim=(2, 3)), dim=1)

    def parts(self, modality: str, features: Features) -> torch.Tensor:
        """Vectors [B, P, D]: of every place of a picture, as the map compares them; one of a sound."""
        if modality == "sound":
            return self.embed(modality, features)[:, None]
        return self.places(self.project(modality, features)).flatten(2).transpose(1, 2)

    def similarity_map(self, picture: Features, sound: Features) -> torch.Tensor:
        """Scalar product of each place with the sound, float32 [B, h, w]; larger is closer."""
        return place_map(self.places(self.project("picture", picture)), self.embed("sound", sound))


class AVLocalization(PretextTask[Batch, LocalizationExample]):
    """Which sound belongs to a frame, judged by its best matching place ("Objects that sound", arXiv 1712.06651).

    Args:
        picture: span that the frame is drawn from.
        sound_seconds: length of the sound around the frame.
        size: (height, width) of the frames.
        stride: level of the image encoder that the map has.
        dimension: of the common space, of each head where the rule has several.
        rule: how the map is taught, one of `localization_rules`; `AvolNet` when left out.
        same_time: whether a clip is compared with the `NEAR_IN_TIME` clips before and after it in time only, in loss
            and accuracy; far fewer negatives, all of about the same time of their clips.
        quietest: clips quieter than this, in decibels of full scale, take no part.
        augment: mirror, shift and colour of the frame, volume of the sound.
        sound_rate: samples a second.
        ceiling: accuracy of a perfect model, where the corpus is known to keep it below 1.
    """

    uses: ClassVar = {"image": "image", "audio": "audio"}
    needs: ClassVar = ("picture", "sound")
    score = Score("accuracy", floor=0.5, ceiling=1.0)
    ablated_input: ClassVar = "sound"
    paired: ClassVar = ("wave",)
    negatives: ClassVar = True

    def __init__(
        self,
        picture: Span = Span(3.0, 8.0),
        sound_seconds: float = 1.0,
        size: tuple[int, int] = (96, 96),
        stride: int = 8,
        dimension: int = 128,
        rule: LocalizationRule | None = None,
        same_time: bool = False,
        quietest: float = -50.0,
        augment: bool = True,
        sound_rate: int = 16000,
        ceiling: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0.5 < ceiling <= 1:
            raise UserError(f"av_localization: ceiling must be in (0.5, 1], got {ceiling}")
        self.score = replace(type(self).score, ceiling=ceiling)
        self.picture = picture
        self.sound_seconds = sound_seconds
        self.stride = stride
        self.dimension = dimension
        self.rule = AvolNet() if rule is None else rule
        self.same_time = same_time
        self.quietest = quietest
        self.augment = augment
        self.sound_span = Span(max(picture.seconds, sound_seconds), sound_rate)
        self.window = Window(picture, self.sound_span, size=(size[0], size[1]))

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        width = encoders["image"].level_widths[self.stride]
        self.matcher = LocalizationMatcher(
            width,
            encoders["audio"].width,
            self.stride,
            self.dimension,
            self.sound_seconds,
            self.rule.unit_places,
            self.rule.heads,
            self.rule.dropout,
        )
        if self.rule.momentum is not None:
            self.teacher = Teacher(self._student(encoders), self.rule.momentum)

    def _student(self, encoders: Encoders) -> nn.ModuleDict:
        """What a teacher follows."""
        return nn.ModuleDict({"image": encoders["image"], "audio": encoders["audio"], "matcher": self.matcher})

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> LocalizationExample:
        """A drawn frame and the sound around it."""
        times = span_times(batch, self.picture)
        shown = (times < batch.duration[:, None]).sum(dim=1).clamp(min=1)  # frames before the clip's end
        chosen = times.gather(1, (draws.uniform("frame", (1,)) * shown[:, None]).long())
        picture = frame(batch, chosen, self.augment)
        # Centred on the frame, moved inside the sound that the window asks for.
        first = heard_from(batch, self.sound_span)
        start = chosen[:, 0] - self.sound_seconds / 2
        start = torch.minimum(torch.maximum(start, first), first + self.sound_span.seconds - self.sound_seconds)
        wave = sound(batch, start, self.sound_seconds, self.augment)
        # Loudness as recorded: whether a clip takes part must not hang on the drawn volume.
        heard = loudness(batch.audio_between(start, self.sound_seconds)) > self.quietest
        partner = draws.uniform("partner")
        if self.same_time:  # frames of one time are put in an order by the draw: that of the batch must not matter
            partner = chosen[:, 0] + partner / self.picture.rate
        return LocalizationExample(picture, wave, valid_rows(self, batch) * heard, partner)

    def forward(self, example: LocalizationExample, encoders: Encoders, moment: Moment) -> Outcome:
        """The rule's losses over the gathered batch."""
        picture, wave, weight, partner = example
        mel = encoders["audio"].frontend(wave)
        rows = own_rows(len(picture))
        weight, partner = distributed.gather(weight), distributed.gather(partner)
        seen, heard = encoders.encode("image", picture), encoders.encode("audio", mel)
        batch = self._project(self.matcher, seen, heard, weight)
        teacher: Projected | None = None
        if self.rule.momentum is not None:
            parts: Any = self.teacher.copied
            with torch.no_grad():
                teacher = self._project(parts["matcher"], parts["image"](picture), parts["audio"](mel), weight)
        if self.same_time:
            batch = batch._replace(rivals=near_rows(partner, weight > 0, NEAR_IN_TIME))
        losses, scores = self.rule(batch, weight, moment, teacher)
        # Before and after alike: else "not the later one" were an answer.
        shifts = (1, -1) if self.same_time else (1,)
        return Outcome(losses, matching_metrics(scores, weight, partner, rows, shifts))

    def _project(
        self, matcher: LocalizationMatcher, seen: Features, heard: Features, weight: torch.Tensor
    ) -> Projected:
        """The rows of all ranks in the common space; `weight` is that of all ranks."""
        places = distributed.gather(matcher.project("picture", seen))
        sounds = distributed.gather(matcher.project("sound", heard))
        return Projected(matcher.places(places, weight), matcher.sounds(sounds, weight))

    def after_step(self, encoders: Encoders, carries: Sequence[Mapping[str, torch.Tensor]], moment: Moment) -> None:
        """See `PretextTask.after_step`: a teacher follows."""
        if self.rule.momentum is not None:
            self.teacher.update(self._student(encoders))

    def exports(self) -> Matcher:
        """The projections and their map over the picture."""
        return self.matcher
