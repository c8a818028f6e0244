"""One task trained for a moment in three ways: as it is meant, with broken pairs, and blind; scored on true clips.

What is taken from the task is what a run takes with ``train.control`` (`mmssl.tasks.base.MultiTask`): the law judges
the controls that users have. Most tasks are taught in their own test files, see `test_label_is_true`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from mmssl.batch import Batch
from mmssl.clip import Window
from mmssl.nn.encoders import Encoders
from mmssl.tasks import TASKS
from mmssl.tasks.base import Control, Moment, MultiTask, PretextTask
from tests.batches import World, small_encoders, truth_of
from tests.tasks.context.scenes import moving_discs, picture_batch, upright_houses
from tests.tasks.context.training import small_bundle
from tests.tasks.fitting import fit

HELD_OUT = 128  # clips


@dataclass(frozen=True)
class Plan:
    """How one task is taught.

    Args:
        steps: optimizer steps.
        settings: arguments of the task.
        films: (count, seed) -> films drawn for this task; the linked world of `tests.batches` when None.
        batch_size: clips a step.
        learning_rate: at its highest.
        seen: clips it is trained on.
        passes: scoring passes over the held-out clips, each with other draws, so that 500 rows and more are scored.
    """

    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    films: Callable[[int, int], Any] | None = None
    batch_size: int = 32
    learning_rate: float = 3e-3
    seen: int = 192
    passes: int = 4


LESSONS = {
    "rotation": Plan(40, {"size": (32, 32)}, upright_houses, learning_rate=6e-3, seen=512, passes=1),
    "order_prediction": Plan(
        80,
        {"size": (32, 32), "crop": 0.75, "width": 64, "jitter": 1 / 64},
        moving_discs,
        learning_rate=6e-3,
        seen=512,
        passes=1,
    ),
    "av_localization": Plan(50, {"size": (32, 32)}),
    "av_sync": Plan(40, {"size": (32, 32)}),
    "subtitle_matching": Plan(60, {"size": (32, 32)}),
}


@functools.lru_cache(maxsize=4)
def world(count: int, window: Window, seed: int) -> World:
    """A world rendered once for all lessons of a task."""
    return World(count, window, seed)


def clips(plan: Plan, task: PretextTask[Any, Any], count: int, seed: int) -> Callable[[int, int, int], Batch]:
    """(first, size, epoch) -> batch, of `count` clips of one seed."""
    if plan.films is None:
        known = world(count, task.window, seed)
        return lambda first, size, epoch: known.batch(range(first, first + size), epoch)
    films = plan.films(count, seed)
    offset = 10**6 * seed
    return lambda first, size, epoch: picture_batch(films[first : first + size], epoch=epoch, first=offset + first)


def teach(name: str, control: Control, seed: int = 0) -> tuple[float, int]:
    """(score, rows behind it) on held-out clips, always true ones, after training in one of the three ways."""
    plan = LESSONS[name]
    # Who sees nothing has learned all there is after a few steps.
    steps = max(20, plan.steps // 4) if control == "blind" else plan.steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = TASKS[name](**plan.settings)
        encoders: Encoders = small_bundle(seed=seed) if plan.films else small_encoders(seed)
        multitask = MultiTask(encoders, {name: task}, control=control)
        seen, each = clips(plan, task, plan.seen, 1), plan.batch_size
        fit(
            multitask,
            lambda step: seen(step * each % plan.seen, each, step * each // plan.seen),
            steps,
            plan.learning_rate,
        )
        held_out = clips(plan, task, HELD_OUT, 2)
        total = count = 0.0
        with torch.no_grad():
            for look in range(plan.passes):
                batch = held_out(0, HELD_OUT, look)
                _, outcomes = multitask(batch, Moment(steps, steps, 0, 1.0), truth=truth_of(batch))
                found, rows = outcomes[name].metrics[task.score.metric]
                total, count = total + float(found), count + float(rows)
    return total / count, round(count)
