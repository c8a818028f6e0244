"""Scores of an evaluation: each model over the seeds, the trivial baselines beside it, and what the difference says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmssl.evaluation.per_clip import PerClip
from mmssl.metrics.classification import confusion_matrix, mean_class_accuracy, top_k_hits
from mmssl.metrics.statistics import Interval


@dataclass(frozen=True)
class Judged:
    """How one model did on N test clips under S seeds.

    Args:
        video: float64 [S, N], hits of the views' mean probabilities.
        clip: float64 [S, N], mean hits of the views by themselves.
        predicted: int64 [S, N].
    """

    video: np.ndarray
    clip: np.ndarray
    predicted: np.ndarray

    @classmethod
    def empty(cls, seeds: int, clips: int) -> Judged:
        """Nothing judged yet: NaN everywhere."""
        nan = np.full((seeds, clips), np.nan)
        return cls(nan, nan.copy(), np.full((seeds, clips), -1))

    def put(self, seed: int, rows: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
        """Judge probabilities [n, V, C] of the clips `rows` against their labels [n]."""
        n, views, classes = scores.shape
        mean = scores.mean(axis=1)
        self.video[seed, rows] = top_k_hits(mean, labels)
        flat = top_k_hits(scores.reshape(n * views, classes), np.repeat(labels, views))
        self.clip[seed, rows] = flat.reshape(n, views).mean(axis=1)
        self.predicted[seed, rows] = mean.argmax(axis=1)

    def as_dict(self, labels: np.ndarray) -> dict[str, Any]:
        """Mean and standard deviation over seeds, and each seed's score, as fractions."""
        tested = ~np.isnan(self.video[0])
        by_seed = self.video[:, tested].mean(axis=1)
        by_class = [mean_class_accuracy(row[tested], labels[tested]) for row in self.video]
        return {
            "mean": float(by_seed.mean()),
            "std": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0,
            "seeds": [float(v) for v in by_seed],
            "clip_accuracy": float(self.clip[:, tested].mean()),
            "mean_class_accuracy": float(np.mean(by_class)),
        }

    def confusion(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Int64 [C, C], true classes in rows, summed over seeds."""
        rows, tested = len(self.video), ~np.isnan(self.video[0])
        return confusion_matrix(self.predicted[:, tested].ravel(), np.tile(labels[tested], rows), classes)


@dataclass(frozen=True)
class Scores:
    """What an evaluation gives.

    Args:
        name: of the evaluation.
        about: protocols, clips, classes, folds, views, decoder, seeds: what must be equal for scores to be compared.
        models: probe -> model -> {mean, std, seeds, ...}, accuracies as fractions.
        baselines: trivial predictors by name, fractions.
        differences: probe -> pretrained minus random init, paired by seed and clip.
        verdicts: probe -> what may be said of the difference.
        confusion: int64 [C, C] of the pretrained linear probe, true classes in rows, summed over seeds.
        per_clip: hits of each test clip by "probe/model", for comparisons of runs.
    """

    name: str
    about: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Mapping[str, Any]]]
    baselines: Mapping[str, float]
    differences: Mapping[str, Interval]
    verdicts: Mapping[str, str]
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    per_clip: PerClip | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`."""
        probes = {
            probe: {
                **models,
                "difference": self.differences[probe].as_dict() | {"verdict": self.verdicts[probe]},
            }
            for probe, models in self.models.items()
        }
        return {
            "evaluation": self.name,
            **self.about,
            "baselines": dict(self.baselines),
            **self.baselines,
            **probes,
            "confusion": self.confusion.tolist(),
        }

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The table for a person: name, accuracy, standard deviation, clip and mean class accuracy, in per cent."""
        table = []
        for probe, models in self.models.items():
            for model, found in models.items():
                numbers = [f"{100 * found[k]:.1f}" for k in ("mean", "std", "clip_accuracy", "mean_class_accuracy")]
                table.append((f"{probe}: {model.replace('_', ' ')}", *numbers))
        table += [(name.replace("_", " "), f"{100 * v:.1f}", "", "", "") for name, v in self.baselines.items()]
        return table  # type: ignore[return-value]

    def sentences(self) -> list[str]:
        """What may be said of pretrained against random init, a line a probe."""
        return [
            f"{probe}: pretrained minus random init {100 * d.mean:+.1f} points "
            f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]: {self.verdicts[probe]}"
            for probe, d in self.differences.items()
        ]
