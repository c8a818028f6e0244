"""The page of a comparison of runs: table, bars with intervals beside the trivial baselines, and what may be said."""

from __future__ import annotations

from collections.abc import Sequence

from mmssl.report.axes import number_text
from mmssl.report.comparison import Comparison, spelled
from mmssl.report.comparison_table import heads, notes, table_lines, title
from mmssl.report.markup import Html, element
from mmssl.report.plots import Bar, Level, bar_chart
from mmssl.report.shell import footer, section, whole_page
from mmssl.report.tables import table

WORDS = {"above": "good", "not behind": "good", "behind": "bad"}


def comparison_page(made: Comparison) -> Html:
    """Return the whole page."""
    first = made.results[0]
    warned, told = made.conditions(refused=True), made.conditions(refused=False)
    alarm = None
    if warned:
        alarm = element(
            "div",
            element(
                "p", "Taken under different conditions: these numbers do not stand side by side", class_="verdict bad"
            ),
            element("ul", *(element("li", one) for one in warned)),
            role="note",
        )
    header = element(
        "header",
        element("h1", title(made)),
        element("p", f"Protocol: {first.protocol}", class_="lead"),
        alarm,
        element("ul", *(element("li", _said(made, s)) for s in made.sentences())) if made.sentences() else None,
    )
    rows: list[tuple[Sequence[object], str]] = []
    for line in table_lines(made):
        mark = WORDS.get(line[-1])
        said: object = element("span", line[-1], class_=f"mark {mark}") if mark else line[-1]
        rows.append(((*line[:-1], said), ""))
    further = _further(made)
    return whole_page(
        title(made),
        header,
        element(
            "main",
            section("table", "All rows", table("Mean, spread and differences", heads(made), rows, (2, 3, 4, 5))),
            section("charts", "Drawn", element("div", *charts(made), class_="charts")),
            section("further", "Further numbers", further) if further is not None else None,
            section(
                "how",
                "How to read this",
                *(element("p", note.replace("*", "")) for note in notes(made)),
                element("ul", *(element("li", one) for one in told)) if told else None,
                element("ul", *(element("li", f"{r.name}: {r.path}") for r in made.runs)),
            ),
        ),
        footer(),
    )


def _said(made: Comparison, sentence: str) -> Html:
    head, _, word = sentence.rpartition(": ")
    mark = WORDS.get(word)
    if mark is None:
        return element("span", sentence)
    return element("span", f"{head}: ", element("span", word, class_=f"mark {mark}"))


def charts(made: Comparison) -> list[Html]:
    """Return bars for each probe: every run's rows with their intervals, the trivial baselines in grey or dashed."""
    found = []
    for probe in dict.fromkeys(row.rpartition("/")[0] for row in made.rows):
        rows = [row for row in made.rows if row.rpartition("/")[0] == probe]
        percent = all(made.percent(row) for row in rows)
        bars = []
        for row in rows:
            own = row.split("/")[-1] in ("pretrained", "model") and row not in made.shared
            for number, result in enumerate(made.results):
                score = result.score(row)
                if score is None or (row in made.shared and number):
                    continue
                run = "all runs" if row in made.shared else result.name
                text = number_text(score.mean, percent)
                name = f"{run}, {spelled(row.split('/')[-1])}"
                error = score.std if score.interval is None else None
                alike = not made.several or (len(made.groups[number].runs) > 1 and row not in made.shared)
                dots = score.seeds if alike else ()  # one sort of circles a chart
                bars.append(Bar(name, score.mean, text, error, dots, own, None, number, score.interval))
        levels = [
            Level(spelled(n), v) for n, v in made.results[0].baselines.items() if n not in made.rows and n != "majority"
        ]
        metric = next(s.metric for r in made.results for s in r.scores if s.row in rows)
        name = f"{probe or made.results[0].evaluation}: {metric.replace('_', ' ')}"
        label = f"{metric.replace('_', ' ')} · line: 95 % interval" + (
            f" · circles: {'pretrainings' if made.several else 'seeds'}" if any(b.dots for b in bars) else ""
        )
        found.append(bar_chart(bars, title=name, x_label=label, percent=percent, levels=levels))
    return found


def _further(made: Comparison) -> Html | None:
    """Return the table of the numbers that are not compared, or None."""
    names = list(dict.fromkeys(name for r in made.results for s in r.scores for name in s.further))
    if not names:
        return None
    rows: list[tuple[Sequence[object], str]] = []
    for row in made.rows:
        for number, result in enumerate(made.results):
            score = result.score(row)
            if score is None or not score.further or (row in made.shared and number):
                continue
            run = "all runs" if row in made.shared else result.name
            values = [score.further.get(name) for name in names]
            texts = ["" if v is None else number_text(v, -1.0 <= v <= 1.0) for v in values]
            rows.append(((f"{spelled(row)}, {run}", *texts), ""))
    heads = ("row", *(name.replace("_", " ") for name in names))
    return table("Not compared, only told", heads, rows, range(1, len(heads)))
