"""Several runs under one evaluation in one table, and what may be said of their differences.

The rule: two runs are compared clip by clip and seed by seed, with a 95 % bootstrap interval over seeds and clips
(`mmssl.metrics.statistics`), under five seeds or more where the evaluation has seeds, and never otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from mmssl.errors import UserError
from mmssl.metrics.statistics import Interval, bootstrap, paired_difference, verdict
from mmssl.report.axes import number_text
from mmssl.report.runs import Result, Score, Unequal, unequal
from mmssl.report.verdict import points

LEAST_SEEDS = 5
LEAST_GROUPS = 5  # clips or sources; with fewer, an interval over them says nothing
FORMAT = "mmssl-comparison-1"


@dataclass(frozen=True)
class Difference:
    """Run `run` minus run `other` in one row.

    Args:
        row: of the evaluation.
        run, other: places in the list of runs.
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
        results: one a run, in the order given; differences are taken from the first.
        rows: names of the rows that some run has, in the first one's order.
        shared: rows in which all runs are equal in every clip (trivial baselines): one line for all.
        differences: of every pair of runs in every row that is not shared.
        unequal: conditions that differ.
    """

    results: tuple[Result, ...]
    rows: tuple[str, ...]
    shared: frozenset[str]
    differences: tuple[Difference, ...]
    unequal: tuple[Unequal, ...]

    @property
    def names(self) -> list[str]:
        """The runs."""
        return [result.name for result in self.results]

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
            "runs": [
                {
                    "name": result.name,
                    "results": str(result.path),
                    "per_clip": result.per_clip is not None,
                    "baselines": dict(result.baselines),
                    "rows": {score.row: _plain(score) for score in result.scores},
                }
                for result in self.results
            ],
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
                {"what": u.what, "values": dict(zip(self.names, u.values, strict=True)), "refused": u.refused}
                for u in self.unequal
            ],
        }

    def sentences(self) -> list[str]:
        """What may be said of each run against the first, a line a row that training moves."""
        return [self.sentence(d) for d in self.differences if d.other == 0 and not _untrained(d.row)]

    def sentence(self, d: Difference) -> str:
        """A difference in words."""
        percent = self.percent(d.row)
        interval = ""
        if d.interval is not None:
            interval = f" [{_signed(d.interval[0], percent)}, {_signed(d.interval[1], percent)}]"
        unit = " points" if percent else ""
        return (
            f"{spelled(d.row)}: {self.names[d.run]} minus {self.names[d.other]} {_signed(d.mean, percent)}{unit}"
            f"{interval}: {d.said}"
        )


def spelled(row: str) -> str:
    """A row's name for a person: `linear/random_init` is `linear: random init`."""
    return row.replace("/", ": ").replace("_", " ")


def _untrained(row: str) -> bool:
    return row.split("/")[-1] == "random_init"


def _signed(value: float, percent: bool) -> str:
    return points(value).split()[0] if percent else f"{value:+.3g}".replace("-", "−")


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


def compare(results: Sequence[Result], anyway: bool = False) -> Comparison:
    """Put runs side by side.

    Args:
        results: of one evaluation.
        anyway: also where their conditions differ; the comparison then names the difference.

    Raises:
        UserError: the conditions differ; the message says in what.
    """
    differ = unequal(results)
    refused = [one for one in differ if one.refused]
    names = [result.name for result in results]
    if refused and not anyway:
        raise UserError(
            "these numbers were taken under different conditions and do not stand side by side:\n  "
            + "\n  ".join(one.sentence(names) for one in refused)
            + "\nevaluate the runs in one way, or give --anyway to print them with the difference named"
        )
    rows = tuple(dict.fromkeys(score.row for result in results for score in result.scores))
    measured = [replace(result, scores=tuple(_with_interval(s, result) for s in result.scores)) for result in results]
    shared = frozenset(row for row in rows if _equal(row, results))
    found = []
    for row in rows:
        if row in shared:
            continue
        for other, run in combinations(range(len(results)), 2):
            made = difference(row, measured, run, other, [one.what for one in refused])
            if made is not None:
                found.append(made)
    return Comparison(tuple(measured), rows, shared, tuple(found), tuple(differ))


def _values(result: Result, row: str) -> np.ndarray | None:
    return None if result.per_clip is None else result.per_clip.values.get(row)


def _with_interval(score: Score, result: Result) -> Score:
    """The score with an interval over seeds and clips, where the file has none and the clips are known."""
    values = _values(result, score.row)
    if score.interval is not None or values is None or result.per_clip is None:
        return score
    known = ~np.isnan(values).all(axis=0)
    groups = np.array(result.per_clip.groups)[known]
    if len(set(groups.tolist())) < LEAST_GROUPS:
        return score
    made = bootstrap(values[:, known], groups)
    return replace(score, interval=(made.low, made.high))


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
    row: str, results: Sequence[Result], run: int, other: int, unequal_in: Sequence[str] = ()
) -> Difference | None:
    """Run minus other in a row, judged where the rule allows; None where one has no such row."""
    ours, theirs = results[run].score(row), results[other].score(row)
    if ours is None or theirs is None:
        return None
    gap = ours.mean - theirs.mean

    def unsaid(why: str, interval: Interval | None = None) -> Difference:
        held = None if interval is None else (interval.low, interval.high)
        return Difference(
            row, run, other, gap if interval is None else interval.mean, held, f"not judged: {why}", False
        )

    if unequal_in:
        return unsaid(f"different {', '.join(unequal_in)}")
    if ours.metric != theirs.metric:
        return unsaid(f"one is {ours.metric}, the other {theirs.metric}")
    indivisible = dict(results[run].stored.get("no_mean_over_clips") or {})
    if ours.metric in indivisible:
        return unsaid(indivisible[ours.metric])
    if results[run].per_clip is None or results[other].per_clip is None:
        lacks = " and ".join(results[n].name for n in (other, run) if results[n].per_clip is None)
        return unsaid(f"no per-clip scores (scores.npz) of {lacks}")
    paired = _paired(row, results[run], results[other])
    if paired is None:
        return unsaid("the per-clip scores cannot be paired by seed and clip")
    a, b, groups = paired
    if len(set(groups.tolist())) < LEAST_GROUPS:
        return unsaid(f"fewer than {LEAST_GROUPS} clips or sources")
    found = paired_difference(a, b, groups)
    if ours.seeds and len(a) < LEAST_SEEDS:
        return unsaid(f"{len(a)} seed{'s' * (len(a) > 1)}, the rule asks for {LEAST_SEEDS}", found)
    return Difference(row, run, other, found.mean, (found.low, found.high), verdict(found), True)


