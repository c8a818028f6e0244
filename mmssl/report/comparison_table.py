"""The table of a comparison of runs, the same as Markdown, and what must be known to read it."""

from __future__ import annotations

from mmssl.report.axes import number_text
from mmssl.report.comparison import Comparison, signed, spelled

HEADS = ("row", "run", "mean", "std of seeds", "95 % interval", "minus the first run", "said")


def heads(made: Comparison) -> tuple[str, ...]:
    """Heads of the table; where pretrainings are taken together the spread is theirs."""
    return tuple("std of pretrainings" if made.several and head == "std of seeds" else head for head in HEADS)


def value_text(value: float, percent: bool) -> str:
    """A number as tables show it: in per cent with one decimal where it is a fraction."""
    return number_text(value, percent).removesuffix(" %")


def table_lines(made: Comparison) -> list[tuple[str, ...]]:
    """Cells of the table: row, run, mean, std, interval, clips, minus the first run, what may be said."""
    lines: list[tuple[str, ...]] = []
    spread = [not made.several or len(group.runs) > 1 for group in made.groups]
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
                minus = signed(gap.mean, percent)
                if gap.interval is not None:
                    minus += f" [{signed(gap.interval[0], percent)}, {signed(gap.interval[1], percent)}]"
            shown = score.std is not None and len(score.seeds) > 1 and spread[number]
            if made.several and row in made.shared:
                shown = False
            lines.append(
                (
                    spelled(row),
                    "all runs" if row in made.shared else result.name,
                    value_text(score.mean, percent),
                    value_text(score.std, percent) if shown and score.std is not None else "",
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


def markdown(made: Comparison) -> str:
    """The table, the sentences and what differs, as Markdown."""

    def cell(text: str) -> str:
        return " ".join(text.split()).replace("|", "\\|")

    first = made.results[0]
    lines = [
        f"# {title(made)}",
        "",
        f"Protocol: {cell(first.protocol)}",
        "",
    ]
    if any(one.refused for one in made.unequal):
        lines += ["**These numbers were taken under different conditions:**", ""]
    lines += [f"- {cell(sentence)}" for sentence in made.conditions()]
    lines += [""] * bool(made.unequal)
    lines += ["| " + " | ".join(heads(made)) + " |", "|---|---|" + "---:|" * 4 + "---|"]
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
    has_seeds = any(score.seeds for run in made.runs for score in run.scores)
    if has_seeds:
        found.append("Seeds are those of the evaluation (drawn train clips, heads, random initialisations).")
    return [*found, *of_trainings(made), *made.remarks]


def of_trainings(made: Comparison) -> list[str]:
    """What the intervals hold of the spread of pretrainings, and which runs are taken together."""
    if not made.several:
        has_seeds = any(score.seeds for run in made.runs for score in run.scores)
        of = "seed of its pretraining" if has_seeds else "seed of it"
        return [f"Each run is one training: how much another {of} would move it is not in these intervals."]
    found = [
        "Pretrainings of one method (training settings equal but for the seed, or as --group says) are one line: mean "
        "and standard deviation over pretrainings. Its intervals are over pretrainings, seeds and clips at once (of P "
        "pretrainings P − 1 are drawn anew, with replacement, for each method by itself); two are not judged."
    ]
    alone = [group.name for group in made.groups if len(group.runs) == 1]
    if alone:
        found.append(f"One pretraining: {', '.join(alone)}. How much another one would differ is not in its intervals.")
    for group in made.groups:
        if len(group.runs) > 1:
            found.append(f"{group.name}: {', '.join(run.name for run in group.runs)}.")
    return found


def title(made: Comparison) -> str:
    """What is compared."""
    what = f"{len(made.runs)} runs"
    if made.several:
        what += f" of {len(made.groups)} method{'s' * (len(made.groups) > 1)}"
    return f"{made.results[0].evaluation}: {what} side by side"
