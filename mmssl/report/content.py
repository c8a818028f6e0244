"""What a report says, as plain data: numbers, words, pictures as arrays, clips as bytes. No model, no torch.

Scores that are shares (accuracy, recall, peak in box) are fractions in [0, 1]; the page writes them in per cent.
Whatever was not measured stays empty, and the page says so in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Card:
    """One statement at the head of the page.

    `holds` is True or False where something was asked of the number, None where the number is only told.
    """

    title: str
    value: str
    evidence: str
    holds: bool | None = None


@dataclass(frozen=True)
class Bars:
    """What the numbers are asked to reach, as fractions; the defaults are those of the demo.

    Without it the page judges nothing but the pretext tasks.
    """

    action_gain: float = 0.20
    peak_in_box: float = 0.60
    above_centre_prior: float = 0.25
    above_motion_saliency: float = 0.15
    above_shuffled_sound: float = 0.15


@dataclass(frozen=True)
class Stage:
    """A stage of the run with its seconds; `planned` is None where nothing was planned."""

    name: str
    used: float
    planned: float | None = None


@dataclass(frozen=True)
class PretextRow:
    """Held-out score of one pretext task beside its floor and ceiling.

    `ablated` is the score of the same trained task with its informative input zeroed, `ablated_floor` the floor of
    that where it is not `floor`, `samples` the number of scored samples (it gives the interval in which a share counts
    as chance).
    """

    task: str
    score_name: str
    score: float
    floor: float
    ceiling: float
    ablated: float | None = None
    samples: int | None = None
    higher_is_better: bool = True
    asks: str = ""
    ablated_floor: float | None = None

    @property
    def is_share(self) -> bool:
        """Whether the score is a fraction of cases, to be written in per cent."""
        return self.ceiling == 1.0 and 0.0 <= self.floor < 1.0 and self.higher_is_better

    @property
    def reached(self) -> float:
        """Share of the way from floor to ceiling; 0 at the floor, 1 at the ceiling."""
        way = self.ceiling - self.floor
        return (self.score - self.floor) / way if way else 0.0


@dataclass(frozen=True)
class ProbeScore:
    """A score over seeds: mean, sample standard deviation, and the single scores."""

    mean: float
    std: float
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class ActionProbe:
    """Action transfer: frozen features, a linear probe and nearest neighbours, beside random init and chance.

    `interval` is the 95 % interval (low, high) of pretrained minus random init, paired by seed.
    `confusion[i, j]` counts clips of class i called j.
    """

    pretrained: ProbeScore
    random_init: ProbeScore
    chance: float
    knn_pretrained: ProbeScore | None = None
    knn_random_init: ProbeScore | None = None
    others: tuple[tuple[str, ProbeScore], ...] = ()
    interval: tuple[float, float] | None = None
    protocol: str = ""
    clips: int | None = None
    classes: tuple[str, ...] = ()
    confusion: np.ndarray | None = None


@dataclass(frozen=True)
class LocalizationRow:
    """Scores of one way to point at the sound: `name` is "model" or that of a baseline; None where not defined."""

    name: str
    peak_in_box: float | None = None
    ciou: float | None = None
    auc: float | None = None


@dataclass(frozen=True)
class Localization:
    """Sound localization: the row named "model" and its baselines, over `clips` clips with boxes."""

    rows: tuple[LocalizationRow, ...]
    clips: int | None = None
    protocol: str = ""

    def row(self, name: str) -> LocalizationRow | None:
        """Return the row of that name, or None."""
        return next((row for row in self.rows if row.name == name), None)


@dataclass(frozen=True)
class Spectrum:
    """Singular values of one encoder's features [N, D] over held-out clips, largest first.

    `std` is the mean standard deviation of the dimensions of unit-length features, over 1/sqrt(width): 1 spread
    evenly over the sphere, 0 collapsed. `random_init` are the singular values of the same architecture untrained,
    `samples` the number of clips, `warning` why the rank cannot be trusted.
    """

    encoder: str
    singular_values: np.ndarray
    std: float
    effective_rank: float
    width: int
    random_init: np.ndarray | None = None
    samples: int | None = None
    warning: str = ""


@dataclass(frozen=True)
class Overlay:
    """A clip with the map of its sound drawn over the picture.

    `poster` is a uint8 picture [H, W, 3] or the bytes of a PNG or JPEG; `clip` the bytes of an mp4 with sound.
    `hit` says whether the peak of the map lies in the true box (None: no box).
    """

    key: str
    poster: np.ndarray | bytes
    clip: bytes | None = None
    material: str = ""
    action: str = ""
    hit: bool | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Strip:
    """A few frames of a clip, uint8 [T, H, W, 3], with its key and label (None: unlabelled)."""

    key: str
    frames: np.ndarray
    label: str | None = None
    similarity: float | None = None


@dataclass(frozen=True)
class NeighbourRow:
    """A query clip and its nearest other clips, nearest first."""

    query: Strip
    neighbours: tuple[Strip, ...]


@dataclass(frozen=True)
class SubtitleExample:
    """A clip, the sentences offered to it best first with their scores, and the true one where it is known."""

    strip: Strip
    ranked: tuple[tuple[str, float], ...]
    true_sentence: str | None = None


@dataclass(frozen=True)
class ReportContent:
    """Everything on the page. `metrics` are the rows of `metrics.jsonl` as `read_metrics` gives them."""

    title: str
    subtitle: str = ""
    cards: tuple[Card, ...] = ()
    bars: Bars | None = None
    stages: tuple[Stage, ...] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    pretext: tuple[PretextRow, ...] = ()
    action: ActionProbe | None = None
    localization: Localization | None = None
    spectra: tuple[Spectrum, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    overlays_note: str = ""
    neighbours: tuple[NeighbourRow, ...] = ()
    neighbours_note: str = ""
    subtitles: tuple[SubtitleExample, ...] = ()
    configuration: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    notes: tuple[str, ...] = ()
