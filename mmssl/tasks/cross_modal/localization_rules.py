"""How a map over the picture is taught by sound alone: the scoring rules of the localization family.

All of them compare every place of every picture with every sound of the batch and differ in what they make of it:
AVOL-Net (arXiv 1712.06651), LVS (2104.02691), EZ-VSL (2203.09324), SLAVC (2209.09634), FNAC (2303.11302). Published
numbers come from an image encoder trained on ImageNet; here it starts from scratch, and the vectors are standardised
over the batch before they are compared (`BatchStandardisation`), without which cosines of an untrained encoder are
all alike.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from mmssl.errors import UserError
from mmssl.losses.false_negatives import false_negative_terms
from mmssl.losses.info_nce import symmetric_info_nce
from mmssl.losses.multiple_instance import multiple_instance_nce
from mmssl.losses.similarity import POOLS, place_similarities, pool_places
from mmssl.losses.space_batch_softmax import space_batch_nce
from mmssl.losses.tri_map import tri_map_nce
from mmssl.nn.heads import Temperature
from mmssl.tasks.base import Moment


class Projected(NamedTuple):
    """A gathered batch in the common space."""

    places: torch.Tensor  # float32 [N, D, h, w]
    sounds: torch.Tensor  # float32 [N, D], unit vectors
    rivals: torch.Tensor | None = None  # bool [N, N], symmetric: who is compared with whom; None for all with all

    def similarities(self) -> torch.Tensor:
        """Every place of every picture with every sound, [N, N, P]."""
        return place_similarities(self.places, self.sounds)


#: What stands for the similarity of pairs that are not compared: no softmax gives it a share, and unlike with an
#: infinity none becomes NaN where a whole row of places holds it.
NOT_COMPARED = -1e4


def compared(similarity: torch.Tensor, rivals: torch.Tensor | None) -> torch.Tensor:
    """Similarities [N, N, ...] with `NOT_COMPARED` where rivals, bool [N, N], is false."""
    if rivals is None:
        return similarity
    return similarity.masked_fill(~rivals.reshape(*rivals.shape, *(1,) * (similarity.ndim - 2)), NOT_COMPARED)


class Judged(NamedTuple):
    """What a rule makes of a batch."""

    losses: Mapping[str, torch.Tensor]  # scalars
    scores: torch.Tensor  # [N, N], higher where picture i and sound j belong together


class LocalizationRule(nn.Module):
    """A loss over the similarities of places and sounds.

    Class attributes:
        heads: parts of the common space that are normalised apart.

    Attributes:
        unit_places: whether a place's vector has length 1 (its similarity is a cosine) or keeps its own.
        dropout: share of the image encoder's channels that training hides from the projection, at each place anew.
        momentum: of the teacher that gives the other side of each comparison, or None for no teacher.
    """

    heads: ClassVar[int] = 1

    unit_places: bool = True
    dropout: float = 0.0
    momentum: float | None = None

    @abstractmethod
    def forward(self, batch: Projected, weight: torch.Tensor, moment: Moment, teacher: Projected | None) -> Judged:
        """Losses and scores of a gathered batch.

        Args:
            batch: places and sounds.
            weight: float [N], 0 for rows that take no part.
            moment: where training stands.
            teacher: the same rows as the teacher sees them, where the rule has one.
        """


class AvolNet(LocalizationRule):
    """The best place counts (AVOL-Net, arXiv 1712.06651), in today's form: InfoNCE both ways, a learned temperature.

    A place's vector keeps its length: what is everywhere is short after the standardisation, what is rare is long.

    Args:
        temperature: at the start; it is learned.
        pool: "max" over places as published; "softmax" or "logsumexp" let more than one place learn at a time (see
            `losses.similarity.pool_places`).
        sharpness: temperature of the last two.
    """

    unit_places = False

    def __init__(self, temperature: float = 0.5, pool: str = "max", sharpness: float = 0.1) -> None:
        super().__init__()
        if pool not in POOLS:
            raise UserError(f"av_localization: pool must be one of {', '.join(POOLS)}, got {pool!r}")
        _positive(temperature=temperature, sharpness=sharpness)
        self.pool, self.sharpness = pool, sharpness
        self.temperature = Temperature(temperature, "av_localization: temperature")

    def forward(self, batch: Projected, weight: torch.Tensor, moment: Moment, teacher: Projected | None) -> Judged:
        """See `LocalizationRule.forward`."""
        scores = pool_places(batch.similarities(), self.pool, self.sharpness)
        logits = self.temperature(compared(scores, batch.rivals))
        return Judged({"info_nce": symmetric_info_nce(logits, weight)}, scores)


class Lvs(LocalizationRule):
    """Surely sounding places against surely silent ones of the same picture and all other sounds (arXiv 2104.02691).

    Args:
        temperature: of the cross-entropy.
        positive: cosine from which a place counts as sounding.
        negative: cosine below which it counts as silent.
        softness: width of both edges.
    """

    def __init__(
        self, temperature: float = 0.07, positive: float = 0.65, negative: float = 0.4, softness: float = 0.03
    ) -> None:
        super().__init__()
        _positive(temperature=temperature, softness=softness)
        if negative > positive:
            raise UserError(f"av_localization: negative={negative} must not be above positive={positive}")
        self.settings = {
            "temperature": temperature,
            "positive": positive,
            "negative": negative,
            "softness": softness,
        }

    def forward(self, batch: Projected, weight: torch.Tensor, moment: Moment, teacher: Projected | None) -> Judged:
        """See `LocalizationRule.forward`."""
        similarity = batch.similarities()
        loss = tri_map_nce(compared(similarity, batch.rivals), weight, **self.settings)
        return Judged({"tri_map": loss}, pool_places(similarity))


class EzVsl(LocalizationRule):
    """The cosine of the best place, contrasted both ways (arXiv 2203.09324).

    The published test adds an object detector's map with a weight of 0.6; that is no part of what is learned, see
    `mmssl.localization.prior`.

    Args:
        temperature: divides the cosines.
        dropout: see `LocalizationRule`.
    """

    def __init__(self, temperature: float = 0.03, dropout: float = 0.0) -> None:
        super().__init__()
        _positive(temperature=temperature)
        self.temperature, self.dropout = temperature, _share("dropout", dropout)

    def forward(self, batch: Projected, weight: torch.Tensor, moment: Moment, teacher: Projected | None) -> Judged:
        """See `LocalizationRule.forward`."""
        similarity = batch.similarities()
        loss = multiple_instance_nce(compared(similarity, batch.rivals), weight, self.temperature)
        return Judged({"multiple_instance": loss}, pool_places(similarity))


class Slavc(LocalizationRule):
    """Which place, and which sound: two heads that must agree, against a slow teacher (arXiv 2209.09634).

    Published for hundreds of thousands of steps on a pretrained encoder; short trainings from scratch want a quicker
    teacher and less dropout.

    Two cross-entropies: the student's pictures with the teacher's sounds, and the teacher's pictures with the student's
    sounds. As in the published code sounds are the candidates in *both*, so that by default pictures are told from no
    other pictures: the second term has the other student, not the other direction.

    Args:
        temperature: divides the cosines.
        dropout: see `LocalizationRule`; the teacher's features are dropped out as well.
        momentum: share of the old weights that the teacher keeps in a step.
        picture_candidates: whether the second term asks the other way round, which picture of the batch belongs to a
            sound; a departure from the published code, in the spirit of EZ-VSL's two directions.
    """

    heads = 2

    def __init__(
        self,
        temperature: float = 0.03,
        dropout: float = 0.9,
        momentum: float = 0.999,
        picture_candidates: bool = False,
    ) -> None:
        super().__init__()
        _positive(temperature=temperature)
        self.temperature = temperature
        self.picture_candidates = picture_candidates
        self.dropout, self.momentum = _share("dropout", dropout), _share("momentum", momentum)

    def forward(self, batch: Projected, weight: torch.Tensor, moment: Moment, teacher: Projected | None) -> Judged:
        """See `LocalizationRule.forward`."""
        assert teacher is not None
        student_pictures = self._logits(batch.places, teacher.sounds, batch.rivals)
        student_sounds = self._logits(teacher.places, batch.sounds, batch.rivals)
        if self.picture_candidates:
            student_sounds = student_sounds[0].transpose(0, 1), student_sounds[1].transpose(0, 1)
        losses = {
            "student_pictures": space_batch_nce(*student_pictures, weight),
            "student_sounds": space_batch_nce(*student_sounds, weight),
        }
        return Judged(losses, pool_places(batch.similarities()))

    def _logits(
        self, places: torch.Tensor, sounds: torch.Tensor, rivals: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [N, N, P] of the head over the batch and of that over space; each has half of the length."""
        halves = zip(places.chunk(2, dim=1), sounds.chunk(2, dim=1), strict=True)
        batch, space = (2 * place_similarities(p, s) / self.temperature for p, s in halves)
        return compared(batch, rivals), space


