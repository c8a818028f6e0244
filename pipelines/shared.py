"""What programs over clips share: the bars, the span of a view, the output folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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
