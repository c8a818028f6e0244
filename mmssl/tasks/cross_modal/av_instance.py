"""Audio-visual instance discrimination with cross-modal agreement, AVID-CMA.

Morgado, Vasconcelos and Misra, "Audio-visual instance discrimination with cross-modal agreement", arXiv 2004.12943. A
clip's picture is told from all others by its sound and the other way round, never picture by picture. Later, if asked
for, agreement: other samples that are alike in picture *and* sound become positives within each modality.

Counter-measures: negatives of the same sample (its entry of an epoch ago in the queue, or a repeat in the batch) are
masked out of the denominator with -inf. Both modalities of a sample stand at one index of the queue. Positives of the
agreement are never among its negatives. Within a modality its own logits are used (the public code scores them
against the cross-modal targets). Silence takes no part: it would only say "no match". Picture and sound are of the
same stretch of time, their start has one distribution, and the heads see statistics of the whole global batch alone.

*Time in the clip* is open by default, as in the paper: where a fade, a title or a jingle tells picture and sound alike
how far the clip is, samples of another time are told by it. `same_time` leaves those next in time as negatives.

Departures from the paper:

- A queue of the last samples instead of an indexed bank of all: a stream may have no end. Rows of the batch are
  negatives too, so there is something to learn from the first step.
- InfoNCE instead of binary NCE with a partition constant frozen after the first batch; T stays 0.07.
- The positive is this instant's own sound (or picture), fresh and with a gradient both ways, while the negatives of
  the queue are as old as their steps. The public code's positive is the bank's entry of the *video* (``index %
  num_samples``): without gradient, averaged over its crops with momentum 0.5, as stale as the negatives. So ours can be
  lowered in two ways that theirs cannot: what drifts from step to step tells the positive from the queue (not from the
  batch, whose rows are as fresh, nor does it help the score, which asks among these alone), and what happens at this
  instant tells it from everything, so that timing alone may solve the task. Neither is closed here.
- Positives of the agreement are mined anew every step from the queue, not every few epochs from the bank, and
  contrasted with all other entries, not with 64 of them.
- There are 2 of them, not 32. The paper's 32 are of a bank of 232,067 entries, 0.014 %; of a queue of 1024 they would
  be 3.1 %. On 400 balanced classes 1024 entries hold 2.6 of a row's class, so that 29 of 32 would be of other classes.
- With ``agreement_from: 500``, as the settings files have it, a run of 300 steps is AVID without CMA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.losses.agreement import agreement_nce, consensus_positives
from mmssl.losses.info_nce import info_nce
from mmssl.losses.similarity import products
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation, Projection
from mmssl.nn.matcher import Matcher
from mmssl.nn.queue import EmbeddingQueue
from mmssl.ops.partners import choice_rate, near_rows
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.cross_modal.clip_and_sound import clip_and_sound
from mmssl.tasks.cross_modal.matching import NEAR_IN_TIME, own_rows
from mmssl.tasks.identity import sample_ids
from mmssl.tasks.views import span_times

CHOICES = 8  # candidates of the score, so that its floor is 1/8 whatever the batch size


class InstanceExample(NamedTuple):
    """A clip, its sound and who it is."""

    clip: torch.Tensor  # float32 [B, 3, T, H, W] in [0, 1]
    wave: torch.Tensor  # float32 [B, S]
    weight: torch.Tensor  # float32 [B]
    ids: torch.Tensor  # int64 [B], alike for rows of one sample
    place: torch.Tensor  # float64 [B], the clip's time, by less than a frame late, so that no two are of one time


class InstanceMatcher(Matcher):
    """Projections of whole clips and sounds into one space.

    Args:
        video_width: width of the video encoder.
        sound_width: width of the audio encoder.
        dimension: of the common space.
        hidden: width between.
        sound_seconds: length of the sound that is compared with a clip.
    """

    encoders: dict[str, str] = {"picture": "video", "sound": "audio"}  # noqa: RUF012

    def __init__(
        self,
        video_width: int,
        sound_width: int,
        dimension: int = 128,
        hidden: int = 512,
        sound_seconds: float = 2.0,
    ) -> None:
        super().__init__()
        self.init_args: dict[str, Any] = {
            "video_width": video_width,
            "sound_width": sound_width,
            "dimension": dimension,
            "hidden": hidden,
            "sound_seconds": sound_seconds,
        }
        self.sound_seconds = sound_seconds
        self.picture = Projection(video_width, dimension, hidden)
        self.sound = Projection(sound_width, dimension, hidden)
        self.picture_scale = BatchStandardisation(dimension)
        self.sound_scale = BatchStandardisation(dimension)

    def project(self, modality: str, features: Features) -> torch.Tensor:
        """Rows [B, D] of "picture" or "sound" before they are gathered."""
        head = self.sound if modality == "sound" else self.picture
        return torch.as_tensor(head(features.pooled))

    def unit(self, modality: str, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors float32 [N, D] of gathered rows of `project`."""
        scale = self.sound_scale if modality == "sound" else self.picture_scale
        return F.normalize(scale(projected, weight), dim=1)

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors [B, D] of "picture" or "sound"."""
        return self.unit(modality, self.project(modality, features))


class AVInstance(PretextTask[Batch, InstanceExample]):
    """Which sound is a clip's own, and which picture a sound's (AVID, arXiv 2004.12943).

    Args:
        picture: span of the clip.
        sound_seconds: length of the sound about it; longer than the clip, as published, it says more of what it is.
        size: (height, width) of the frames.
        queue: samples whose embeddings are kept as negatives; far fewer than the corpus has.
        dimension: of the common space.
        hidden: width of the projections between their layers.
        temperature: of the contrast; not learned.
        agreement_from: step from which the agreement takes part; null for never. The positives mean something only
            when the instance discrimination has learned.
        positives: entries of the queue that become positives of a row; no more than the queue holds of a kind, with
            1024 entries of 400 balanced classes 2.6 (AVID-CMA: 32 of a bank of 232,067).
        same_time: whether negatives are the `NEAR_IN_TIME` clips of the batch before and after in time only, and the
            nearest in time of the queue, four for every hundred places; the score then chooses among the four before
            and after. The agreement still looks at all of the queue.
        clip_number: part of a key that numbers the clips of a video, see `tasks.identity.sample_ids`.
        quietest: clips quieter than this, in decibels of full scale, take no part.
        augment: mirror, shift and colour of the clip, volume of the sound.
        sound_rate: samples a second.
    """

    uses: ClassVar = {"video": "video", "audio": "audio"}
    needs: ClassVar = ("picture", "sound")
    score = Score("accuracy", floor=1 / CHOICES, ceiling=1.0)
    ablated_input: ClassVar = "sound"
    paired: ClassVar = ("wave",)
    negatives: ClassVar = True

    def __init__(
        self,
        picture: Span = Span(1.0, 8.0),
        sound_seconds: float = 2.0,
        size: tuple[int, int] = (96, 96),
        queue: int = 1024,
        dimension: int = 128,
        hidden: int = 512,
        temperature: float = 0.07,
        agreement_from: int | None = None,
        positives: int = 2,
        same_time: bool = False,
        clip_number: str = "",
        quietest: float = -50.0,
        augment: bool = True,
        sound_rate: int = 16000,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f"av_instance: temperature must be above 0, got {temperature}")
        if not 1 <= positives < queue:
            raise UserError(f"av_instance: positives must be 1 or more and fewer than queue ({queue}), got {positives}")
        self.picture = picture
        self.sound_seconds = sound_seconds
        self.capacity = queue
        self.dimension, self.hidden = dimension, hidden
        self.temperature = temperature
        self.agreement_from, self.positives = agreement_from, positives
        self.same_time = same_time
        self.clip_number = clip_number
        self.quietest = quietest
        self.augment = augment
        self.sound_span = Span(max(picture.seconds, sound_seconds), sound_rate)
        self.window = Window(picture, self.sound_span, size=(size[0], size[1]))

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        self.matcher = InstanceMatcher(
            encoders["video"].width, encoders["audio"].width, self.dimension, self.hidden, self.sound_seconds
        )
        self.queue = EmbeddingQueue(self.capacity, {"video": self.dimension, "audio": self.dimension})
        if self.same_time:
            self.times = EmbeddingQueue(self.capacity, {"place": 1}, unit=False)  # of the queue's samples

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> InstanceExample:
        """The clip, the sound about its middle, and the sample's id."""
        clip, wave, there = clip_and_sound(
            batch, self.picture, self.sound_span, self.sound_seconds, self.augment, self.quietest
        )
        place = span_times(batch, self.picture)[:, 0] + draws.uniform("place") / self.picture.rate
        return InstanceExample(clip, wave, valid_rows(self, batch) * there, sample_ids(batch, self.clip_number), place)

    def forward(self, example: InstanceExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-modal InfoNCE over the gathered batch and the queue; later half of it, and half of the agreement."""
        clip, wave, weight, ids, place = example
        mel = encoders["audio"].frontend(wave)
        video = self.matcher.project("picture", encoders.encode("video", clip))
        audio = self.matcher.project("sound", encoders.encode("audio", mel))
        rows = own_rows(len(clip))
        video, audio, weight, ids, place = (distributed.gather(x) for x in (video, audio, weight, ids, place))
        video, audio = self.matcher.unit("picture", video, weight), self.matcher.unit("sound", audio, weight)
        scores = products(video, audio)
        rivals = (ids[:, None] != ids[None]) & (weight > 0)[None]
        others = self.queue.others(ids)
        near, near_queued, choices = rivals, others, rivals
        if self.same_time:
            near = rivals & near_rows(place, weight > 0, NEAR_IN_TIME)
            near_queued = self._near_queued(place, others)
            choices = rivals & near_rows(place, weight > 0, CHOICES // 2)
        metrics = self._metrics(scores, choices, weight, rows)
        losses = {"instance": self._instance(scores, video, audio, near, near_queued, weight)}
        if self.agreement_from is not None and moment.step >= self.agreement_from:
            agreement, consensus = self._agreement(video, audio, others, weight)
            losses = {"instance": 0.5 * losses["instance"], "agreement": 0.5 * agreement}
            metrics["consensus"] = rate(consensus[rows], weight[rows])
        carry = {"video": video.detach(), "audio": audio.detach(), "ids": ids, "weight": weight, "place": place}
        return Outcome(losses, metrics, carry)

    def _near_queued(self, place: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Bool [N, C]: those of the other samples in the queue, `others`, that are next in time to each row."""
        apart = (place[:, None].float() - self.times.vectors("place")[:, 0]).abs().masked_fill(~others, torch.inf)
        kept = -(-2 * NEAR_IN_TIME * self.capacity // 100)
        return others & (apart <= apart.kthvalue(kept, dim=1, keepdim=True).values)

    def _instance(
        self,
        scores: torch.Tensor,
        video: torch.Tensor,
        audio: torch.Tensor,
        rivals: torch.Tensor,
        others: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """Picture against all sounds, sound against all pictures; rows of the same sample are no negatives."""
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)

        def contrast(scores: torch.Tensor, anchors: torch.Tensor, name: str) -> torch.Tensor:
            queued = products(anchors, self.queue.vectors(name)).masked_fill(~others, -torch.inf)
            near = scores.masked_fill(~rivals & ~own, -torch.inf)
            return info_nce(near / self.temperature, weight, queued / self.temperature)

        return 0.5 * (contrast(scores, video, "audio") + contrast(scores.T, audio, "video"))

    def _agreement(
        self, video: torch.Tensor, audio: torch.Tensor, others: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss within both modalities, and the mean consensus [N] of the positives."""
        by_video, by_audio = products(video, self.queue.vectors("video")), products(audio, self.queue.vectors("audio"))
        positives, consensus = consensus_positives(by_video, by_audio, others, self.positives)
        negatives = others & ~positives
        within = [agreement_nce(s / self.temperature, positives, negatives, weight) for s in (by_video, by_audio)]
        mean = (consensus * positives).sum(dim=1) / positives.sum(dim=1).clamp(min=1)
        return 0.5 * (within[0] + within[1]), mean

    @torch.no_grad()
    def _metrics(
        self, scores: torch.Tensor, rivals: torch.Tensor, weight: torch.Tensor, rows: slice
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Choosing the own sound, or the own picture, among eight, over all choices of seven others of the batch."""
        own = scores.diagonal()
        enough = torch.where(rivals.sum(dim=1) >= CHOICES - 1, weight, torch.zeros_like(weight))[rows]
        of_sound = choice_rate(own, scores, rivals, CHOICES)[rows]
        of_picture = choice_rate(own, scores.T, rivals, CHOICES)[rows]
        return {
            "accuracy": rate((of_sound + of_picture) / 2, enough),
            "accuracy_sound": rate(of_sound, enough),
            "accuracy_picture": rate(of_picture, enough),
        }

    def after_step(self, encoders: Encoders, carries: Sequence[Mapping[str, torch.Tensor]], moment: Moment) -> None:
        """Let the step's rows enter the queue, after the loss against the queue as it was."""
        for carry in carries:
            rows = {"video": carry["video"], "audio": carry["audio"]}
            self.queue.push(rows, carry["ids"], carry["weight"] > 0)
            if self.same_time:
                self.times.push({"place": carry["place"][:, None].float()}, carry["ids"], carry["weight"] > 0)

    def exports(self) -> Matcher:
        """The projections."""
        return self.matcher
