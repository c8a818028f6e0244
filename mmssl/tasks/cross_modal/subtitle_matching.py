"""Subtitle matching: a clip and the sentences around it as a bag, MIL-NCE.

Miech et al., "End-to-end learning of visual representations from uncurated instructional videos", arXiv 1912.06430.
Subtitles come early or late and half of them speak of something else, so the clip's own and its neighbouring
sentences form a bag of which at least one is taken to fit.

Counter-measures: sentences of stop words alone are dropped; a sentence that says the same as one of the clip's own
bag is no negative for it; in the scores, what two bags share ties. Default is the cosine with a learned temperature:
the paper's bare dot product needs batches of thousands to keep its scale in check, ours have tens (``normalise:
false`` gives the paper's). A bag of one sentence is plain NCE.

Another rule, "ranking": every sentence of the bag makes a pair with the clip, pairs are ranked in both directions with
a margin, and a pair counts by how far it is to be trusted, as Watch and Learn (Zhong et al., "Watch and learn: mapping
language and noisy real-world videos with self-supervision", arXiv 2011.09634) does with an adversarial module. How
the trust is learned is OURS, not the paper's, whose objective was not at hand: a small network gives each pair a
weight in [0, 1]; the weights sum to a fixed share of the pairs; the matcher lowers the weighted ranking loss, and the
network raises the loss of what it leaves out, through a reversed gradient. So it looks for the pairs that the matcher
cannot explain, and since it sees only the two vectors it must find what such pairs have in common: noise.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.losses.mil_nce import mil_nce
from mmssl.losses.ranking import bidirectional_ranking
from mmssl.losses.similarity import bag_products
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation, Projection, Temperature
from mmssl.nn.matcher import Matcher
from mmssl.nn.pair_quality import PairQuality
from mmssl.ops.gradient import reversed_gradient
from mmssl.randomness import Draws, hash_name
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.cross_modal.matching import matching_metrics, own_rows, recall_metrics
from mmssl.tasks.views import picture_clip, span_times, sub_clip_times

STOP_WORDS = frozenset(
    "a about after all also am an and any are as at be been but by can could did do does for from get go got had has "
    "have he her here him his how i if in into is it its just like me more my no not now of oh on one or our out over "
    "really right she so some than that the their them then there these they this those to too uh um up us very was "
    "we well were what when where which who will with would yeah yes you your".split()
)


@lru_cache(maxsize=200_000)
def read_sentence(text: str) -> tuple[int, int]:
    """(words that are no stop words, int64 hash of the words): what a sentence is compared and filtered by."""
    words = re.findall(r"[^\W_]+", text.lower())
    return sum(word not in STOP_WORDS for word in words), hash_name(" ".join(words))


class SubtitleExample(NamedTuple):
    """A clip and its bag of K sentences."""

    clip: torch.Tensor  # float32 [B, 3, T, H, W]
    token_ids: torch.Tensor  # int64 [B, K, L]
    token_mask: torch.Tensor  # bool [B, K, L]
    sentences: torch.Tensor  # bool [B, K], which sentences take part
    meaning: torch.Tensor  # int64 [B, K], equal for sentences of the same words
    weight: torch.Tensor  # float32 [B]
    partner: torch.Tensor  # float64 [B], draws that say whose bag the score compares with


class SubtitleMatcher(Matcher):
    """Projections of video and text into one space.

    Args:
        video_width: width of the video encoder.
        text_width: width of the text encoder.
        dimension: of the common space.
        normalise: unit vectors, or vectors of free length as in the paper.
    """

    encoders: dict[str, str] = {"picture": "video", "text": "text"}  # noqa: RUF012

    def __init__(self, video_width: int, text_width: int, dimension: int = 128, normalise: bool = True) -> None:
        super().__init__()
        self.init_args: dict[str, Any] = {
            "video_width": video_width,
            "text_width": text_width,
            "dimension": dimension,
            "normalise": normalise,
        }
        self.normalise = normalise
        self.video = Projection(video_width, dimension)
        self.text = Projection(text_width, dimension)
        self.video_scale = BatchStandardisation(dimension)
        self.text_scale = BatchStandardisation(dimension)

    def project(self, modality: str, features: Features) -> torch.Tensor:
        """Rows [B, D] of "picture" or "text" before they are gathered."""
        return torch.as_tensor((self.text if modality == "text" else self.video)(features.pooled).float())

    def scale(self, modality: str, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors [N, D] of gathered rows of `project`; rows of weight 0 have no part in the batch's statistics."""
        if not self.normalise:
            return projected
        return F.normalize((self.text_scale if modality == "text" else self.video_scale)(projected, weight), dim=1)

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Vectors [B, D] of "picture" or "text"."""
        return self.scale(modality, self.project(modality, features))


class SubtitleMatching(PretextTask[Batch, SubtitleExample]):
    """Which bag of sentences belongs to a clip (MIL-NCE, arXiv 1912.06430).

    Args:
        picture: span of the picture.
        clip_seconds: length of the sub-clip that is encoded; the whole span when None. With the clip length and gap
            of `av_sync` both share one forward of the video encoder.
        gap: see `clip_seconds`.
        size: (height, width) of the frames.
        bag: sentences a clip at most, nearest to its anchor; 1 makes plain NCE of MIL-NCE.
        rule: "mil_nce": at least one sentence of the bag fits; "ranking": each makes a pair, weighed by a learned
            trust.
        content_words: a sentence needs so many words that are no stop words.
        dimension: of the common space.
        normalise: cosine with a learned temperature, or the paper's bare dot product.
        temperature: at the start; it is learned.
        margin: of the ranking.
        trusted: share of the pairs that the weights of the ranking sum to; 1 trusts all pairs alike.
        trusting: share of the training in which the weights' sum falls from all pairs to `trusted`.
        candidates: bags, the own one among them, that recall is counted over.
        augment: mirror, shift and colour of the clip.
    """

    uses: ClassVar = {"video": "video", "text": "text"}
    needs: ClassVar = ("picture", "text")
    score = Score("accuracy", floor=0.5, ceiling=1.0)
    ablated_input: ClassVar = "text"
    paired: ClassVar = ("token_ids", "token_mask", "sentences", "meaning")
    negatives: ClassVar = True

    def __init__(
        self,
        picture: Span = Span(3.0, 8.0),
        clip_seconds: float | None = None,
        gap: float = 0.5,
        size: tuple[int, int] = (96, 96),
        bag: int = 4,
        content_words: int = 1,
        dimension: int = 128,
        normalise: bool = True,
        temperature: float = 0.1,
        rule: Literal["mil_nce", "ranking"] = "mil_nce",
        margin: float = 0.2,
        trusted: float = 0.5,
        trusting: float = 0.3,
        candidates: int = 16,
        augment: bool = True,
    ) -> None:
        super().__init__()
        if clip_seconds is not None and picture.seconds < 2 * clip_seconds + gap:
            raise UserError(
                f"subtitle_matching: picture of {picture.seconds} s holds no two clips of {clip_seconds} s with a gap "
                f"of {gap} s (the second is av_sync's); lengthen picture or shorten clip_seconds"
            )
        if bag < 1:
            raise UserError(f"subtitle_matching: bag must be at least 1 sentence, got {bag}")
        if rule not in ("mil_nce", "ranking"):
            raise UserError(f"subtitle_matching: rule must be mil_nce or ranking, got {rule!r}")
        if rule == "ranking" and not normalise:
            raise UserError("subtitle_matching: the margin of a ranking is one of cosines; set normalise to true")
        if not 0 < trusted <= 1 or not 0 <= trusting <= 1:
            raise UserError(
                f"subtitle_matching: trusted must be in (0, 1] and trusting in [0, 1], got {trusted} and {trusting}"
            )
        if candidates < 2:
            raise UserError(f"subtitle_matching: candidates must be at least 2, got {candidates}")
        self.rule = rule
        self.margin = margin
        self.trusted, self.trusting = trusted, trusting
        self.candidates = candidates
        self.picture = picture
        self.clip_seconds = clip_seconds
        self.gap = gap
        self.bag = bag
        self.content_words = content_words
        self.dimension = dimension
        self.normalise = normalise
        if normalise and rule != "ranking":
            Temperature.check(temperature, "subtitle_matching: temperature")
        self.start_temperature = temperature
        self.augment = augment
        self.window = Window(picture, text=True, size=(size[0], size[1]))

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        self.matcher = SubtitleMatcher(encoders["video"].width, encoders["text"].width, self.dimension, self.normalise)
        if self.rule == "ranking":
            self.quality = PairQuality(self.dimension)
        elif self.normalise:
            self.temperature = Temperature(self.start_temperature)

    def trusted_now(self, moment: Moment) -> float:
        """Share of the pairs that the weights of the ranking sum to."""
        past = min(1.0, moment.progress / self.trusting) if self.trusting > 0 else 1.0
        return 1.0 - (1.0 - self.trusted) * past

    def _clip(self, batch: Batch) -> torch.Tensor:
        if self.clip_seconds is None:
            return picture_clip(batch, span_times(batch, self.picture), self.augment)
        return picture_clip(batch, sub_clip_times(batch, self.picture, self.clip_seconds, self.gap), self.augment)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> SubtitleExample:
        """The clip and its nearest sentences; what they say is compared by a hash of their words."""
        kept = batch.sentence_mask[:, : self.bag].clone()
        read = [[read_sentence(s.text) for s in row[: self.bag]] for row in batch.sentences]
        empty = (0, 0)
        filled = [row + [empty] * (kept.shape[1] - len(row)) for row in read]
        table = torch.tensor(filled, dtype=torch.int64, device=batch.device).reshape(len(batch), -1, 2)
        kept &= table[:, :, 0] >= self.content_words
        longest = int(batch.token_mask[:, : self.bag].sum(dim=2).max().clamp(min=1))
        weight = valid_rows(self, batch)
        return SubtitleExample(
            clip=self._clip(batch),
            token_ids=batch.token_ids[:, : self.bag, :longest],
            token_mask=batch.token_mask[:, : self.bag, :longest] & kept[:, :, None],
            sentences=kept,
            meaning=table[:, :, 1],
            weight=torch.where(kept.any(dim=1), weight, torch.zeros_like(weight)),
            partner=draws.uniform("partner"),
        )

    def forward(self, example: SubtitleExample, encoders: Encoders, moment: Moment) -> Outcome:
        """The rule over the gathered batch, both axes."""
        count, bag = example.sentences.shape
        video = self.matcher.project("picture", encoders.encode("video", example.clip))
        ids, mask = example.token_ids.flatten(0, 1), example.token_mask.flatten(0, 1)
        text = self.matcher.project("text", encoders.encode("text", ids, mask)).reshape(count, bag, -1)
        video, text, sentences, meaning, weight, partner = (
            distributed.gather(x)
            for x in (video, text, example.sentences, example.meaning, example.weight, example.partner)
        )
        rows = own_rows(count)
        there = sentences & (weight > 0)[:, None]
        video = self.matcher.scale("picture", video, weight)
        text = self.matcher.scale("text", text.flatten(0, 1), there.flatten()).reshape(text.shape)
        similarity = bag_products(video, text)
        # Sentence k of clip j against each sentence of clip i's bag.
        same = (meaning[:, None, None, :] == meaning[None, :, :, None]) & sentences[:, None, None, :]
        same = same.any(dim=3)
        # The best of a bag; a bag without a sentence belongs to a row that takes no part.
        best = similarity.detach().masked_fill(~sentences[None], -torch.inf).amax(dim=2)
        metrics = matching_metrics(best, weight, partner, rows)
        # Whole bags on both sides, and ties by lot. Sentences that a rival shares with the own bag are not struck from
        # it: the own bag would be the best of more draws, and whoever likes what all say would win without looking.
        metrics |= recall_metrics(best, weight, partner, rows, self.candidates)
        metrics |= recall_metrics(best.T, weight, partner, rows, self.candidates, "text_")
        if self.rule == "ranking":
            losses, trust = self._ranking(video, text, similarity, sentences, weight, same, moment)
            metrics["trust_of_nearest"] = rate(trust[rows, 0], there[rows, 0].float())
        else:
            logits = self.temperature(similarity) if self.normalise else similarity
            losses = {"mil_nce": mil_nce(logits, sentences, weight, same)}
        return Outcome(losses, metrics)

    def _ranking(
        self,
        video: torch.Tensor,
        text: torch.Tensor,
        similarity: torch.Tensor,
        sentences: torch.Tensor,
        weight: torch.Tensor,
        same: torch.Tensor,
        moment: Moment,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The weighted ranking, what the trust learns from, and the trust [N, K]."""
        there = sentences & (weight > 0)[:, None]
        cost = bidirectional_ranking(similarity, sentences, weight, same, self.margin)
        clips = video[:, None].expand_as(text).flatten(0, 1)
        trust = self.quality(clips, text.flatten(0, 1), there.flatten(), self.trusted_now(moment)).reshape(cost.shape)
        pairs = there.sum().clamp(min=1)
        left_out = reversed_gradient(torch.where(there, 1.0 - trust, torch.zeros_like(trust)))
        return {
            "ranking": (trust.detach() * cost).sum() / trust.detach().sum().clamp(min=1e-12),
            "trust": (left_out * cost.detach()).sum() / pairs,
        }, trust.detach()

    def exports(self) -> Matcher:
        """The projections."""
        return self.matcher
