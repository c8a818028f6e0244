"""Subtitle matching: a clip and the sentences around it as a bag, MIL-NCE.

Miech et al., "End-to-end learning of visual representations from uncurated instructional videos", arXiv 1912.06430.
Subtitles come early or late and half of them speak of something else, so the clip's own and its neighbouring
sentences form a bag of which at least one is taken to fit.

Counter-measures: sentences of stop words alone are dropped; a sentence that says the same as one of the clip's own
bag is no negative for it. Default is the cosine with a learned temperature: the paper's bare dot product needs
batches of thousands to keep its scale in check, ours have tens (``normalise: false`` gives the paper's).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.losses.mil_nce import mil_nce
from mmssl.losses.similarity import bag_products
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation, Projection, Temperature
from mmssl.nn.matcher import Matcher
from mmssl.randomness import Draws, hash_name
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, valid_rows
from mmssl.tasks.cross_modal.matching import matching_metrics, own_rows
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
        bag: sentences a clip at most, nearest to its anchor.
        content_words: a sentence needs so many words that are no stop words.
        dimension: of the common space.
        normalise: cosine with a learned temperature, or the paper's bare dot product.
        temperature: at the start; it is learned.
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
        self.picture = picture
        self.clip_seconds = clip_seconds
        self.gap = gap
        self.bag = bag
        self.content_words = content_words
        self.dimension = dimension
        self.normalise = normalise
        self.start_temperature = temperature
        self.augment = augment
        self.window = Window(picture, text=True, size=(size[0], size[1]))

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        self.matcher = SubtitleMatcher(encoders["video"].width, encoders["text"].width, self.dimension, self.normalise)
        if self.normalise:
            self.temperature = Temperature(self.start_temperature)

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
        """MIL-NCE over the gathered batch, both axes."""
        count, bag = example.sentences.shape
        video = self.matcher.project("picture", encoders.encode("video", example.clip))
        ids, mask = example.token_ids.flatten(0, 1), example.token_mask.flatten(0, 1)
        text = self.matcher.project("text", encoders.encode("text", ids, mask)).reshape(count, bag, -1)
        video, text, sentences, meaning, weight, partner = (
            distributed.gather(x)
            for x in (video, text, example.sentences, example.meaning, example.weight, example.partner)
        )
        there = (sentences & (weight > 0)[:, None]).flatten()
        video = self.matcher.scale("picture", video, weight)
        text = self.matcher.scale("text", text.flatten(0, 1), there).reshape(text.shape)
        similarity = bag_products(video, text)
        logits = self.temperature(similarity) if self.normalise else similarity
        # Sentence k of clip j against each sentence of clip i's bag.
        same = (meaning[:, None, None, :] == meaning[None, :, :, None]) & sentences[:, None, None, :]
        loss = mil_nce(logits, sentences, weight, same.any(dim=3))
        # The best of a bag; a bag without a sentence belongs to a row that takes no part.
        best = similarity.detach().masked_fill(~sentences[None], -torch.inf).amax(dim=2)
        return Outcome({"mil_nce": loss}, matching_metrics(best, weight, partner, own_rows(count)))

    def exports(self) -> Matcher:
        """The projections."""
        return self.matcher
