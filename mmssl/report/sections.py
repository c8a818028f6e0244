"""The sections of the page, in its order. Each turns a part of the content into markup, or says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmssl.report.axes import number_text
from mmssl.report.clips import overlay_figure, strip_figure
from mmssl.report.content import ProbeScore, ReportContent
from mmssl.report.figures import (
    action_figures,
    localization_figure,
    monitor_figures,
    pace_figures,
    spectrum_figures,
    stage_figure,
    task_figures,
)
from mmssl.report.history import counters, warnings
from mmssl.report.markup import Html, element, join
from mmssl.report.media import MediaBudget
from mmssl.report.tables import missing, table
from mmssl.report.verdict import at_floor, clock, far_above_floor, points

BASELINES = {
    "model": "model",
    "centre_prior": "centre disc, nothing learned",
    "whole_frame": "whole frame",
    "random_map": "random map",
    "random_init": "same model, random init",
    "motion_saliency": "motion saliency (frame difference)",
    "shuffled_sound": "same model, sound of another clip",
}


@dataclass(frozen=True)
class Section:
    """A section: anchor, name in the menu, heading, and what makes its body."""

    name: str
    short: str
    title: str
    body: Callable[[ReportContent, MediaBudget], Html]


def _score(value: float | None, percent: bool = True) -> str:
    return "—" if value is None else number_text(value, percent)


def _action(content: ReportContent, budget: MediaBudget) -> Html:
    probe = content.action
    if probe is None:
        return missing("Action transfer was not evaluated in this run.")
    rows: list[tuple[Sequence[object], str]] = []

    def add(name: str, score: ProbeScore | None, class_: str = "") -> None:
        if score is not None:
            seeds = ", ".join(f"{100 * s:.1f}" for s in score.seeds) or "—"
            spread = f"± {100 * score.std:.1f}" if len(score.seeds) != 1 else "—"
            rows.append(((name, number_text(score.mean, True), spread, seeds), class_))

    add("linear probe, pretrained", probe.pretrained, "own")
    add("linear probe, random init", probe.random_init)
    add("nearest neighbours, pretrained", probe.knn_pretrained)
    add("nearest neighbours, random init", probe.knn_random_init)
    for name, score in probe.others:
        add(name, score)
    rows.append((("chance", number_text(probe.chance, True), "—", "—"), ""))
    gain = probe.pretrained.mean - probe.random_init.mean
    said = f"Pretrained minus random init: {points(gain)}"
    if probe.interval is not None:
        low, high = probe.interval
        said += f", 95 % interval {points(low)} to {points(high)}"
        said += " (excludes zero)." if low > 0 or high < 0 else " (includes zero: no difference shown)."
    else:
        said += "; no interval was computed."
    on = f" on {probe.clips} unseen clips" if probe.clips else ""
    caption = f"Accuracy{on}, mean and standard deviation over seeds; the encoder is frozen"
    return join(
        [
            element("p", said),
            element("p", f"Protocol: {probe.protocol}", class_="note") if probe.protocol else "",
            element(
                "div",
                table(caption, ("features", "accuracy", "std", "each seed"), rows, (1, 2)),
                *action_figures(probe),
                class_="pair",
            ),
        ]
    )


def _localization(content: ReportContent, budget: MediaBudget) -> Html:
    parts: list[Html] = []
    found = content.localization
    if found is None or not found.rows:
        parts.append(missing("Localization was not scored in this run: no clip with true boxes was given."))
    else:
        rows = [
            (
                (BASELINES.get(r.name, r.name), _score(r.peak_in_box), _score(r.ciou), _score(r.auc)),
                "own" if r.name == "model" else "",
            )
            for r in found.rows
        ]
        on = f" over {found.clips} clips with boxes" if found.clips else ""
        caption = f"Peak in true box, cIoU@0.5 and AUC{on}"
        if found.protocol:
            parts.append(element("p", f"Protocol: {found.protocol}", class_="note"))
        scored = table(caption, ("map", "peak in box", "cIoU@0.5", "AUC"), rows, (1, 2, 3))
        parts.append(element("div", scored, localization_figure(found, BASELINES), class_="pair"))
    parts.append(element("h3", "Where the model hears the sound"))
    if not content.overlays:
        parts.append(missing("No overlays were made in this run."))
        return join(parts)
    boxed = [o for o in content.overlays if o.hit is not None]
    said = f"{sum(bool(o.hit) for o in boxed)} of these {len(boxed)} peaks lie in the true box. " if boxed else ""
    parts.append(element("p", said + content.overlays_note, class_="note"))
    parts.append(element("div", *(overlay_figure(o, budget) for o in content.overlays), class_="gallery"))
    return join(parts)


def _pretext(content: ReportContent, budget: MediaBudget) -> Html:
    parts: list[Html] = []
    if not content.pretext:
        parts.append(missing("No held-out scores of pretext tasks were given."))
    else:
        rows: list[tuple[Sequence[object], str]] = []
        for r in content.pretext:
            name = join([r.task, element("br"), element("small", r.asks)]) if r.asks else join([r.task])
            floored = at_floor(r)
            ablated: object = _score(r.ablated, r.is_share)
            if r.ablated_floor is not None and _score(r.ablated_floor, r.is_share) != _score(r.floor, r.is_share):
                ablated = join([ablated, f" (floor {_score(r.ablated_floor, r.is_share)})"])
            if floored is not None:
                ablated = join([ablated, " ", _mark(floored, "at floor", "above floor")])
            score = join([_score(r.score, r.is_share), " ", _mark(far_above_floor(r), "far above", "not far above")])
            cells = (
                name, r.score_name + ("" if r.higher_is_better else " (lower is better)"), score,
                _score(r.floor, r.is_share), _score(r.ceiling, r.is_share), number_text(r.reached, True), ablated,
            )  # fmt: skip
            rows.append((cells, ""))
        heads = ("task", "score", "held out", "floor", "ceiling", "way made", "input zeroed")
        caption = "Each pretext task on held-out clips, between what nothing learned reaches and the best possible"
        parts.append(table(caption, heads, rows, (2, 3, 4, 5, 6)))
    charts = task_figures(content.metrics, {r.task: r for r in content.pretext})
    if charts:
        parts.append(element("h3", "Over training"))
        parts.append(element("div", *charts, class_="charts"))
    else:
        parts.append(missing("No curves: the run left no metrics.jsonl with steps or held-out scores."))
    return join(parts)


def _mark(good: bool, yes: str, no: str) -> Html:
    return element("span", yes if good else no, class_=f"mark {'good' if good else 'bad'}")


def _neighbours(content: ReportContent, budget: MediaBudget) -> Html:
    if not content.neighbours:
        return missing("No nearest neighbours were looked up in this run.")
    pairs = [(row.query, n) for row in content.neighbours for n in row.neighbours]
    known = [q.label == n.label for q, n in pairs if q.label is not None and n.label is not None]
    said = f"{sum(known)} of {len(known)} neighbours share the label of their query. " if known else ""
    parts = [element("p", said + content.neighbours_note, class_="note")]
    for row in content.neighbours:
        figures = [strip_figure(row.query, "query", "query", budget)]
        for n in row.neighbours:
            state = ""
            if row.query.label is not None and n.label is not None:
                state = "right" if n.label == row.query.label else "wrong"
            figures.append(strip_figure(n, state, state, budget))
        parts.append(element("div", *figures, class_="row"))
    return join(parts)


def _representation(content: ReportContent, budget: MediaBudget) -> Html:
    parts: list[Html] = []
    if content.spectra:
        rows = [
            (
                (
                    join([s.encoder, element("br"), element("small", s.warning)]) if s.warning else s.encoder,
                    str(s.width), "—" if s.samples is None else str(s.samples), number_text(s.std),
                    number_text(s.effective_rank), number_text(s.effective_rank / s.width, True),
                ),
                "",
            )
            for s in content.spectra
        ]  # fmt: skip
        caption = (
            "Features of each encoder over held-out clips. Std over 1/√width: 1 spread evenly, 0 collapsed; "
            "an effective rank near 1 means collapse too"
        )
        heads = ("encoder", "width", "clips", "std", "effective rank", "of the width")
        parts.append(table(caption, heads, rows, (1, 2, 3, 4, 5)))
    else:
        parts.append(missing("No singular-value spectra were computed in this run."))
    charts = spectrum_figures(content.spectra) + monitor_figures(content.metrics)
    if charts:
        parts.append(element("div", *charts, class_="charts"))
    raised = warnings(content.metrics)
    if raised:
        parts.append(element("h3", "Warnings during training"))
        parts.append(element("ul", *(element("li", f"step {step}: {text}") for step, text in raised)))
    elif charts:
        parts.append(element("p", "No warning was raised during training.", class_="note"))
    return join(parts)


def _subtitles(content: ReportContent, budget: MediaBudget) -> Html:
    if not content.subtitles:
        return missing("No subtitle examples were made in this run.")
    parts = []
    for example in content.subtitles:
        items = []
        for sentence, score in example.ranked:
            true = example.true_sentence is not None and sentence == example.true_sentence
            mark = join([" ", element("span", "true", class_="mark good")]) if true else None
            near = element("small", f" {number_text(score)}")
            items.append(element("li", element("bdi", sentence), near, mark, class_="true" if true else None))
        shown = strip_figure(example.strip, "", "", budget)
        parts.append(element("div", shown, element("ol", *items), class_="said"))
    return join(parts)


def _run(content: ReportContent, budget: MediaBudget) -> Html:
    parts: list[Html] = []
    charts = pace_figures(content.metrics)
    if content.stages:
        rows = [((s.name, clock(s.used), "—" if s.planned is None else clock(s.planned)), "") for s in content.stages]
        rows.append((("all", clock(sum(s.used for s in content.stages)), _planned(content)), "own"))
        timed = table("Time of each stage", ("stage", "used", "planned"), rows, (1, 2))
        parts.append(element("div", timed, stage_figure(content.stages), class_="pair"))
    else:
        parts.append(missing("No stage times were recorded."))
    if charts:
        parts.append(element("div", *charts, class_="charts"))
    pairs = []
    counted = counters(content.metrics)
    if counted:
        listed = [((k, number_text(v)), "") for k, v in counted.items()]
        pairs.append(table("What the stream counted", ("what", "count"), listed, (1,)))
    if content.versions:
        listed = [((k, v), "") for k, v in content.versions.items()]
        pairs.append(table("Versions", ("package", "version"), listed, ()))
    hardware = dict(content.hardware)
    if content.seed is not None:
        hardware["seed"] = str(content.seed)
    if hardware:
        pairs.append(table("Machine and seed", ("what", "value"), [((k, v), "") for k, v in hardware.items()], ()))
    parts.append(
        element("div", *pairs, class_="pairs") if pairs else missing("Versions and machine were not recorded.")
    )
    if content.configuration:
        resolved = element("pre", content.configuration, tabindex=0)
        parts.append(element("details", element("summary", "Resolved configuration (YAML)"), resolved))
    else:
        parts.append(missing("The configuration was not recorded."))
    return join(parts)


def _planned(content: ReportContent) -> str:
    planned = [s.planned for s in content.stages]
    return "—" if None in planned else clock(sum(p for p in planned if p is not None))


SECTIONS = (
    Section("action", "Action", "Action transfer", _action),
    Section("localization", "Localization", "Sound localization", _localization),
    Section("pretext", "Pretext tasks", "Pretext tasks against their floors", _pretext),
    Section("neighbours", "Neighbours", "Nearest clips", _neighbours),
    Section("representation", "Representation", "Representation: spectrum and collapse watch", _representation),
    Section("subtitles", "Subtitles", "Subtitles ranked by the model", _subtitles),
    Section("run", "Run", "The run: time, versions, configuration", _run),
)
