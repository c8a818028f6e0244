"""`mmssl tasks`: the pretext tasks, what they need and how they are judged."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def run() -> None:
    """List the pretext tasks."""
    from mmssl.tasks import TASKS

    table = Table(title="Pretext tasks")
    for column in ("task", "needs", "encoders", "score", "floor", "ceiling", "what it is"):
        table.add_column(column)
    for name, task in TASKS.items():
        about = (task.__doc__ or "").strip().splitlines()[0]
        score = task.score
        floor = "batch" if score.floor is None else f"{score.floor:.3g}"
        table.add_row(
            name, ", ".join(task.needs), ", ".join(task.uses), score.metric, floor, f"{score.ceiling:g}", about
        )
    Console().print(table)