class Fnac(LocalizationRule):
    """EZ-VSL with soft targets from how alike the sounds, and the pictures, are among themselves (arXiv 2303.11302).

    Args:
        temperature: divides all cosines.
        dropout: see `LocalizationRule`.
        regulariser: weight of each of the three distances between distributions, beside the *sum* of EZ-VSL's two
            directions, as it is published for batches of 128; the distances are scaled so that it means the same in
            others (`PUBLISHED_CANDIDATES`). The contrast here is the mean of the two, so the distances are halved as
            well: the whole is half of the published loss.
        warmup: share of the training before they count; what is alike must have been learned first.
        threshold: of the foreground in a map scaled to 0..1.
    """

    def __init__(
        self,
        temperature: float = 0.03,
        dropout: float = 0.9,
        regulariser: float = 100.0,
        warmup: float = 0.15,
        threshold: float = 0.6,
    ) -> None:
        super().__init__()
        _positive(temperature=temperature)
        self.temperature, self.dropout = temperature, _share("dropout", dropout)
        self.regulariser, self.warmup, self.threshold = regulariser, _share("warmup", warmup), threshold

    def forward(self, batch: Projected, weight: torch.Tensor, moment: Moment, teacher: Projected | None) -> Judged:
        """See `LocalizationRule.forward`."""
        similarity = batch.similarities()
        contrast = multiple_instance_nce(compared(similarity, batch.rivals), weight, self.temperature)
        losses = {"multiple_instance": contrast}
        if moment.progress >= self.warmup:
            terms = false_negative_terms(
                batch.places.flatten(2),
                batch.sounds,
                similarity,
                weight,
                self.temperature,
                self.threshold,
                batch.rivals,
            )
            for name, term in zip(("sounds_pairs", "sounds_foregrounds", "pictures_pairs"), terms, strict=True):
                losses[name] = 0.5 * self.regulariser * term
        return Judged(losses, pool_places(similarity))


def _positive(**settings: float) -> None:
    for name, value in settings.items():
        if value <= 0:
            raise UserError(f"av_localization: {name} must be above 0, got {value}")


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise UserError(f"av_localization: {name} must be in [0, 1), got {value}")
    return value
