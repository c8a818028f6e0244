"""The `results.json` of any evaluation, read into one shape: rows of scores.

Rows are found by their shape, whatever the evaluation: a mapping with a mean over seeds (`{probe: {model: {mean, std,
seeds}}}`), or, under `rows` or `directions`, any mapping of numbers (`{rows: {model: {metric: value, interval}}}`). The
primary number of a row is the one it names as its `metric`, else the one that has the interval where only one has, else
the first; it is the one that is drawn and compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmssl.errors import UserError, nearest
from mmssl.evaluation.per_clip import NAME, PerClip

TABLES = ("rows", "directions")
DEEPEST = 2
DIFFERENCES = frozenset("difference differences beside verdict verdicts baselines versions settings interval".split())


@dataclass(frozen=True)
class Score:
    """One row of an evaluation.

    Args:
        row: "model" or "probe/model".
        metric: name of its primary number.
        mean: the number.
        std: over the seeds, where there are some.
        seeds: the number under each seed.
        n: how many clips or frames it is over.
        interval: 95 % (low, high), where it is stored.
        further: its other numbers by name.
    """

    row: str
    metric: str
    mean: float
    std: float | None = None
    seeds: tuple[float, ...] = ()
    n: int | None = None
    interval: tuple[float, float] | None = None
    further: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What one run's evaluation left behind.

    Args:
        name: of the run, short.
        path: its results.json.
        evaluation: its name.
        scores: the rows, in the file's order.
        baselines: trivial predictors by name.
        stored: all of results.json.
        per_clip: what each clip scored, where it was written.
    """

    name: str
    path: Path
    evaluation: str
    scores: tuple[Score, ...]
    baselines: Mapping[str, float]
    stored: Mapping[str, Any]
    per_clip: PerClip | None = None

    @property
    def protocol(self) -> str:
        """The protocols in one line."""
        found = self.stored.get("protocol", "")
        return " and ".join(map(str, found.values())) if isinstance(found, Mapping) else str(found)

    def score(self, row: str) -> Score | None:
        """The row of that name, or None."""
        return next((score for score in self.scores if score.row == row), None)


def read_results(places: Sequence[Path], evaluation: str | None = None) -> list[Result]:
    """The results of one evaluation of several runs.

    Args:
        places: run folders, folders with a results.json, or such files.
        evaluation: its name, where run folders have several.

    Raises:
        UserError: fewer than two, a run without results, several evaluations to choose from, or a file that is none.
    """
    if len(places) < 2:
        raise UserError(f"{len(places)} run(s) given; a comparison needs two or more")
    files = find_results(places, evaluation)
    names = short_names(run_folders(files))
    found = [read_result(path, name) for path, name in zip(files, names, strict=True)]
    if len({result.evaluation for result in found}) > 1:
        said = "; ".join(f"{result.path}: {result.evaluation}" for result in found)
        raise UserError(f"results of different evaluations cannot be compared ({said})")
    return found


def find_results(places: Sequence[Path], evaluation: str | None = None) -> list[Path]:
    """The results.json of each place; see `read_results`."""
    inside = {place: _evaluations(place, evaluation) for place in places if not _direct(place)}
    common = set.intersection(*(set(found) for found in inside.values())) if inside else set()
    for place, found in inside.items():
        if not found:
            raise UserError(
                f"'{place}' holds no results.json, nor evaluation/*/results.json; run `mmssl evaluate ...` on it first"
            )
        if evaluation is not None and evaluation not in found:
            raise UserError(
                f"'{place}' was not evaluated by '{evaluation}' (there: {', '.join(found)}){nearest(evaluation, found)}"
            )
    if inside and evaluation is None and len(common) != 1:
        what = f"all have {', '.join(sorted(common))}" if common else "none is common to all"
        raise UserError(f"which evaluation is to be compared? ({what}); name it with --evaluation")
    chosen = evaluation or next(iter(common), "")
    return [_direct(place) or inside[place][chosen] for place in places]


def _direct(place: Path) -> Path | None:
    if place.is_file():
        return place
    return place / "results.json" if (place / "results.json").is_file() else None


def _evaluations(place: Path, evaluation: str | None = None) -> dict[str, Path]:
    """The files of a run by the name of the evaluation: "action", or "retrieval/av_sync" where it has one a head.

    Args:
        place: run folder or its encoders folder.
        evaluation: a name that is looked for: "retrieval" is then that of the only head.
    """
    run = place.parent if place.name == "encoders" else place
    files = [*run.glob("evaluation/*/results.json"), *run.glob("evaluation/*/*/results.json")]
    found = {path.parent.relative_to(run / "evaluation").as_posix(): path for path in sorted(files)}
    heads = [path for name, path in found.items() if name.split("/")[0] == evaluation]
    return found | ({evaluation: heads[0]} if evaluation and evaluation not in found and len(heads) == 1 else {})


def run_of(path: Path) -> Path:
    """The run that a results.json belongs to: the folder above evaluation/, else the file's own."""
    folder = path.absolute().parent
    above = next((one for one in (folder.parent, folder.parent.parent) if one.name == "evaluation"), None)
    return folder if above is None else above.parent


