"""`mmssl tasks`: the pretext tasks, what they need and how they are judged."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def run() -> None:
    """List the pretext tasks."""
    from mmssl.tasks import TASKS

    table = Table(title="Pretext tasks")
    for column in ("task", "needs", "score, floor to ceiling"):
        table.add_column(column, no_wrap=column == "task")
    table.add_column("what it is", ratio=1)
    for name, task in TASKS.items():
        about = (task.__doc__ or "").strip().splitlines()[0]
        floor = "the batch's" if task.score.floor is None else f"{task.score.floor:.3g}"
        needs = ", ".join(task.needs) + (f"; the truth: {', '.join(task.needs_truth)}" if task.needs_truth else "")
        table.add_row(name, needs, f"{task.score.metric}, {floor} to {task.score.ceiling:g}", about)
    Console().print(table)
