"""The line on the terminal while a run trains: a live one on a terminal, a plain one now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mmssl import distributed
from mmssl.tasks.base import Score

PLAIN_EVERY = 10.0  # seconds between lines when the output is no terminal


def duration(seconds: float) -> str:
    """A time span as people read it: ``48s``, ``3:20``, ``2:03:20``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def score_text(metrics: Mapping[str, float], scores: Mapping[str, Score]) -> str:
    """Each task's score against its floor, ``rotation 0.71/0.25``; a dash where no row was valid."""
    parts = []
    for task, score in scores.items():
        value = metrics.get(f"{task}/{score.metric}")
        floor = metrics.get(f"{task}/floor") if score.floor is None else score.floor
        shown = "-" if value is None else f"{value:.2f}"
        parts.append(f"{task} {shown}/{'-' if floor is None else f'{floor:.2f}'}")
    return "  ".join(parts)


class ProgressLine:
    """Shows where training stands, on rank 0.

    Args:
        total: steps of the run.
        scores: how each task is judged.
        console: where to print (standard error by default).
    """

    def __init__(self, total: int, scores: Mapping[str, Score], console: Console | None = None) -> None:
        self.total = total
        self.scores = scores
        self.console = console or Console(stderr=True, highlight=False)
        self._shown = distributed.is_main()
        self._live: Progress | None = None
        self._bar: TaskID | None = None
        self._last = -PLAIN_EVERY

    def __enter__(self) -> ProgressLine:
        if self._shown and self.console.is_terminal:
            self._live = Progress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[status]}"),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._bar = self._live.add_task("training", total=self.total, status="")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, step: int, metrics: Mapping[str, float], clips_per_second: float, data_wait: float) -> None:
        """Show one logged step: loss, scores against floors, clips a second, share of time waiting for data."""
        if not self._shown:
            return
        left = (self.total - step) * metrics.get("seconds_per_step", 0.0)
        status = (
            f"loss {metrics.get('loss', float('nan')):.3f}  {score_text(metrics, self.scores)}  "
            f"{clips_per_second:.0f} clips/s  data {100 * data_wait:.0f} %  ETA {duration(left)}"
        )
        if self._live is not None and self._bar is not None:
            self._live.update(self._bar, completed=step, status=escape(status))
        elif step >= self.total or time.monotonic() - self._last >= PLAIN_EVERY:
            self._last = time.monotonic()
            self.console.print(f"step {step}/{self.total}  {status}", markup=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line above the live one."""
        if self._shown:
            self.console.print(text, markup=False, soft_wrap=True)