def run_folders(files: Sequence[Path]) -> list[Path]:
    """The run of each results.json; the file's own folder where one run has several of them."""
    of_run: dict[Path, set[Path]] = {}
    for path in files:
        of_run.setdefault(run_of(path), set()).add(path.resolve())
    return [run_of(path) if len(of_run[run_of(path)]) == 1 else path.absolute().parent for path in files]


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path that tell them apart; equal paths are numbered."""
    parts = [path.parts for path in paths]
    for length in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    last = ["/".join(p[-1:]) for p in parts]
    return [f"{name} ({n})" for n, name in enumerate(last, 1)]


def read_result(path: Path, name: str = "") -> Result:
    """Read one results.json and the scores.npz beside it.

    Raises:
        UserError: the file is missing, no JSON, or holds no score.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"results '{path}' cannot be read ({error}); run the evaluation again") from error
    scores = tuple(scores_of(stored)) if isinstance(stored, Mapping) else ()
    if not scores:
        raise UserError(f"'{path}' holds no scores of an evaluation; give a results.json that `mmssl evaluate` wrote")
    side = path.with_name(NAME)
    evaluation = str(stored.get("evaluation") or _named_by(stored.get("protocol")))
    per_clip = PerClip.load(side) if side.is_file() else None
    return Result(name or path.parent.name, path, evaluation, scores, _baselines(stored), stored, per_clip)


def _named_by(protocol: Any) -> str:
    """The evaluation that a protocol's name begins with."""
    first = next(iter(protocol.values()), "") if isinstance(protocol, Mapping) else protocol
    return str(first or "").split("-")[0]


def _baselines(stored: Mapping[str, Any]) -> dict[str, float]:
    found = stored.get("baselines")
    if not isinstance(found, Mapping):
        found = {name: stored.get(name) for name in ("chance", "majority")}
    return {str(name): float(value) for name, value in found.items() if _number(value)}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def scores_of(stored: Mapping[str, Any], before: str = "", tabled: bool = False) -> Iterator[Score]:
    """The rows of a results.json; see the head of this file.

    Args:
        stored: the file, or a part of it.
        before: names of the parts around it.
        tabled: whether it lies in a table, where every mapping of numbers is a row.
    """
    for name, value in stored.items():
        if not isinstance(value, Mapping) or name in DIFFERENCES or "minus" in name:
            continue
        if name in TABLES:
            yield from scores_of(value, before, True)
            continue
        row = f"{before}/{name}" if before else str(name)
        score = _score(row, value, tabled)
        if score is not None:
            yield score
        elif row.count("/") < DEEPEST:
            yield from scores_of(value, row, tabled)


def _score(row: str, found: Mapping[str, Any], tabled: bool) -> Score | None:
    """A row; outside of tables only what has a mean over seeds counts, so that no settings are taken for scores."""
    numbers = {str(k): float(v) for k, v in found.items() if _number(v) and k not in ("n", "std", "low", "high")}
    if any(isinstance(found[k], float) for k in numbers):  # the others count something
        numbers = {k: v for k, v in numbers.items() if isinstance(found[k], float)}
    nested = {str(k): v for k, v in found.items() if isinstance(v, Mapping) and "mean" in v and k != "interval"}
    intervals = found if "low" in found else found.get("interval")
    spread = found
    if "mean" in numbers and (found.get("seeds") is not None or found.get("std") is not None):
        metric = str(found.get("metric", "accuracy" if "clip_accuracy" in found else "score"))
        mean = numbers.pop("mean")
    elif nested and (tabled or ("/" in row and any("seeds" in v for v in nested.values()))):
        metric, spread = next(iter(nested.items()))
        mean = float(spread["mean"])
        numbers |= {k: float(v["mean"]) for k, v in nested.items() if k != metric}
        intervals = spread if "low" in spread else spread.get("interval", intervals)
    elif tabled and numbers:
        named = str(found.get("metric"))
        metric = named if named in numbers else _primary(numbers, intervals)
        mean = numbers.pop(metric)
    else:
        return None
    seeds = spread.get("seeds")
    values: list[Any] = (
        [s.get(metric) if isinstance(s, Mapping) else s for s in seeds] if isinstance(seeds, list) else []
    )
    std: Any = spread.get("std")
    std = std.get(metric) if isinstance(std, Mapping) else std
    return Score(
        row=row,
        metric=metric,
        mean=mean,
        std=float(std) if _number(std) else None,
        seeds=tuple(float(v) for v in values if _number(v)),
        n=int(found["n"]) if _number(found.get("n")) else None,
        interval=_ends(intervals, metric),
        further=numbers,
    )


def _ends(interval: Any, metric: str) -> tuple[float, float] | None:
    """(low, high) of an interval stored as a mapping, as a mapping of these by metric, or as a pair."""
    if isinstance(interval, Mapping) and isinstance(interval.get(metric), Mapping | list):
        interval = interval[metric]
    if isinstance(interval, Mapping) and "low" in interval and "high" in interval:
        return float(interval["low"]), float(interval["high"])
    pair = isinstance(interval, list) and len(interval) == 2 and all(_number(v) for v in interval)
    return (float(interval[0]), float(interval[1])) if pair else None


def _primary(numbers: Mapping[str, float], interval: Any) -> str:
    """The number that a row's one interval is of; else the first."""
    if isinstance(interval, Mapping) and _number(interval.get("mean")):
        for name, value in numbers.items():
            if abs(value - interval["mean"]) < 1e-9:
                return name
    return next(iter(numbers))
