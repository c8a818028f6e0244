"""What the programs that draw clips share: the output folder, the bar, the span of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl.clip import Span
from mmssl.errors import UserError


def make_folder(out: Path) -> None:
    """Make the output folder; UserError where it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder '{out}' cannot be made ({error.strerror}); give another one") from error


def span(seconds: float, rate: float) -> Span:
    """Length and rate of what is seen; UserError where they make no span."""
    try:
        return Span(seconds, rate)
    except ValueError as error:
        raise UserError(f"seconds={seconds} and rate={rate}: {error}") from error


def clips_bar(console: Console) -> Progress:
    """A bar that counts clips."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("clips"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def file_names(keys: Sequence[str]) -> list[str]:
    """A file name for each key, without anything that a file system minds, no two alike."""
    names: list[str] = []
    for key in keys:
        name = re.sub(r"[^0-9A-Za-z_.-]+", "_", key).strip(".")[:120] or "clip"
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names
