"""Scores of cross-modal retrieval: every query's answers by every model, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmssl.evaluation.per_clip import PerClip
from mmssl.metrics.retrieval import (
    chance_hits_at,
    chance_median_rank,
    chance_ndcg_at,
    first_relevant_rank,
    hits_at,
    ndcg_of_each,
)
from mmssl.metrics.statistics import CHANCE_SAMPLES, Interval, at_chance, bootstrap, paired_difference, verdict

KS = (1, 5, 10)
NDCG = 30
CONTROLS = {"shuffled": "another clip's", "shuffled_within_label": "another's of the label"}
HEADLINE = "r_at_10"  # what a sentence is said of; by class it is nDCG


Ranked = tuple[np.ndarray, np.ndarray]  # similarity float [Q, G], and what is relevant, bool [Q, G]


@dataclass(frozen=True)
class Answers:
    """How Q queries were answered by one model.

    Args:
        each: name of a metric -> float64 [Q], NaN where a query has no relevant item: "r_at_1", ..., "rank" of the own
            pair; "ndcg_30" and "class_r_at_1", ... of the class.
    """

    each: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, own: Ranked | None, by_class: Ranked | None) -> Answers:
        """Judge similarities by the own pairs (each query has one) and by class (a query may have none)."""
        each: dict[str, np.ndarray] = {}
        if own is not None:
            each |= {f"r_at_{k}": hits_at(*own, k) for k in KS}
            each["rank"] = first_relevant_rank(*own)
        if by_class is not None:
            similarity, gain = by_class
            each[f"ndcg_{NDCG}"] = ndcg_of_each(similarity, gain, NDCG)
            known = gain.any(axis=1)
            for k in KS:
                hits = np.full(len(gain), np.nan)
                if known.any():
                    hits[known] = hits_at(similarity[known], gain[known], k)
                each[f"class_r_at_{k}"] = hits
        return cls(each)

    @staticmethod
    def chance(own: np.ndarray | None, gain: np.ndarray | None) -> dict[str, float]:
        """What a random order of the gallery gives, in closed form."""
        found: dict[str, float] = {}
        if own is not None:
            size, relevant = own.shape[1], own.sum(axis=1)
            found |= {f"r_at_{k}": float(chance_hits_at(relevant, size, min(k, size)).mean()) for k in KS}
            # With one relevant item each the median lies halfway between two ranks; else it is a rank.
            found["median_rank"] = (size + 1) / 2 if (relevant == 1).all() else chance_median_rank(relevant, size)
        if gain is not None and gain.any():
            size, relevant = gain.shape[1], gain.sum(axis=1)
            relevant = relevant[relevant > 0]
            found[f"ndcg_{NDCG}"] = chance_ndcg_at(gain, NDCG)
            found |= {f"class_r_at_{k}": float(chance_hits_at(relevant, size, min(k, size)).mean()) for k in KS}
        return found

    @classmethod
    def joined(cls, some: Sequence[Answers]) -> Answers:
        """The queries of several galleries, one after the other."""
        return cls({name: np.concatenate([one.each[name] for one in some]) for name in some[0].each})

    def only(self, kept: np.ndarray) -> Answers:
        """NaN for queries that are not kept, bool [Q]."""
        return Answers({name: np.where(kept, values, np.nan) for name, values in self.each.items()})

    def count(self) -> int:
        """Queries with an own pair that were judged."""
        return int((~np.isnan(self.each["rank"])).sum()) if "rank" in self.each else 0

    def means(self, kept: np.ndarray | None = None) -> dict[str, float]:
        """Means over the queries, and the median of the ranks; metrics without a query are left out."""
        found = {}
        for name, values in self.each.items():
            known = values[~np.isnan(values)] if kept is None else values[kept & ~np.isnan(values)]
            if len(known):
                found["median_rank" if name == "rank" else name] = float(
                    np.median(known) if name == "rank" else known.mean()
                )
        return found


@dataclass(frozen=True)
class Direction:
    """One modality asked by another.

    Args:
        pretrained: the trained model's answers.
        random_init: those of one random initialisation a seed.
        controls: the trained model's answers judged by a wrong truth.
        chance: a random order, averaged over galleries.
        gallery: int [Q], which gallery each query belongs to.
        groups: int [Q], queries of one source file, or of one and the same text, are resampled together.
        keys: [Q], the clips that the queries are of.
    """

    pretrained: Answers
    random_init: tuple[Answers, ...]
    controls: Mapping[str, Answers]
    chance: Mapping[str, float]
    gallery: np.ndarray
    groups: np.ndarray
    keys: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The metric that sentences and comparisons of runs are about."""
        return HEADLINE if HEADLINE in self.pretrained.each else f"ndcg_{NDCG}"

    def per_query(self) -> dict[str, np.ndarray]:
        """Model -> float64 [S, Q], each query's value of the headline; NaN where it has no relevant item."""
        models = {"pretrained": [self.pretrained], "random_init": self.random_init}
        models |= {name: [answers] for name, answers in self.controls.items()}
        return {name: np.stack([one.each[self.headline] for one in some]) for name, some in models.items()}

    def differences(self) -> dict[str, Interval]:
        """Metric -> pretrained minus random init, paired by seed and query (and resampled by group); not of ranks."""
        found = {}
        for name, ours in self.pretrained.each.items():
            known = ~np.isnan(ours)
            if name == "rank" or not known.any():
                continue
            theirs = np.stack([one.each[name][known] for one in self.random_init])
            found[name] = paired_difference(np.broadcast_to(ours[known], theirs.shape), theirs, self.groups[known])
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`."""
        by_seed = [one.means() for one in self.random_init]
        parts = [self.pretrained.means(self.gallery == number) for number in np.unique(self.gallery)]
        mean = {name: float(np.mean([one[name] for one in by_seed])) for name in by_seed[0]}
        spread = {name: _std([one[name] for one in by_seed]) for name in by_seed[0]}
        intervals = {
            name: bootstrap(values[~np.isnan(values)], self.groups[~np.isnan(values)]).as_dict()
            for name, values in self.pretrained.each.items()
            if name != "rank" and not np.isnan(values).all()
        }
        judged = {
            name: difference.as_dict() | {"verdict": verdict(difference)}
            for name, difference in self.differences().items()
        }
        return {
            "pretrained": {"metric": self.headline}
            | self.pretrained.means()
            | {"interval": intervals, "std_of_galleries": {n: _std([p[n] for p in parts if n in p]) for n in parts[0]}},
            "random_init": {"metric": self.headline} | mean | {"std": spread, "seeds": by_seed},
            "chance": {"metric": self.headline, **self.chance},
            **{
                name: {"metric": self.headline} | answers.means() | {"queries": answers.count()}
                for name, answers in self.controls.items()
            },
            "pretrained_minus_random_init": judged,
        }


@dataclass(frozen=True)
class RetrievalScores:
    """Scores of all directions.

    Args:
        about: protocol, head, spans, galleries, what was left out.
        directions: "picture_to_sound" and so on.
    """

    about: Mapping[str, Any]
    directions: Mapping[str, Direction]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`; recalls and nDCG as fractions, ranks from 1."""
        found = {name: direction.as_dict() for name, direction in self.directions.items()}
        return {"evaluation": "retrieval", **self.about, "directions": found}

    def per_clip(self) -> PerClip:
        """Each query's value of its direction's headline by "direction/model", for comparisons of runs.

        A query is a clip under a direction; under the other directions' rows it is NaN.
        """
        keys, groups, values = [], [], {}
        total, first = sum(len(direction.keys) for direction in self.directions.values()), 0
        for name, direction in self.directions.items():
            keys += [f"{name}: {key}" for key in direction.keys]
            groups += [f"{name}: {group}" for group in direction.groups.tolist()]
            for model, found in direction.per_query().items():
                values[f"{name}/{model}"] = np.full((len(found), total), np.nan)
                values[f"{name}/{model}"][:, first : first + len(direction.keys)] = found
            first += len(direction.keys)
        return PerClip(tuple(keys), tuple(groups), values)

    def rows(self) -> list[tuple[str, ...]]:
        """The table for a person, a block a direction: model, R@1, R@5, R@10, median rank, nDCG@30, R@1 by class."""
        columns = (*(f"r_at_{k}" for k in KS), "median_rank", f"ndcg_{NDCG}", "class_r_at_1")
        table = []
        for name, direction in self.directions.items():
            table.append((name.replace("_", " "), *("" for _ in columns)))
            models = {"pretrained": direction.pretrained.means()}
            by_seed = [one.means() for one in direction.random_init]
            models["random init"] = {key: float(np.mean([one[key] for one in by_seed])) for key in by_seed[0]}
            for control, answers in direction.controls.items():
                models[CONTROLS[control]] = answers.means()
            models["chance"] = dict(direction.chance)
            for model, found in models.items():
                values = [found.get(column) for column in columns]
                shown = [
                    "" if value is None else f"{value:.1f}" if column == "median_rank" else f"{100 * value:.1f}"
                    for column, value in zip(columns, values, strict=True)
                ]
                table.append((f"  {model}", *shown))
        return table

    def sentences(self) -> list[str]:
        """What may be said, a line a direction and metric."""
        lines = []
        for name, direction in self.directions.items():
            differences = direction.differences()
            for metric, words in ((HEADLINE, "R@10 of the own pair"), (f"ndcg_{NDCG}", f"nDCG@{NDCG} of the class")):
                if metric in differences:
                    d = differences[metric]
                    lines.append(
                        f"{name.replace('_', ' ')}, {words}: pretrained minus random init {100 * d.mean:+.1f} points "
                        f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]: {verdict(d)}"
                    )
            lines += self._against_chance(name, direction)
        return lines

    def _against_chance(self, name: str, direction: Direction) -> list[str]:
        hits = direction.pretrained.each.get(HEADLINE)
        chance = direction.chance.get(HEADLINE, 1.0)
        if hits is None or len(np.unique(direction.groups)) < CHANCE_SAMPLES or not 0 < chance < 1:
            return []
        stays = at_chance(float(hits.mean()), chance, len(hits))
        return [f"{name.replace('_', ' ')}: R@10 of the own pair is at chance"] if stays else []


def _std(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
