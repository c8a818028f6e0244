"""How one model did on test clips: hits by seed, fold and clip, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmssl.evaluation.per_clip import PerClip
from mmssl.metrics.classification import confusion_matrix, mean_class_accuracy, top_k_hits
from mmssl.metrics.retrieval import first_relevant_rank, hits_at
from mmssl.metrics.statistics import bootstrap

TOP = 5
RECALL_AT = (1, 5, 10, 20)


@dataclass(frozen=True)
class Trial:
    """The test clips of one fold under one seed.

    Args:
        seed, fold: which.
        rows: int [n], the clips.
        hits: float64 [n], of the views' mean probabilities.
        top5: float64 [n], hits among the five likeliest; None with five classes or fewer, and of a retrieval.
        ranks: float64 [n], of the first train clip of the same class; None unless it is a retrieval.
        recall: k -> float64 [n], hits among the k nearest train clips, of a retrieval.
    """

    seed: int
    fold: int
    rows: np.ndarray
    hits: np.ndarray
    predicted: np.ndarray
    top5: np.ndarray | None = None
    ranks: np.ndarray | None = None
    recall: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """How one model did on N test clips under S seeds.

    Args:
        video: float64 [S, N], hits of the views' mean probabilities; the mean over folds where several test a clip.
        clip: float64 [S, N], mean hits of the views by themselves.
        predicted: int64 [S, N], in the last fold that tests the clip.
        trials: every seed and fold by itself.
    """

    video: np.ndarray
    clip: np.ndarray
    predicted: np.ndarray
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def empty(cls, seeds: int, clips: int) -> Judged:
        """Nothing judged yet: NaN everywhere."""
        nan = np.full((seeds, clips), np.nan)
        return cls(nan, nan.copy(), np.full((seeds, clips), -1))

    def put(
        self,
        seed: int,
        rows: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        fold: int = 0,
        similarity: np.ndarray | None = None,
        gallery: np.ndarray | None = None,
    ) -> None:
        """Judge probabilities [n, V, C] of the clips `rows` against their labels [n].

        Args:
            seed: number of the seed.
            rows: int [n], the clips.
            scores: [n, V, C].
            labels: int [n].
            fold: number of the fold.
            similarity: float [n, G] to the train clips: the hit is then that of the nearest one.
            gallery: int [G], labels of the train clips, with `similarity`.
        """
        n, views, classes = scores.shape
        mean = scores.mean(axis=1)
        predicted = mean.argmax(axis=1)
        if similarity is None or gallery is None:
            hits = top_k_hits(mean, labels)
            flat = top_k_hits(scores.reshape(n * views, classes), np.repeat(labels, views))
            clip = flat.reshape(n, views).mean(axis=1)
            top5 = top_k_hits(mean, labels, TOP) if classes > TOP else None
            trial = Trial(seed, fold, rows, hits, predicted, top5)
        else:
            relevant = gallery[None, :] == labels[:, None]
            recall = {k: hits_at(similarity, relevant, k) for k in RECALL_AT}
            hits = clip = recall[1]
            trial = Trial(seed, fold, rows, hits, predicted, None, first_relevant_rank(similarity, relevant), recall)
        counts = np.zeros(self.video.shape[1])
        for other in self.trials:
            if other.seed == seed:
                counts[other.rows] += 1
        for table, new in ((self.video, hits), (self.clip, clip)):
            before = np.where(counts[rows] > 0, table[seed, rows], 0.0)
            table[seed, rows] = (before * counts[rows] + new) / (counts[rows] + 1)
        self.predicted[seed, rows] = predicted
        self.trials.append(trial)

    def tested(self) -> np.ndarray:
        """Bool [N]: the clips that some fold tests."""
        return np.asarray(~np.isnan(self.video[0]))

    def as_dict(self, labels: np.ndarray, groups: np.ndarray | None = None) -> dict[str, Any]:
        """Fractions: means over all trials, their spread over seeds and over folds, and the 95 % interval.

        Args:
            labels: int [N].
            groups: int [N]; clips of one group are resampled together for the interval.
        """
        seeds = range(len(self.video))
        trials = {seed: [trial for trial in self.trials if trial.seed == seed] for seed in seeds}
        by_seed = np.array([np.concatenate([t.hits for t in trials[s]]).mean() for s in seeds])
        by_class = [
            mean_class_accuracy(
                np.concatenate([t.hits for t in trials[s]]), labels[np.concatenate([t.rows for t in trials[s]])]
            )
            for s in seeds
        ]
        tested = self.tested()
        interval = bootstrap(self.video[:, tested], None if groups is None else groups[tested])
        told: dict[str, Any] = {
            "mean": float(by_seed.mean()),
            "std": _std(by_seed),
            "interval": [interval.low, interval.high],
            "seeds": [float(v) for v in by_seed],
            "clip_accuracy": float(self.clip[:, tested].mean()),
            "mean_class_accuracy": float(np.mean(by_class)),
        }
        folds = sorted({trial.fold for trial in self.trials})
        if len(folds) > 1:
            table = [[float(t.hits.mean()) for t in self.trials if t.fold == f] for f in folds]
            means = np.array([np.mean(row) for row in table])
            told["folds"] = {
                "mean": float(means.mean()),
                "std": _std(means),
                "accuracy": means.tolist(),
                "seeds": table,
            }
        top5 = [t.top5 for t in self.trials if t.top5 is not None]
        if top5:
            told["top5_accuracy"] = float(np.concatenate(top5).mean())
        ranks = [t.ranks for t in self.trials if t.ranks is not None]
        if ranks:
            told["recall_at"] = {
                str(k): float(np.concatenate([t.recall[k] for t in self.trials]).mean()) for k in RECALL_AT
            }
            told["median_rank"] = float(np.median(np.concatenate(ranks)))
        return told

    def confusion(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Int64 [C, C], true classes in rows, summed over seeds and folds."""
        rows = np.concatenate([trial.rows for trial in self.trials])
        return confusion_matrix(np.concatenate([trial.predicted for trial in self.trials]), labels[rows], classes)


def _std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def hits_of_clips(keys: Sequence[str], groups: np.ndarray, probes: Mapping[str, Mapping[str, Judged]]) -> PerClip:
    """Each tested clip's hits by "probe/model", for comparisons of runs."""
    tested = np.flatnonzero(next(iter(next(iter(probes.values())).values())).tested())
    values = {f"{n}/{model}": one.video[:, tested] for n, models in probes.items() for model, one in models.items()}
    return PerClip(tuple(keys[int(i)] for i in tested), tuple(str(groups[i]) for i in tested), values)
