"""Several runs under one evaluation in one table, and what may be said of their differences.

The rule: two runs are compared clip by clip and seed by seed, with a 95 % bootstrap interval over seeds and clips
(`mmssl.metrics.statistics`), under five seeds or more where the evaluation has seeds, and never otherwise. Pretrainings
of one method (`mmssl.report.groups`) are one line; their intervals are over pretrainings, seeds and clips, and three
pretrainings or more are needed. A single one is judged as the training that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from mmssl.errors import UserError
from mmssl.metrics.statistics import Interval, bootstrap, bootstrap_pretrainings, paired_difference, verdict
from mmssl.report.conditions import Unequal, unequal
from mmssl.report.groups import Group, grouped
from mmssl.report.runs import Result, Score
from mmssl.report.verdict import points

LEAST_SEEDS = 5
LEAST_PRETRAININGS = 3  # where pretrainings are taken together: two draw no spread
LEAST_GROUPS = 5  # clips or sources; with fewer, an interval over them says nothing
FORMAT = "mmssl-comparison-1"


@dataclass(frozen=True)
class Difference:
    """Run (or method) `run` minus run `other` in one row.

    Args:
        row: of the evaluation.
        run, other: places in the list of lines.
        mean: of the difference; its interval where per-clip scores of both are known.
        interval: 95 % (low, high).
        said: a word of the rule, or why none may be said.
        judged: whether `said` is such a word.
    """

    row: str
    run: int
    other: int
    mean: float
    interval: tuple[float, float] | None
    said: str
    judged: bool


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Args:
        results: one a line, a run or the mean of a method's pretrainings; differences are taken from the first.
        groups: the run or the pretrainings of each line.
        rows: names of the rows that some run has, in the first one's order.
        shared: rows in which all runs are equal in every clip (trivial baselines): one line for all.
        differences: of every pair of runs in every row that is not shared.
        unequal: conditions that differ among the runs.
        remarks: what must be said of the grouping.
    """

    results: tuple[Result, ...]
    groups: tuple[Group, ...]
    rows: tuple[str, ...]
    shared: frozenset[str]
    differences: tuple[Difference, ...]
    unequal: tuple[Unequal, ...]
    remarks: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The lines: runs, or methods of several pretrainings."""
        return [result.name for result in self.results]

    @property
    def runs(self) -> list[Result]:
        """All runs, each by itself."""
        return [run for group in self.groups for run in group.runs]

    @property
    def several(self) -> bool:
        """Whether some line is of several pretrainings."""
        return any(len(group.runs) > 1 for group in self.groups)

    def conditions(self, refused: bool | None = None) -> list[str]:
        """A sentence for each condition that differs: all, or those that do or do not forbid a comparison."""
        names = [run.name for run in self.runs]
        return [one.sentence(names) for one in self.unequal if refused is None or one.refused is refused]

    def difference(self, row: str, run: int, other: int = 0) -> Difference | None:
        """Run minus other in a row, or None."""
        return next((d for d in self.differences if (d.row, d.run, d.other) == (row, run, other)), None)

    def percent(self, row: str) -> bool:
        """Whether a row's numbers are fractions, to be written in per cent."""
        means = [s.mean for s in (result.score(row) for result in self.results) if s is not None]
        return all(-1.0 <= mean <= 1.0 for mean in means)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `compare.json`, fractions."""
        return {
            "format": FORMAT,
            "evaluation": self.results[0].evaluation,
            "protocol": self.results[0].stored.get("protocol"),
            "runs": [_line(result, group) for result, group in zip(self.results, self.groups, strict=True)],
            "equal_in_all_runs": sorted(self.shared),
            "differences": [
                {
                    "row": d.row,
                    "run": self.names[d.run],
                    "minus": self.names[d.other],
                    "mean": d.mean,
                    "low": None if d.interval is None else d.interval[0],
                    "high": None if d.interval is None else d.interval[1],
                    "said": d.said,
                    "judged": d.judged,
                }
                for d in self.differences
            ],
            "conditions_that_differ": [
                {
                    "what": u.what,
                    "values": dict(zip([run.name for run in self.runs], u.values, strict=True)),
                    "refused": u.refused,
                }
                for u in self.unequal
            ],
            "remarks": list(self.remarks),
        }

    def sentences(self) -> list[str]:
        """What may be said of each run against the first, a line a row that training moves."""
        return [self.sentence(d) for d in self.differences if d.other == 0 and not _untrained(d.row)]

    def sentence(self, d: Difference) -> str:
        """A difference in words."""
        percent = self.percent(d.row)
        interval = ""
        if d.interval is not None:
            interval = f" [{signed(d.interval[0], percent)}, {signed(d.interval[1], percent)}]"
        unit = " points" if percent else ""
        return (
            f"{spelled(d.row)}: {self.names[d.run]} minus {self.names[d.other]} {signed(d.mean, percent)}{unit}"
            f"{interval}: {d.said}"
        )


def spelled(row: str) -> str:
    """A row's name for a person: `linear/random_init` is `linear: random init`."""
    return row.replace("/", ": ").replace("_", " ")


