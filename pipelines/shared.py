"""What programs over clips share: the bars, the span of a view, the output folder, the table of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mmssl.clip import Span
from mmssl.errors import UserError


def counting_bar(console: Console, what: str = "clips") -> Progress:
    """A bar that counts clips (or what `what` says) and goes away when it is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(what),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def view_span(seconds: float, rate: float) -> Span:
    """The span of a view.

    Raises:
        UserError: it holds no frame.
    """
    try:
        return Span(seconds, rate)
    except ValueError as error:
        raise UserError(f"seconds={seconds} and rate={rate}: {error}") from error


def make_folder(out: Path) -> None:
    """Make an output folder.

    Raises:
        UserError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder '{out}' cannot be made ({error.strerror}); give another --out") from error


def score_table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of scores: on a narrow terminal names are wrapped, never numbers."""
    table = Table(title=title)
    table.add_column(columns[0], overflow="fold")
    for name in columns[1:]:
        table.add_column(name.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