def _paired(row: str, ours: Result, theirs: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Values [S, N] of both, of the same clips in one order, and their groups; None where they do not fit."""
    a, b = _values(ours, row), _values(theirs, row)
    if a is None or b is None or ours.per_clip is None or theirs.per_clip is None:
        return None
    place = {key: n for n, key in enumerate(theirs.per_clip.keys)}
    if len(a) != len(b) or place.keys() != set(ours.per_clip.keys):
        return None
    b = b[:, [place[key] for key in ours.per_clip.keys]]
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return None
    known = ~np.isnan(a).all(axis=0)
    return (a[:, known], b[:, known], np.array(ours.per_clip.groups)[known]) if known.any() else None


def value_text(value: float, percent: bool) -> str:
    """A number as tables show it: in per cent with one decimal where it is a fraction."""
    return number_text(value, percent).removesuffix(" %")


def table_lines(made: Comparison) -> list[tuple[str, ...]]:
    """Cells of the table: row, run, mean, std, interval, clips, minus the first run, what may be said."""
    lines: list[tuple[str, ...]] = []
    for row in made.rows:
        percent = made.percent(row)
        for number, result in enumerate(made.results):
            score = result.score(row)
            if score is None or (row in made.shared and number):
                continue
            held = score.interval
            interval = "" if held is None else f"{value_text(held[0], percent)} to {value_text(held[1], percent)}"
            gap = made.difference(row, number) if number else None
            minus = ""
            if gap is not None:
                minus = _signed(gap.mean, percent)
                if gap.interval is not None:
                    minus += f" [{_signed(gap.interval[0], percent)}, {_signed(gap.interval[1], percent)}]"
            lines.append(
                (
                    spelled(row),
                    "all runs" if row in made.shared else result.name,
                    value_text(score.mean, percent),
                    "" if score.std is None or len(score.seeds) < 2 else value_text(score.std, percent),
                    interval,
                    minus,
                    "" if gap is None else gap.said,
                )
            )
    for name in dict.fromkeys(name for result in made.results for name in result.baselines):
        if name in made.rows:
            continue
        values = [(result.name, result.baselines[name]) for result in made.results if name in result.baselines]
        if len({round(value, 9) for _, value in values}) == 1:
            values = [("all runs", values[0][1])]
        percent = all(-1.0 <= value <= 1.0 for _, value in values)
        lines += [(spelled(name), run, value_text(value, percent), "", "", "", "") for run, value in values]
    return lines


HEADS = ("row", "run", "mean", "std of seeds", "95 % interval", "minus the first run", "said")


def markdown(made: Comparison) -> str:
    """The table, the sentences and what differs, as Markdown."""

    def cell(text: str) -> str:
        return " ".join(text.split()).replace("|", "\\|")

    first = made.results[0]
    lines = [
        f"# {first.evaluation}: {len(made.results)} runs side by side",
        "",
        f"Protocol: {cell(first.protocol)}",
        "",
    ]
    if any(one.refused for one in made.unequal):
        lines += ["**These numbers were taken under different conditions:**", ""]
    lines += [f"- {cell(one.sentence(made.names))}" for one in made.unequal]
    lines += [""] * bool(made.unequal)
    lines += ["| " + " | ".join(HEADS) + " |", "|---|---|" + "---:|" * 4 + "---|"]
    lines += ["| " + " | ".join(cell(text) for text in line) + " |" for line in table_lines(made)]
    lines += ["", *(f"- {cell(sentence)}" for sentence in made.sentences()), "", *notes(made)]
    return "\n".join(lines).rstrip() + "\n"


def notes(made: Comparison) -> list[str]:
    """What must be known to read the table."""
    found = [
        "Numbers are in per cent where they are fractions. Intervals are 95 % bootstrap intervals over seeds and clips "
        "at once (whole sources or groups together); differences are paired by seed and clip. *above*: the interval "
        "lies above 0; *not behind*: its lower end is above −2 points; *behind*: it lies below 0; else *undecided*."
    ]
    if any(score.seeds for result in made.results for score in result.scores):
        found.append(
            "Seeds are those of the evaluation (drawn train clips, heads, random initialisations). Each run is one "
            "training: how much another seed of its pretraining would move it is not in these intervals."
        )
    else:
        found.append("Each run is one training; how much another seed of it would move it is not in these intervals.")
    return found
