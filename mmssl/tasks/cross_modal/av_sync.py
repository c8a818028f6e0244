"""Audio-visual temporal synchronisation, AVTS.

Korbar, Tran and Torresani, "Cooperative learning of audio and video models from self-supervised synchronization",
arXiv 1807.00230. Positive: picture and sound of one instant. Easy negative: the sound of another clip. Hard negative:
the sound of the same clip at another time, with a gap. Super-hard negative: the sound of the same clip that overlaps
the right one by a fixed length. Curriculum: easy negatives only at first, then a share of hard ones, at last
super-hard ones among them (none by default: in the paper they did not help).

Counter-measures: positives and negatives of the same clip have the same distribution of start times (which is which
is drawn, among hard and among super-hard pairs alike); starts lie on one grid; where both sounds are alike (a steady
hum) the hard negative is no negative and takes no part;
it is also left out where it is silent or behind the clip's end, else silence would mean "out of sync". The
embeddings keep the order in time: pooled over time, in sync and out of sync would look the same. The encoders have
no batch statistics, and the heads standardise in-sync and out-of-sync sounds of the whole batch together, so a clip and
its own hard negative in one batch betray nothing.

*Time in the clip* is open among easy negatives by default, as in the paper: where a fade, a title or a jingle tells
picture and sound alike how far the clip is, another clip's sound of another time is told by it. `same_time` closes it.
Hard negatives are of another time by design: a fade tells them, and what it tells is the synchronisation asked for.

Departures from the paper:

- Picture and sound are compared at every place of the picture, and the score is the mean over places weighted by a
  softmax; AVTS pools over the picture, where several moving things drown each other. With such a score easy negatives
  alone teach much of the synchronisation.
- InfoNCE is the default. The margin loss keeps the paper's form, on a distance made from the score,
  ``sqrt(2 - 2 tanh(score))``, since a score over places is no distance of two embeddings.

To save compute the picture goes through its encoder once, and both sounds together through theirs.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.losses.info_nce import pair_nce, symmetric_info_nce
from mmssl.losses.similarity import place_scores
from mmssl.nn.encoders import Encoders
from mmssl.nn.heads import Temperature
from mmssl.nn.matcher import Matcher
from mmssl.ops.loudness import envelope_distance, loudness
from mmssl.ops.partners import near_rows, ring_partner
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, valid_rows
from mmssl.tasks.cross_modal.matching import NEAR_IN_TIME, own_rows
from mmssl.tasks.cross_modal.sync_matcher import SyncMatcher
from mmssl.tasks.cross_modal.sync_pairs import OFFSET_BIN, TOLERANCE, sync_margin, sync_metrics, sync_times
from mmssl.tasks.views import heard_from, inside, picture_clip, sound

LOSSES = ("info_nce", "margin")


class SyncExample(NamedTuple):
    """One picture clip and two sounds of the same length."""

    clip: torch.Tensor  # float32 [B, 3, T, H, W], from the first start
    wave: torch.Tensor  # float32 [2 B, S], in sync and, in the second half, out of sync
    weight: torch.Tensor  # float32 [B]
    told: torch.Tensor  # bool [B], whether the second sound makes a negative: hard, or super-hard where it overlaps
    offset: torch.Tensor  # float64 [B], seconds by which the second sound is off
    partner: torch.Tensor  # float64 [B], draws (or, of one time, times) that say whose sound is the easy negative
    direction: torch.Tensor  # float64 [B], draws; the batch's sum says whether the partner is the next or the last
    hard: torch.Tensor  # bool [B], drawn with the final share of hard negatives: whose pair is hard (margin loss)


class AVSync(PretextTask[Batch, SyncExample]):
    """Whether picture and sound are of the same instant (AVTS, arXiv 1807.00230).

    Args:
        picture: span that both sub-clips lie in.
        clip_seconds: length of a sub-clip.
        gap: seconds at least between the two.
        size: (height, width) of the frames.
        easy_share: share of training with easy negatives alone.
        hard_share: share of hard negatives afterwards (AVTS: 0.25).
        super_share: share of the clips whose negative of the same clip is super-hard instead of hard.
        super_from: share of training before which super-hard negatives do not count.
        overlap: seconds that a super-hard negative shares with the right sound.
        skew: seconds by which every sound is taken late, or early below 0: what a wrong clock would do. A trained model
            has to score lower with it.
        loss: "info_nce" contrasts with every sound of the batch and, in the second part, with the hard negative;
            "margin" is the paper's pairwise loss. In batches of tens InfoNCE learns in far fewer steps (each clip
            meets all sounds at once), so it is the default.
        dimension: of the common space, for each point in time.
        temperature: at the start; it is learned.
        sharpness: temperature of the softmax over places; towards 0 it is the best place alone.
        margin: of the margin loss.
        alike: hard negatives whose loudness over time differs from the positive's by less than this, in decibels,
            are dropped (see `ops.loudness.envelope_distance`).
        same_time: whether easy negatives are the `NEAR_IN_TIME` clips before and after in time only.
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
        super_share: float = 0.0,
        super_from: float = 0.75,
        overlap: float = 0.5,
        skew: float = 0.0,
        loss: str = "info_nce",
        dimension: int = 32,
        temperature: float = 0.5,
        sharpness: float = 0.1,
        margin: float = 0.99,
        alike: float = 3.0,
        same_time: bool = False,
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
        shares = {"easy_share": easy_share, "hard_share": hard_share}
        for name, share in (shares | {"super_share": super_share, "super_from": super_from}).items():
            if not 0 <= share <= 1:
                raise UserError(f"av_sync: {name} must be a share in [0, 1], got {share}")
        if super_share > 0 and not 0 < overlap <= clip_seconds - 1 / picture.rate:
            raise UserError(
                f"av_sync: overlap must be above 0 and at least a frame shorter than a clip of {clip_seconds} s, "
                f"got {overlap}"
            )
        if loss == "info_nce":
            Temperature.check(temperature, "av_sync: temperature")
        self.picture = picture
        self.clip_seconds = clip_seconds
        self.gap = gap
        self.easy_share = easy_share
        self.hard_share = hard_share
        self.super_share = super_share
        self.super_from = super_from
        self.overlap = overlap
        self.skew = skew
        self.loss = loss
        self.dimension = dimension
        self.start_temperature = temperature
        if sharpness <= 0:
            raise UserError(f"av_sync: sharpness must be above 0, got {sharpness}")
        self.sharpness = sharpness
        self.margin = margin
        self.alike = alike
        self.same_time = same_time
        self.quietest = quietest
        self.augment = augment
        self.sound_span = Span(picture.seconds + 2 * abs(skew), sound_rate)
        self.window = Window(picture, self.sound_span, size=(size[0], size[1]))

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

    @property
    def kinds(self) -> dict[str, tuple[float, float]]:
        """Negatives of the same clip by name of their accuracy: least and, not reached, most seconds that they are off.

        The kinds, and bins of half a second of all of them, as far as the window and the settings let them occur.
        """
        longest = self.picture.seconds - self.clip_seconds
        found = {"accuracy_hard": (self.clip_seconds, math.inf)}
        if self.super_share > 0:
            found["accuracy_super"] = (0.0, self.clip_seconds)
        for low in (OFFSET_BIN * n for n in range(math.floor(longest / OFFSET_BIN + TOLERANCE) + 1)):
            hard = low + OFFSET_BIN > self.clip_seconds + self.gap + TOLERANCE
            overlapping = (
                self.super_share > 0 and low <= self.clip_seconds - self.overlap + TOLERANCE < low + OFFSET_BIN
            )
            if hard or overlapping:
                found[f"accuracy_off_{low:g}"] = (low, low + OFFSET_BIN)
        return found

    def hard_now(self, moment: Moment) -> float:
        """Share of hard negatives at this moment of the curriculum."""
        return 0.0 if moment.progress < self.easy_share else self.hard_share

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> SyncExample:
        """A clip at one instant, the sound of that instant and of another."""
        a, b, times = sync_times(
            batch, draws, self.picture, self.clip_seconds, self.gap, self.super_share, self.clip_seconds - self.overlap
        )
        starts, decoded = zip(*(self._skewed(batch, start) for start in (a, b)), strict=True)
        together, elsewhere = (sound(batch, start, self.clip_seconds, self.augment) for start in starts)
        # Loudness as recorded: whether a clip takes part must not hang on the drawn volume.
        plain = [sound(batch, start, self.clip_seconds, augment=False) for start in starts]
        there = [
            (loudness(wave) > self.quietest) & inside(batch, start, self.clip_seconds) & known
            for wave, start, known in zip(plain, starts, decoded, strict=True)
        ]
        return SyncExample(
            clip=picture_clip(batch, times, self.augment),
            wave=torch.cat([together, elsewhere]),
            weight=valid_rows(self, batch) * (there[0] & inside(batch, a, self.clip_seconds)),
            told=there[1] & (envelope_distance(plain[0], plain[1], batch.audio_rate) > self.alike),
            offset=b - a,
            # Clips of one time are put in an order by the draw.
            partner=a + draws.uniform("partner") / self.picture.rate if self.same_time else draws.uniform("partner"),
            direction=draws.uniform("direction"),
            hard=draws.bernoulli("hard", self.hard_share),
        )

    def _skewed(self, batch: Batch, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Starts of sounds, float64 [B], by a clock that is off by `skew`, and which of them the window holds."""
        if self.skew == 0:
            return start, torch.ones_like(start, dtype=torch.bool)
        first = heard_from(batch, self.sound_span)
        last = first + (self.sound_span.seconds - self.clip_seconds)
        late = start + self.skew
        kept = torch.minimum(torch.maximum(late, first), last)
        return kept, (kept - late).abs() < 1e-4

    def forward(self, example: SyncExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Contrast with other clips' sounds and, by the curriculum, with the same clip's sound at another time."""
        count = len(example.clip)
        mel = encoders["audio"].frontend(example.wave)
        video = self.matcher.project("picture", encoders.encode("video", example.clip))
        sounds = self.matcher.project("sound", encoders.encode("audio", mel))
        rows = own_rows(count)
        video, together, elsewhere, weight, told, partner, direction, hard, offset = (
            distributed.gather(x)
            for x in (
                video,
                sounds[:count],
                sounds[count:],
                example.weight,
                example.told,
                example.partner,
                example.direction,
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
        rivals: torch.Tensor | None = None
        if self.same_time:
            # Before and after alike: else "not the later one" were an answer.
            other = torch.where(direction.sum() % 1 < 0.5, other, ring_partner(partner, weight > 0, -1))
            rivals = near_rows(partner, weight > 0, NEAR_IN_TIME)
        due = (offset.abs() >= self.clip_seconds - TOLERANCE) | (moment.progress >= self.super_from)
        if self.loss == "info_nce":
            loss = self._contrast(similarity, mismatch, weight, hard_weight * due, rivals, moment)
        else:
            same_clip = hard & told & due if self.hard_now(moment) > 0 else torch.zeros_like(hard)
            loss = sync_margin(similarity, mismatch, other, weight, same_clip, self.margin)
        metrics = sync_metrics(similarity, mismatch, weight, hard_weight, other, offset.abs(), self.kinds, rows)
        return Outcome({self.loss: loss}, metrics)

    def _contrast(
        self,
        similarity: torch.Tensor,
        mismatch: torch.Tensor,
        weight: torch.Tensor,
        hard_weight: torch.Tensor,
        rivals: torch.Tensor | None,
        moment: Moment,
    ) -> torch.Tensor:
        """InfoNCE among easy negatives and, once hard ones are due, a two-way one against the clip's other sound.

        The two are mixed by the share of hard negatives, as AVTS mixes its pairs.
        """
        logits = self.temperature(similarity)
        easy = symmetric_info_nce(logits if rivals is None else logits.masked_fill(~rivals, -torch.inf), weight)
        share = self.hard_now(moment)
        if share == 0.0:
            return easy
        hard = pair_nce(self.temperature(similarity.diagonal()), self.temperature(mismatch), hard_weight)
        return (1.0 - share) * easy + share * hard

    def exports(self) -> Matcher:
        """The projections."""
        return self.matcher
