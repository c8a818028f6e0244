"""Pretrainings of one method: runs whose training settings are equal but for the seed, one line of a comparison.

The settings are those of the run's `config.yaml` (and of `config.resumed-at-*.yaml`, where it was resumed with others)
without the run folder and the seed. Runs are of one method only if they were evaluated alike too, and if no two have
one seed: those would be the same training twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmssl.errors import UserError
from mmssl.report.conditions import TOLD
from mmssl.report.runs import Result, Score, run_folders, run_of

OWN = ("run", "seed")  # settings that pretrainings of one method differ in


@dataclass(frozen=True)
class Group:
    """Pretrainings of one method, or one run.

    Args:
        name: of the method, or of the run.
        runs: the pretrainings.
    """

    name: str
    runs: tuple[Result, ...]

    def scores(self, row: str) -> list[Score] | None:
        """Each pretraining's score of a row; None where one has no such row."""
        found = [run.score(row) for run in self.runs]
        known = [score for score in found if score is not None]
        return known if len(known) == len(found) else None

    def score(self, row: str, interval: tuple[float, float] | None) -> Score | None:
        """Mean and standard deviation over two pretrainings or more; `seeds` are then the pretrainings' means."""
        each = self.scores(row)
        if each is None:
            return None
        means = [score.mean for score in each]
        names = [name for name in each[0].further if all(name in score.further for score in each)]
        return Score(
            row=row,
            metric=each[0].metric,
            mean=float(np.mean(means)),
            std=float(np.std(means, ddof=1)),
            seeds=tuple(means),
            n=each[0].n,
            interval=interval,
            further={name: float(np.mean([score.further[name] for score in each])) for name in names},
        )

    def baselines(self) -> dict[str, float]:
        """Trivial predictors, averaged over the pretrainings that have them."""
        names = dict.fromkeys(name for run in self.runs for name in run.baselines)
        return {n: float(np.mean([run.baselines[n] for run in self.runs if n in run.baselines])) for n in names}


def grouped(results: Sequence[Result], pattern: str | None = None) -> tuple[list[Group], list[str]]:
    """The methods that runs are pretrainings of, in the order of their first runs, and what must be said of them.

    Args:
        results: the runs.
        pattern: regular expression on the path of a run folder; runs with the same first bracket (or, without
            brackets, the same match) are one group, whatever their settings.

    Raises:
        UserError: the pattern cannot be used, or a group holds one file twice.
    """
    said: list[str] = []
    parts = _by_settings(results, said) if pattern is None else _by_pattern(results, pattern)
    for rows in parts.values():
        files = [results[row].path.resolve() for row in rows]
        if twice := next((file for file in files if files.count(file) > 1), None):
            raise UserError(f"'{twice}' is given twice as a pretraining of one method; give each run once")
    groups = [
        Group(name, tuple(results[row] for row in rows))
        for name, rows in zip(_names(results, parts, pattern), parts.values(), strict=True)
    ]
    if len(groups) == 1:
        said.append(
            "all runs are pretrainings of one method, so there is nothing to compare it with; "
            "--group '(.+)' takes each run by itself"
        )
    return groups, said


def _by_pattern(results: Sequence[Result], pattern: str) -> dict[str, list[int]]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group '{pattern}' is no regular expression ({error})") from error
    parts: dict[str, list[int]] = {}
    for row, folder in enumerate(run_folders([result.path for result in results])):
        path = folder.as_posix()
        match = expression.search(path)
        if match is None:
            raise UserError(f"group '{pattern}' does not match the run '{path}'")
        name = match.group(1) if expression.groups else match.group(0)
        parts.setdefault(str(name), []).append(row)
    return parts


def _by_settings(results: Sequence[Result], said: list[str]) -> dict[str, list[int]]:
    settings = [_settings(result) for result in results]
    alike: dict[str, list[int]] = {}
    for row, found in enumerate(settings):
        alike.setdefault(f"alone {row}" if found is None else found[0], []).append(row)
    parts: dict[str, list[int]] = {}
    for key, rows in alike.items():
        seeds = [found[1] for row in rows if (found := settings[row]) is not None]
        if len(set(seeds)) == len(seeds):
            parts[key] = rows
            continue
        parts |= {f"alone {row}": [row] for row in rows}
        names = ", ".join(results[row].name for row in rows)
        said.append(f"{names}: one configuration, but a seed occurs twice, so each run is taken by itself")
    return dict(sorted(parts.items(), key=lambda part: part[1][0]))


def _settings(result: Result) -> tuple[str, str] | None:
    """What pretrainings of one method have in common, as one text, and the seed; None where no settings are known."""
    places = [run_of(result.path)]
    if isinstance(encoders := result.stored.get("encoders"), str):
        if Path(encoders).suffix in (".yaml", ".yml"):  # a file of builds: what lies beside it has not trained them
            return None
        places += [Path(encoders).parent if Path(encoders).name == "encoders" else Path(encoders)]
    for place in places:
        first = _read(place / "config.yaml")
        if first is None or "tasks" not in first:
            continue
        shared = _without_own(first)
        later = [_read(path) for path in sorted(place.glob("config.resumed-at-*.yaml"))]
        resumed = [_without_own(one) for one in later if one is not None and _without_own(one) != shared]
        evaluated = {name: result.stored.get(name) for name in TOLD}
        return json.dumps([shared, resumed, evaluated], sort_keys=True, default=str), str(first.get("seed", 0))
    return None


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, Mapping) else None


def _without_own(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in settings.items() if name not in OWN}


def _names(results: Sequence[Result], parts: Mapping[str, Sequence[int]], pattern: str | None) -> list[str]:
    """A name for each group: its run's, what the pattern's bracket holds, or what all names of its runs begin with."""
    many = [
        _shared_name([results[row].name for row in rows], key if pattern is not None else None)
        for key, rows in parts.items()
    ]
    if len(set(many)) < len(many):
        many = [_and_more([results[row].name for row in rows]) for rows in parts.values()]
    counts = [len(rows) for rows in parts.values()]
    return [name if count == 1 else f"{name} ({count} pretrainings)" for name, count in zip(many, counts, strict=True)]


def _shared_name(runs: Sequence[str], captured: str | None) -> str:
    if len(runs) == 1:
        return runs[0]
    if captured is not None and (name := captured.rstrip("/").rpartition("/")[2]):
        return name
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*runs, strict=False))
    begin = "".join(letters[0] for letters in alike).rstrip("0123456789-_./= ")  # "av-0" and "av-1" are "av"
    return begin.removesuffix("seed").rstrip("-_./ ") or _and_more(runs)


def _and_more(runs: Sequence[str]) -> str:
    return runs[0] if len(runs) == 1 else f"{runs[0]} and {len(runs) - 1} more"
