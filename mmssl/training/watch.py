"""When training looks at its features and at held-out clips, and what is written about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from mmssl import distributed
from mmssl.tasks.base import Moment, MultiTask
from mmssl.training.feed import Feed
from mmssl.training.files import write_whole
from mmssl.training.heldout import heldout_scores
from mmssl.training.log import RunLog
from mmssl.training.monitor import Monitor, Standing, monitor_row, spectrum_file
from mmssl.training.precision import Precision
from mmssl.training.settings import TrainSettings


class Watch:
    """Monitor and held-out scores at their times; all ranks must call its methods.

    Args:
        run: the run folder.
        multitask: encoders and tasks, not wrapped.
        settings: the loop's settings.
        quiet_steps: steps (the warm-up) in which features may still be those of random weights: no warnings.
        precision: number format of the forward.
        heldout: makes a stream of held-out clips, or None.
        monitored: makes the stream that the monitor looks at, or None.
    """

    def __init__(
        self,
        run: Path,
        multitask: MultiTask,
        settings: TrainSettings,
        quiet_steps: int,
        precision: Precision,
        heldout: Callable[[], Feed] | None,
        monitored: Callable[[], Feed] | None,
    ) -> None:
        self._run = run
        self._multitask = multitask
        self._settings = settings
        self._quiet_steps = quiet_steps
        self._precision = precision
        self._heldout = heldout
        self._monitor: Monitor | None = None
        if monitored is not None and settings.monitor_every:
            self._monitor = Monitor(multitask, monitored, settings.monitor_batches, precision)
        self._row: dict[str, float] = {}

    def note(self, row: Mapping[str, float]) -> None:
        """Remember the latest training scores: the cause of a collapse depends on them."""
        self._row.update(row)

    def before(self, log: RunLog) -> None:
        """Write what the features of the start weights look like."""
        if self._monitor is not None:
            log.event("monitor", 0, **monitor_row(self._monitor.look()))

    def after(self, log: RunLog, moment: Moment) -> list[str]:
        """Look and score if it is time; `moment.step` is the number of steps made. Returns warnings to show."""
        last = moment.step == moment.total_steps

        def due(every: int) -> bool:
            return every > 0 and (last or moment.step % every == 0)

        warnings: list[str] = []
        if self._monitor is not None and due(self._settings.monitor_every):
            found = self._monitor.look()
            row = monitor_row(found)
            if due(self._settings.gradients_every):
                row |= self._monitor.gradient_norms(moment)
            log.event("monitor", moment.step, **row)
            if moment.step > self._quiet_steps:
                warnings = self._monitor.warnings(found, self._standings())
            if last and distributed.is_main():
                write_whole(self._run / "spectrum.json", json.dumps(spectrum_file(moment.step, found), indent=1))
        if self._heldout is not None and due(self._settings.heldout_every):
            scores = heldout_scores(
                self._multitask, self._heldout, self._settings.heldout_batches, moment, precision=self._precision
            )
            for task, score in scores.items():
                log.event("heldout", moment.step, task=task, **score)
                if score["score"] is None:
                    warnings.append(
                        f"{task} has no held-out score: no row counts in {self._settings.heldout_batches} batches "
                        "(clips without what it needs, or fewer in a batch than its score compares); see data.heldout, "
                        "data.batch_size and the task's settings"
                    )
        return warnings

    def _standings(self) -> dict[str, Standing]:
        standings = {}
        for name, task in self._multitask.tasks.items():
            floor = self._row.get(f"{name}/floor") if task.score.floor is None else task.score.floor
            standings[name] = Standing(
                score=self._row.get(f"{name}/{task.score.metric}"),
                floor=floor,
                ceiling=task.score.ceiling,
                teacher=hasattr(task, "teacher") and not task.negatives,
            )
        return standings