def _untrained(row: str) -> bool:
    return row.split("/")[-1] == "random_init"


def signed(value: float, percent: bool) -> str:
    """A difference as tables show it, in points where it is one of fractions."""
    return points(value).split()[0] if percent else f"{value:+.3g}".replace("-", "−")


def _line(result: Result, group: Group) -> dict[str, Any]:
    """A line's plain values: those of a run, or of a method with its pretrainings' own means below."""
    rows = {score.row: _plain(score) for score in result.scores}
    one = len(group.runs) == 1
    found = {
        "name": result.name,
        **({"results": str(result.path)} if one else {}),
        "per_clip": all(run.per_clip is not None for run in group.runs),
        "baselines": dict(result.baselines),
        "rows": rows,
    }
    if one:
        return found
    for row in rows.values():
        row["std_of_pretrainings"] = row.pop("std")
        row["pretrainings"] = row.pop("seeds")
    runs = [{"name": run.name, "results": str(run.path)} for run in group.runs]
    return found | {"pretrainings": runs}


def _plain(score: Score) -> dict[str, Any]:
    return {
        "metric": score.metric,
        "mean": score.mean,
        "std": score.std,
        "seeds": list(score.seeds),
        "n": score.n,
        "interval": None if score.interval is None else list(score.interval),
        "further": dict(score.further),
    }


def compare(results: Sequence[Result], anyway: bool = False, group: str | None = None) -> Comparison:
    """Put runs side by side, pretrainings of one method together.

    Args:
        results: of one evaluation.
        anyway: also where their conditions differ; the comparison then names the difference.
        group: regular expression that says which runs are pretrainings of one method; see `grouped`.

    Raises:
        UserError: the conditions differ, the message says in what; or the groups cannot be used.
    """
    groups, remarks = grouped(results, group)
    runs = [run for one in groups for run in one.runs]
    differ = unequal(runs)
    refused = [one for one in differ if one.refused]
    if refused and not anyway:
        names = [run.name for run in runs]
        raise UserError(
            "these numbers were taken under different conditions and do not stand side by side:\n  "
            + "\n  ".join(one.sentence(names) for one in refused)
            + "\nevaluate the runs in one way, or give --anyway to print them with the difference named"
        )
    rows = tuple(dict.fromkeys(score.row for run in runs for score in run.scores))
    shared = frozenset(row for row in rows if _equal(row, runs))
    found = []
    for row in rows:
        if row in shared:
            continue
        for other, run in combinations(range(len(groups)), 2):
            made = difference(row, groups, run, other, [one.what for one in refused])
            if made is not None:
                found.append(made)
    measured = tuple(_measured(one, rows) for one in groups)
    return Comparison(measured, tuple(groups), rows, shared, tuple(found), tuple(differ), tuple(remarks))


def _measured(group: Group, rows: Sequence[str]) -> Result:
    """What a line shows: the run with intervals where its clips are known, or the mean of the pretrainings."""
    first = group.runs[0]
    if len(group.runs) == 1:
        scores = (replace(s, interval=s.interval or _interval(s.row, group.runs)) for s in first.scores)
        return replace(first, name=group.name, scores=tuple(scores))
    found = [group.score(row, _interval(row, group.runs)) for row in rows]
    known = tuple(score for score in found if score is not None)
    return replace(first, name=group.name, scores=known, baselines=group.baselines(), per_clip=None)


def _values(result: Result, row: str) -> np.ndarray | None:
    return None if result.per_clip is None else result.per_clip.values.get(row)


