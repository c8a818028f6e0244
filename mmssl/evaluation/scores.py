"""Scores of an evaluation: each model over the seeds, the trivial baselines beside it, and what the difference says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmssl.evaluation.judged import RECALL_AT, Judged
from mmssl.evaluation.per_clip import PerClip
from mmssl.metrics.statistics import Interval, verdict

__all__ = ["Judged", "Scores"]

COLUMNS = ("accuracy in %", "video [95 %]", "std seeds", "std folds", "clip", "mean of classes", "top-5")
RETRIEVAL_COLUMNS = ("nearest train clips, in %", *(f"R@{k}" for k in RECALL_AT), "median rank")


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
        confusion: int64 [C, C] of the pretrained encoder by the first probe (linear where it is among them), true
            classes in rows, summed over seeds and folds.
        beside: probe -> baseline that needs no network -> pretrained minus it, paired by seed and clip.
        retrieval_chance: R@k by k and `median_rank` of a random order, in closed form, where clips were retrieved.
        per_clip: hits of each test clip by "probe/model", for comparisons of runs.
    """

    name: str
    about: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Mapping[str, Any]]]
    baselines: Mapping[str, float]
    differences: Mapping[str, Interval]
    verdicts: Mapping[str, str]
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    beside: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    retrieval_chance: Mapping[str, float] = field(default_factory=dict)
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
        beside = {
            probe: {name: gap.as_dict() | {"verdict": verdict(gap)} for name, gap in gaps.items()}
            for probe, gaps in self.beside.items()
        }
        return {
            "evaluation": self.name,
            **self.about,
            "baselines": dict(self.baselines),
            **self.baselines,
            **probes,
            "beside": beside,
            **({"retrieval_chance": dict(self.retrieval_chance)} if self.retrieval_chance else {}),
            "confusion": self.confusion.tolist(),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """The table for a person, in per cent, columns as in `COLUMNS`."""
        table: list[tuple[str, ...]] = []
        for probe, models in self.models.items():
            for model, found in models.items():
                low, high = found.get("interval", (None, None))
                spread = "" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
                table.append(
                    (
                        f"{probe}: {_words(model)}",
                        f"{100 * found['mean']:.1f}{spread}",
                        f"{100 * found['std']:.1f}",
                        _percent(found.get("folds", {}).get("std")),
                        _percent(found.get("clip_accuracy")),
                        _percent(found.get("mean_class_accuracy")),
                        _percent(found.get("top5_accuracy")),
                    )
                )
        return table + [(_words(name), f"{100 * v:.1f}", *[""] * 5) for name, v in self.baselines.items()]

    def retrieval_rows(self) -> list[tuple[str, ...]]:
        """The table of retrieval, columns as in `RETRIEVAL_COLUMNS`; empty where nothing was retrieved."""
        table = [
            (
                _words(model),
                *(_percent(found["recall_at"][str(k)]) for k in RECALL_AT),
                f"{found['median_rank']:.1f}",
            )
            for models in self.models.values()
            for model, found in models.items()
            if "recall_at" in found
        ]
        if self.retrieval_chance:
            chance = self.retrieval_chance
            found = (_percent(chance[str(k)]) for k in RECALL_AT)
            table.append(("chance, closed form", *found, f"{chance['median_rank']:.1f}"))
        return table

    def sentences(self) -> list[str]:
        """Every claim that may be made, with its interval: pretrained against random init and against what is free."""
        told = []
        for probe, gap in self.differences.items():
            told.append(_claim(probe, "random init", gap, self.verdicts[probe]))
            told += [_claim(probe, _words(n), g, verdict(g)) for n, g in self.beside.get(probe, {}).items()]
        return told


def _claim(probe: str, other: str, gap: Interval, words: str) -> str:
    return (
        f"{probe}: pretrained minus {other} {100 * gap.mean:+.1f} points "
        f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]: {words}"
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
