"""Which charts a report shows, made of its content; how a chart is drawn is in `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmssl.report.axes import number_text
from mmssl.report.content import ActionProbe, Localization, PretextRow, ProbeScore, Spectrum, Stage
from mmssl.report.history import Curve, curve, monitored, score_curve, tasks
from mmssl.report.markup import Html
from mmssl.report.plots import Bar, Level, Line, bar_chart, line_chart, matrix_chart, smoothed

Rows = Sequence[Mapping[str, Any]]

QUANTITIES = {
    "std": ("Spread of the features", "std × √width; 1: even"),
    "effective_rank": ("Effective rank", "dimensions"),
    "knn": ("Online nearest neighbours", "accuracy"),
}
NOT_DRAWN = frozenset({"samples", "effective_rank_uncentred"})

SMALLEST = 1e-5  # singular values below this share of the largest are numerical noise in float32


def action_figures(probe: ActionProbe) -> list[Html]:
    """Return bars of every probe beside chance, and the confusion matrix where there is one."""
    named: list[tuple[str, ProbeScore | None, bool]] = [
        ("linear, pretrained", probe.pretrained, True),
        ("linear, random init", probe.random_init, False),
        ("kNN, pretrained", probe.knn_pretrained, True),
        ("kNN, random init", probe.knn_random_init, False),
        *((name, score, False) for name, score in probe.others),
    ]
    bars = [
        Bar(name, s.mean, number_text(s.mean, True), error=s.std, dots=s.seeds, own=own)
        for name, s, own in named
        if s is not None
    ]
    level = Level("chance", probe.chance)
    title = "Action accuracy on unseen clips"
    charts = [
        bar_chart(
            bars,
            title=title,
            x_label="accuracy · circles: seeds · line: one std",
            high=1.0,
            percent=True,
            levels=[level],
        )
    ]
    if probe.confusion is not None and len(probe.classes):
        charts.append(matrix_chart(probe.confusion, probe.classes, title="Confusion of the pretrained linear probe"))
    return charts


def localization_figure(found: Localization, names: Mapping[str, str]) -> Html | None:
    """Return bars of peak-in-box for the model and every baseline, or None where none has it."""
    bars = [
        Bar(names.get(r.name, r.name), r.peak_in_box, number_text(r.peak_in_box, True), own=r.name == "model")
        for r in found.rows
        if r.peak_in_box is not None
    ]
    if not bars:
        return None
    return bar_chart(bars, title="Peak of the map in the true box", x_label="share of clips", high=1.0, percent=True)


def task_figures(rows: Rows, pretext: Mapping[str, PretextRow]) -> list[Html]:
    """Return for every task its held-out score against floor and ceiling, and its loss."""
    charts = []
    for i, task in enumerate(tasks(rows)):
        scored = score_curve(rows, task)
        loss = curve(rows, "step", f"{task}/loss", "loss")
        if scored is not None:
            row = pretext.get(task)
            percent = row.is_share if row is not None else scored.ceiling == 1.0
            levels = [Level("floor", scored.floor)] if scored.floor is not None else []
            levels += [Level("ceiling", scored.ceiling)] if scored.ceiling is not None else []
            lines = [Line(scored.score_name, scored.curve.steps, scored.curve.values, i, points=True)]
            if len(scored.ablated.steps):
                lines.append(Line("input zeroed", scored.ablated.steps, scored.ablated.values, 7, dashed=True))
            name = scored.score_name
            charts.append(
                line_chart(
                    lines, title=f"{task}: held-out {name}", x_label="step", y_label=name, levels=levels,
                    percent=percent, y_range=(0.0, 1.0) if percent else None, legend=False,
                )
            )  # fmt: skip
        if len(loss.steps):
            lines = smoothed("loss", loss.steps, loss.values, i)
            title = f"{task}: training loss"
            charts.append(line_chart(lines, title=title, x_label="step", y_label="loss (strong: running mean)"))
    return charts


def spectrum_figures(spectra: Sequence[Spectrum]) -> list[Html]:
    """Return singular values over their index, each encoder's largest set to 1, logarithmic."""
    lines = []
    for i, s in enumerate(spectra):
        for name, values, dashed in (
            (s.encoder, s.singular_values, False),
            (f"{s.encoder}, random init", s.random_init, True),
        ):
            if values is None:
                continue
            values = np.asarray(values, dtype=float)
            values = values[np.isfinite(values)]
            if len(values) and values.max() > 0:
                shares = values / values.max()
                seen = shares > SMALLEST
                lines.append(Line(name, np.arange(1.0, len(shares) + 1)[seen], shares[seen], i, dashed=dashed))
    if not lines:
        return []
    return [
        line_chart(
            lines, title="Singular values of the features", x_label="index", y_label="of the largest", log=True,
            y_range=(0.01, 1.0), height=290, legend=False, end_values=False,
        )
    ]  # fmt: skip


def monitor_figures(rows: Rows) -> list[Html]:
    """Return a chart for each quantity of the monitor, a line an encoder."""
    charts = []
    for quantity, curves in monitored(rows).items():
        if quantity in NOT_DRAWN:
            continue
        title, unit = QUANTITIES.get(quantity, (quantity, quantity))
        lines = [Line(c.name, c.steps, c.values, i) for i, c in enumerate(curves)]
        log = False
        if quantity.startswith("gradient/"):
            title, unit = f"Gradient of each task at {quantity.removeprefix('gradient/')}", "norm"
            log = all(line.y.min() > 0 for line in lines)
        charts.append(
            line_chart(
                lines, title=title, x_label="step", y_label=unit, log=log, legend="/" not in quantity,
                y_range=None if log else (0.0, 0.0),
            )
        )  # fmt: skip
    return charts


def stage_figure(stages: Sequence[Stage]) -> Html:
    """Return bars of the seconds used; an upright line marks what was planned."""
    bars = [Bar(s.name, s.used, f"{s.used:.0f} s", own=True, target=s.planned) for s in stages]
    return bar_chart(bars, title="Time of the stages", x_label="seconds used · upright line: planned")


def pace_figures(rows: Rows) -> list[Html]:
    """Return the summed loss, the throughput and the share of time spent waiting for data."""
    kinds = (
        ("loss", "Sum of all losses", "weighted loss", False),
        ("clips_per_second", "Throughput", "clips/s", False),
        ("data_wait", "Waiting for data", "share of the time", True),
    )
    charts = []
    for i, (key, title, unit, percent) in enumerate(kinds):
        found: Curve = curve(rows, "step", key, unit)
        if len(found.steps):
            lines = smoothed(unit, found.steps, found.values, i)
            low = None if key == "loss" else (0.0, 0.0)
            charts.append(line_chart(lines, title=title, x_label="step", y_label=unit, percent=percent, y_range=low))
    return charts
