"""`mmssl evaluate compare`: one evaluation of several runs in one table, with a chart and what may be said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmssl.report.comparison import Comparison, compare
from mmssl.report.comparison_page import comparison_page
from mmssl.report.comparison_table import heads, markdown, of_trainings, table_lines
from mmssl.report.runs import read_results
from mmssl.report.shell import write_page
from mmssl.training.files import write_whole
from pipelines.shared import make_folder


def run(
    runs: list[Path],
    out: Path = Path("compare"),
    evaluation: str | None = None,
    anyway: bool = False,
    group: str | None = None,
) -> dict[str, Any]:
    """Compare runs by what one evaluation wrote of each: a table, compare.json, compare.md and index.html with a chart.

    Args:
        runs: run folders, folders with a results.json, or such files; differences are taken from the first.
        out: folder for the comparison.
        evaluation: which one, where the runs have several.
        anyway: print numbers of different protocols, shards, sizes, views or clips all the same, with the difference
            named and nothing judged.
        group: regular expression on the paths of run folders: runs with the same first bracket are pretrainings of one
            method and one line, '(.+)' takes each run by itself; unless given, runs whose training settings are equal
            but for the seed.
    """
    made = compare(read_results(runs, evaluation), anyway, group)
    return write_comparison(made, out)


def compare_with(results: Path, others: Sequence[Path], out: Path, evaluation: str) -> dict[str, Any]:
    """Compare what an evaluation has just written with what it wrote of other runs."""
    return write_comparison(compare(read_results([results, *others], evaluation)), out)


def write_comparison(made: Comparison, out: Path) -> dict[str, Any]:
    """Write compare.json, compare.md and index.html, and print the table."""
    make_folder(out)
    found = made.as_dict()
    write_whole(out / "compare.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    write_whole(out / "compare.md", markdown(made))
    page = write_page(out / "index.html", comparison_page(made))
    console = Console()
    first = made.results[0]
    table = Table(title=f"{first.evaluation}, {first.protocol}")
    for head in ("", *heads(made)[2:6]):
        table.add_column(head, justify="right" if head else "left", overflow="fold")
    last = ""
    for line in table_lines(made):  # what may be said is printed below, a sentence each
        if line[0] != last:
            table.add_section()
            table.add_row(f"[bold]{escape(line[0])}")
            last = line[0]
        table.add_row(f"  {escape(line[1])}", *line[2:6])
    console.print(table)
    for one in made.unequal:
        what = "DIFFERENT CONDITIONS, " if one.refused else "differs, "
        console.print(
            what + one.sentence([run.name for run in made.runs]), markup=False, highlight=False, soft_wrap=True
        )
    for sentence in made.sentences():
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for note in (*(of_trainings(made) if made.several else ()), *made.remarks):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{page}", soft_wrap=True, markup=False)
    return found
