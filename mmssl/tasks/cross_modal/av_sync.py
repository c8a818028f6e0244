"""Audio-visual temporal synchronisation, AVTS.

Korbar, Tran and Torresani, "Cooperative learning of audio and video models from self-supervised synchronization",
arXiv 1807.00230. Positive: picture and sound of one instant. Easy negative: the sound of another clip. Hard negative:
the sound of the same clip at another time, with a gap. Curriculum: easy negatives only at first, then a share of
hard ones.

Counter-measures: positives and hard negatives have the same distribution of start times (which is which is drawn);
starts lie on one grid; where both sounds are alike (a steady hum) the hard negative is no negative and takes no part;
it is also left out where it is silent or behind the clip's end, else silence would mean "out of sync". The
embeddings keep the order in time: pooled over time, in sync and out of sync would look the same. The encoders have
no batch statistics, and the heads standardise in-sync and out-of-sync sounds of the whole batch together, so a clip and
its own hard negative in one batch betray nothing.

Departures from the paper:

- Picture and sound are compared at every place of the picture, and the score is the mean over places weighted by a
  softmax; AVTS pools over the picture, where several moving things drown each other. With such a score easy negatives
  alone teach much of the synchronisation.
- InfoNCE is the default. The margin loss keeps the paper's form, on a distance made from the score,
  ``sqrt(2 - 2 tanh(score))``, since a score over places is no distance of two embeddings.

To save compute the picture goes through its encoder once, and both sounds together through theirs.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.losses.info_nce import pair_nce, symmetric_info_nce
from mmssl.losses.margin import contrastive_margin
from mmssl.losses.similarity import place_scores
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation, Temperature, TimeKeepingProjection
from mmssl.nn.matcher import Matcher
from mmssl.ops.loudness import envelope_distance, loudness
from mmssl.ops.partners import ring_partner, win_rate
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.cross_modal.matching import own_rows, without_the_lonely
from mmssl.tasks.views import inside, picture_clip, sound, sub_clip_starts, sub_clip_times

LOSSES = ("info_nce", "margin")


class SyncExample(NamedTuple):
    """One picture clip and two sounds of the same length."""

    clip: torch.Tensor  # float32 [B, 3, T, H, W], from the first start
    wave: torch.Tensor  # float32 [2 B, S], in sync and, in the second half, out of sync
    weight: torch.Tensor  # float32 [B]
    told: torch.Tensor  # bool [B], whether the second sound makes a hard negative
    offset: torch.Tensor  # float64 [B], seconds by which the second sound is off
    partner: torch.Tensor  # float64 [B], draws that say whose sound is the easy negative
    hard: torch.Tensor  # bool [B], drawn with the final share of hard negatives: whose pair is hard (margin loss)


class SyncMatcher(Matcher):
    """Time-keeping projections of the places of a video clip and of a sound of the same instant.

    Picture and sound are compared point in time by point in time, at every place of the picture; the best places are
    the evidence: where several things move, only one of them makes the sound.

    Args:
        video_width: channels of the video encoder's last level.
        sound_width: channels times bands of the audio encoder's level.
        sound_stride: which level of the audio encoder is taken.
        steps: points in time.
        dimension: of the common space, for each point in time.
        sound_seconds: length of clip and sound.
    """

    encoders: dict[str, str] = {"picture": "video", "sound": "audio"}  # noqa: RUF012

    def __init__(
        self,
        video_width: int,
        sound_width: int,
        sound_stride: int,
        steps: int,
        dimension: int = 32,
        sound_seconds: float = 1.0,
    ) -> None:
        super().__init__()
        self.init_args: dict[str, Any] = {
            "video_width": video_width,
            "sound_width": sound_width,
            "sound_stride": sound_stride,
            "steps": steps,
            "dimension": dimension,
            "sound_seconds": sound_seconds,
        }
        self.sound_stride = sound_stride
        self.sound_seconds = sound_seconds
        self.video = TimeKeepingProjection(video_width, dimension, steps)
        self.sound = TimeKeepingProjection(sound_width, dimension, steps)
        self.video_scale = BatchStandardisation(dimension)
        self.sound_scale = BatchStandardisation(dimension)

    def project(self, modality: str, features: Features) -> torch.Tensor:
        """Rows of one modality before they are gathered: [B, D, t, h, w] of "picture" or [B, D, t] of "sound"."""
        if modality == "sound":
            return torch.as_tensor(self.sound(features.levels[self.sound_stride].flatten(1, 2)))
        return torch.as_tensor(self.video(features.levels[max(features.levels)]))

    def places(self, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of every place, float32 [N, D * t, h, w], of mean length about 1, from gathered rows of `project`."""
        flat = self.video_scale(projected, weight).flatten(1, 2)
        return torch.as_tensor(flat * flat.shape[1] ** -0.5)

    def sounds(self, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors float32 [N, D * t] of gathered rows of `project`."""
        return F.normalize(self.sound_scale(projected, weight).flatten(1), dim=1)

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors [B, D * t] of "picture" (the mean over its places) or "sound"."""
        projected = self.project(modality, features)
        if modality == "sound":
            return self.sounds(projected)
        return F.normalize(self.places(projected).mean(dim=(2, 3)), dim=1)


class AVSync(PretextTask[Batch, SyncExample]):
    """Whether picture and sound are of the same instant (AVTS, arXiv 1807.00230).

    Args:
        picture: span that both sub-clips lie in.
        clip_seconds: length of a sub-clip.
        gap: seconds at least between the two.
        size: (height, width) of the frames.
        easy_share: share of training with easy negatives alone.
        hard_share: share of hard negatives afterwards (AVTS: 0.25).
        loss: "info_nce" contrasts with every sound of the batch and, in the second part, with the hard negative;
            "margin" is the paper's pairwise loss. In batches of tens InfoNCE learns in far fewer steps (each clip
            meets all sounds at once), so it is the default.
        dimension: of the common space, for each point in time.
        temperature: at the start; it is learned.
        sharpness: temperature of the softmax over places; towards 0 it is the best place alone.
        margin: of the margin loss.
        alike: hard negatives whose loudness over time differs from the positive's by less than this, in decibels,
            are dropped (see `ops.loudness.envelope_distance`).
        quietest: clips quieter than this, in decibels of full scale, take no part.
        augment: mirror, shift and colour of the clip, volume of the sound.
        sound_rate: samples a second.
    """

    uses: ClassVar = {"video": "video", "audio": "audio"}
    needs: ClassVar = ("picture", "sound")
    score = Score("accuracy", floor=0.5, ceiling=1.0)
    ablated_input: ClassVar = "sound"
    paired: ClassVar = ("wave",)
    negatives: ClassVar = True

    def __init__(
        self,
        picture: Span = Span(3.0, 8.0),
        clip_seconds: float = 1.0,
        gap: float = 0.5,
        size: tuple[int, int] = (96, 96),
        easy_share: float = 0.5,
        hard_share: float = 0.25,
        loss: str = "info_nce",
        dimension: int = 32,
        temperature: float = 0.5,
        sharpness: float = 0.1,
        margin: float = 0.99,
        alike: float = 3.0,
        quietest: float = -50.0,
        augment: bool = True,
        sound_rate: int = 16000,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise UserError(f"av_sync: loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        if picture.seconds < 2 * clip_seconds + gap:
            raise UserError(
                f"av_sync: picture of {picture.seconds} s holds no two clips of {clip_seconds} s with a gap of {gap} "
                "s; lengthen picture or shorten clip_seconds"
            )
        for name, share in (("easy_share", easy_share), ("hard_share", hard_share)):
            if not 0 <= share <= 1:
                raise UserError(f"av_sync: {name} must be a share in [0, 1], got {share}")
        self.picture = picture
        self.clip_seconds = clip_seconds
        self.gap = gap
        self.easy_share = easy_share
        self.hard_share = hard_share
        self.loss = loss
        self.dimension = dimension
        self.start_temperature = temperature
        if sharpness <= 0:
            raise UserError(f"av_sync: sharpness must be above 0, got {sharpness}")
        self.sharpness = sharpness
        self.margin = margin
        self.alike = alike
        self.quietest = quietest
        self.augment = augment
        self.window = Window(picture, Span(picture.seconds, sound_rate), size=(size[0], size[1]))

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        video, audio = encoders["video"], encoders["audio"]
        steps = max(2, round(self.clip_seconds * self.picture.rate))
        # The coarsest level of the sound that is still as fine in time as the picture.
        frames = self.clip_seconds * audio.rate / audio.frontend.mel.hop_length
        fine = [stride for stride in audio.strides if frames / stride >= steps]
        stride = max(fine, default=min(audio.strides))
        width = audio.level_widths[stride] * (audio.frontend.mel.n_mels // stride)
        self.matcher = SyncMatcher(
            video.level_widths[max(video.strides)], width, stride, steps, self.dimension, self.clip_seconds
        )
        if self.loss == "info_nce":
            self.temperature = Temperature(self.start_temperature)

    def hard_now(self, moment: Moment) -> float:
        """Share of hard negatives at this moment of the curriculum."""
        return 0.0 if moment.progress < self.easy_share else self.hard_share

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> SyncExample:
        """A clip at one instant, the sound of that instant and of another."""
        a, b = sub_clip_starts(batch, self.picture, self.clip_seconds, self.gap)
        clip = picture_clip(batch, sub_clip_times(batch, self.picture, self.clip_seconds, self.gap), self.augment)
        together, elsewhere = (sound(batch, start, self.clip_seconds, self.augment) for start in (a, b))
        # Loudness as recorded: whether a clip takes part must not hang on the drawn volume.
        plain = [sound(batch, start, self.clip_seconds, augment=False) for start in (a, b)]
        there = [
            (loudness(wave) > self.quietest) & inside(batch, start, self.clip_seconds)
            for wave, start in zip(plain, (a, b), strict=True)
        ]
        return SyncExample(
            clip=clip,
            wave=torch.cat([together, elsewhere]),
            weight=valid_rows(self, batch) * there[0],
            told=there[1] & (envelope_distance(plain[0], plain[1], batch.audio_rate) > self.alike),
            offset=b - a,
            partner=draws.uniform("partner"),
            hard=draws.bernoulli("hard", self.hard_share),
        )

    def forward(self, example: SyncExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Contrast with other clips' sounds and, by the curriculum, with the same clip's sound at another time."""
        count = len(example.clip)
        mel = encoders["audio"].frontend(example.wave)
        video = self.matcher.project("picture", encoders.encode("video", example.clip))
        sounds = self.matcher.project("sound", encoders.encode("audio", mel))
        rows = own_rows(count)
        video, together, elsewhere, weight, told, partner, hard, offset = (
            distributed.gather(x)
            for x in (
                video,
                sounds[:count],
                sounds[count:],
                example.weight,
                example.told,
                example.partner,
                example.hard,
                example.offset,
            )
        )
        places = self.matcher.places(video, weight)
        hard_weight = torch.where(told, weight, torch.zeros_like(weight))
        # One standardisation for both: their statistics must not tell which is in sync.
        sounds = self.matcher.sounds(torch.cat([together, elsewhere]), torch.cat([weight, hard_weight]))
        together, elsewhere = sounds[: len(weight)], sounds[len(weight) :]
        similarity = place_scores(places, together, "softmax", self.sharpness)
        mismatch = place_scores(places, elsewhere, "softmax", self.sharpness).diagonal()
        other = ring_partner(partner, weight > 0)
        if self.loss == "info_nce":
            loss = self._contrast(similarity, mismatch, weight, hard_weight, moment)
        else:
            loss = self._margin(similarity, mismatch, other, weight, hard & told, moment)
        return Outcome({self.loss: loss}, self._metrics(similarity, mismatch, weight, hard_weight, other, offset, rows))

    @torch.no_grad()
    def _metrics(
        self,
        similarity: torch.Tensor,
        mismatch: torch.Tensor,
        weight: torch.Tensor,
        hard_weight: torch.Tensor,
        other: torch.Tensor,
        offset: torch.Tensor,
        rows: slice,
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Two-way accuracies against another clip's sound (easy), the clip's own at another time (hard), and both."""
        index = torch.arange(len(similarity), device=similarity.device)
        easy = win_rate(similarity[index, index], similarity[index, other])
        hard = win_rate(similarity[index, index], mismatch)
        both = torch.where(hard_weight > 0, (easy + hard) / 2, easy)
        paired = without_the_lonely(weight, other)
        far = offset.abs() >= self.clip_seconds + 2 * self.gap - 1e-6
        return {
            "accuracy": rate(both[rows], paired[rows]),
            "accuracy_easy": rate(easy[rows], paired[rows]),
            "accuracy_hard": rate(hard[rows], hard_weight[rows]),
            "accuracy_hard_near": rate(hard[rows], (hard_weight * ~far)[rows]),
            "accuracy_hard_far": rate(hard[rows], (hard_weight * far)[rows]),
        }

    def _contrast(
        self,
        similarity: torch.Tensor,
        mismatch: torch.Tensor,
        weight: torch.Tensor,
        hard_weight: torch.Tensor,
        moment: Moment,
    ) -> torch.Tensor:
        """InfoNCE among easy negatives and, once hard ones are due, a two-way one against the clip's other sound.

        The two are mixed by the share of hard negatives, as AVTS mixes its pairs.
        """
        easy = symmetric_info_nce(self.temperature(similarity), weight)
        share = self.hard_now(moment)
        if share == 0.0:
            return easy
        hard = pair_nce(self.temperature(similarity.diagonal()), self.temperature(mismatch), hard_weight)
        return (1.0 - share) * easy + share * hard

    def _margin(
        self,
        similarity: torch.Tensor,
        mismatch: torch.Tensor,
        other: torch.Tensor,
        weight: torch.Tensor,
        use_hard: torch.Tensor,
        moment: Moment,
    ) -> torch.Tensor:
        """The paper's loss: one positive and one negative pair a clip, the negative easy or hard.

        The distance of unit vectors is sqrt(2 - 2 cos); the scores, which are no cosines, are squashed to be some.
        """
        index = torch.arange(len(similarity), device=similarity.device)
        hard_now = use_hard if self.hard_now(moment) > 0 else torch.zeros_like(use_hard)
        negative = torch.where(hard_now, mismatch, similarity[index, other])
        # The square root's slope is infinite at 0.
        distance = (2.0 - 2.0 * torch.tanh(torch.cat([similarity.diagonal(), negative]))).clamp(min=1e-8).sqrt()
        label = torch.arange(2 * len(similarity), device=similarity.device) < len(similarity)
        alone = other == index
        negative_weight = torch.where(alone & ~hard_now, torch.zeros_like(weight), weight)
        return contrastive_margin(distance, label, torch.cat([weight, negative_weight]), self.margin)

    def exports(self) -> Matcher:
        """The projections."""
        return self.matcher