def _interval(row: str, runs: Sequence[Result]) -> tuple[float, float] | None:
    """Over seeds and clips of one run, and over pretrainings too of several; None where the clips are not known."""
    found = _aligned(row, runs)
    if found is None:
        return None
    values, groups = found
    if len(set(groups.tolist())) < LEAST_GROUPS:
        return None
    made = bootstrap(values[0], groups) if len(values) == 1 else bootstrap_pretrainings(values, groups=groups)
    return made.low, made.high


def _equal(row: str, results: Sequence[Result]) -> bool:
    """Whether all runs have the same numbers in a row, clip by clip where these are known."""
    scores = [result.score(row) for result in results]
    if any(score is None for score in scores):
        return False
    if any((s.mean, s.seeds) != (scores[0].mean, scores[0].seeds) for s in scores if s and scores[0]):
        return False
    tables = [_values(result, row) for result in results]
    keys = [result.per_clip.keys if result.per_clip is not None else () for result in results]
    if any(table is None for table in tables) or any(one != keys[0] for one in keys):
        return True
    return all(np.array_equal(t, tables[0], equal_nan=True) for t in tables if t is not None and tables[0] is not None)


def difference(
    row: str, groups: Sequence[Group], run: int, other: int, unequal_in: Sequence[str] = ()
) -> Difference | None:
    """Run (or method) minus other in a row, judged where the rule allows; None where one has no such row."""
    ours, theirs = groups[run].scores(row), groups[other].scores(row)
    if ours is None or theirs is None:
        return None
    gap = float(np.mean([score.mean for score in ours]) - np.mean([score.mean for score in theirs]))

    def unsaid(why: str, interval: Interval | None = None) -> Difference:
        held = None if interval is None else (interval.low, interval.high)
        return Difference(
            row, run, other, gap if interval is None else interval.mean, held, f"not judged: {why}", False
        )

    if unequal_in:
        return unsaid(f"different {', '.join(unequal_in)}")
    metrics = list(dict.fromkeys(score.metric for score in (*ours, *theirs)))
    if len(metrics) > 1:
        return unsaid(f"one is {metrics[0]}, the other {metrics[1]}")
    runs = [*groups[other].runs, *groups[run].runs]
    indivisible = dict(runs[0].stored.get("no_mean_over_clips") or {})
    if metrics[0] in indivisible:
        return unsaid(indivisible[metrics[0]])
    lacks = [one.name for one in runs if one.per_clip is None]
    if lacks:
        return unsaid(f"no per-clip scores (scores.npz) of {' and '.join(lacks)}")
    found = _aligned(row, [*groups[run].runs, *groups[other].runs])
    if found is None:
        return unsaid("the per-clip scores cannot be paired by seed and clip")
    values, of_clips = found
    if len(set(of_clips.tolist())) < LEAST_GROUPS:
        return unsaid(f"fewer than {LEAST_GROUPS} clips or sources")
    a, b = values[: len(ours)], values[len(ours) :]
    if len(a) == len(b) == 1:
        made = paired_difference(a[0], b[0], of_clips)
    else:
        made = bootstrap_pretrainings(a, b, of_clips)
    seeds = a.shape[1]
    if ours[0].seeds and seeds < LEAST_SEEDS:
        return unsaid(f"{seeds} seed{'s' * (seeds > 1)}, the rule asks for {LEAST_SEEDS}", made)
    for group in (groups[other], groups[run]):
        if 1 < len(group.runs) < LEAST_PRETRAININGS:
            return unsaid(f"{group.name}, the spread asks for {LEAST_PRETRAININGS}", made)
    return Difference(row, run, other, made.mean, (made.low, made.high), verdict(made), True)


def _aligned(row: str, runs: Sequence[Result]) -> tuple[np.ndarray, np.ndarray] | None:
    """Values [R, S, N] of runs, of the same clips in the first one's order, and groups [N]; None where they do not fit.

    Clips that are judged under no seed are left out.
    """
    tables: list[np.ndarray] = []
    first = runs[0].per_clip
    for result in runs:
        values = _values(result, row)
        if values is None or result.per_clip is None or first is None:
            return None
        place = {key: n for n, key in enumerate(result.per_clip.keys)}
        if place.keys() != set(first.keys):
            return None
        values = values[:, [place[key] for key in first.keys]]
        if tables and (values.shape != tables[0].shape or not np.array_equal(np.isnan(values), np.isnan(tables[0]))):
            return None
        tables.append(values)
    known = ~np.isnan(tables[0]).all(axis=0)
    if first is None or not known.any():
        return None
    return np.stack(tables)[:, :, known], np.array(first.groups)[known]
