"""The course of a run: `metrics.jsonl` read back, and curves picked from its rows.

One JSON object a line. Rows with `"event": "step"` carry `loss`, `<task>/loss`, further `<task>/<metric>`,
`clips_per_second` and `data_wait`; rows `"heldout"` a task's score with floor and ceiling; rows `"monitor"`
`<encoder>/std`, `<encoder>/effective_rank` and the like.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.errors import UserError

Row = Mapping[str, Any]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a `metrics.jsonl`, oldest first.

    A last line cut in the middle (a killed run) is left out.

    Raises:
        UserError: The file is missing, or a line before the last one is not a JSON object.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the metrics.jsonl of a run folder") from None
    while lines and not lines[-1].strip():
        lines.pop()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number}: not a JSON object ({error}); remove that line") from None
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Curve:
    """A quantity over steps; both arrays float64 [N], steps rising, values finite."""

    name: str
    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class ScoreCurve:
    """A task's held-out score over steps, with its latest floor and ceiling (None where the rows have none).

    `ablated` is the same with the informative input zeroed; it may be empty.
    """

    curve: Curve
    ablated: Curve
    score_name: str
    floor: float | None
    ceiling: float | None


def curve(rows: Iterable[Row], event: str, key: str, name: str | None = None, **where: object) -> Curve:
    """Return `key` over steps in rows of that event; of two rows with one step the later counts.

    Rows whose value is missing, not a number or not finite are left out.
    """
    points: dict[float, float] = {}
    for row in rows:
        if row.get("event") != event or any(row.get(k) != v for k, v in where.items()):
            continue
        step, value = number(row.get("step")), number(row.get(key))
        if step is not None and value is not None:
            points[step] = value
    steps = sorted(points)
    return Curve(name or key, np.array(steps, dtype=float), np.array([points[s] for s in steps], dtype=float))


def number(value: object) -> float | None:
    """Return a finite float, or None for anything else (a bool is not a number)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def tasks(rows: Sequence[Row]) -> list[str]:
    """Return the names of the tasks in the rows, in order of first appearance."""
    found: dict[str, None] = {}
    for row in rows:
        if row.get("event") == "heldout" and isinstance(row.get("task"), str):
            found[row["task"]] = None
        elif row.get("event") == "step":
            found.update({k.removesuffix("/loss"): None for k in row if k.endswith("/loss")})
    return list(found)


def score_curve(rows: Sequence[Row], task: str) -> ScoreCurve | None:
    """Return the held-out score of a task over steps, or None where it was never scored."""
    scored = [r for r in rows if r.get("event") == "heldout" and r.get("task") == task]
    if not scored:
        return None
    name = str(scored[-1].get("score_name", "score"))
    found = curve(scored, "heldout", "score", name)
    if not len(found.steps):
        return None
    ablated = curve(scored, "heldout", "ablated", "input zeroed")
    return ScoreCurve(found, ablated, name, number(scored[-1].get("floor")), number(scored[-1].get("ceiling")))


def monitored(rows: Sequence[Row]) -> dict[str, list[Curve]]:
    """Return what the monitor watched: for each quantity (`std`, `effective_rank`, ...) a curve an encoder.

    Gradient norms, written as `<encoder>/gradient/<task>`, are the quantity `gradient/<encoder>`, a curve a task.
    """
    keys = dict.fromkeys(k for r in rows if r.get("event") == "monitor" for k in r if "/" in k)
    groups: dict[str, list[Curve]] = {}
    for key in keys:
        owner, _, quantity = key.partition("/")
        if quantity.startswith("gradient/"):
            owner, quantity = quantity.removeprefix("gradient/"), f"gradient/{owner}"
        found = curve(rows, "monitor", key, owner)
        if len(found.steps):
            groups.setdefault(quantity, []).append(found)
    return groups


def warnings(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """Return the warnings of the run as (step, text)."""
    return [(int(number(r.get("step")) or 0), str(r.get("text", ""))) for r in rows if r.get("event") == "warning"]


def counters(rows: Sequence[Row]) -> dict[str, float]:
    """Return what the stream counted until the end of the run (clips, failures by cause), nested names joined."""
    last = next((r for r in reversed(rows) if r.get("event") == "end"), {})
    flat: dict[str, float] = {}

    def add(prefix: str, value: object) -> None:
        if isinstance(value, Mapping):
            for key, entry in value.items():
                add(f"{prefix}{': ' if prefix else ''}{key}", entry)
        elif (found := number(value)) is not None:
            flat[prefix] = found

    add("", last.get("counters", {}))
    return flat


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean over `window` values around each one, fewer at the ends; float [N] -> float [N]."""
    if window <= 1 or len(values) < 3:
        return values
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - window // 2, 0), np.minimum(index + window // 2 + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def thin(steps: np.ndarray, values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `most` points: means over neighbouring points, first and last step kept."""
    if len(steps) <= most:
        return steps, values
    groups = np.array_split(np.arange(len(steps)), most)
    x = np.array([steps[g].mean() for g in groups])
    y = np.array([values[g].mean() for g in groups])
    x[0], x[-1] = steps[0], steps[-1]
    return x, y
