"""The training loop of the tests: what a run does in a step, without what keeps a run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mmssl.batch import Batch
from mmssl.tasks.base import Moment, MultiTask
from tests.batches import truth_of


def fit(
    multitask: MultiTask,
    batch_of: Callable[[int], Batch],
    steps: int,
    rate: float = 3e-3,
    warmup: float = 0.1,
    clipped: float | None = 1.0,
) -> MultiTask:
    """The tasks after some steps of AdamW under one cycle, in evaluation mode.

    Args:
        multitask: the tasks, set up.
        batch_of: the batch of a step.
        steps: optimizer steps.
        rate: the highest learning rate, of all that a task asks for no other of.
        warmup: share of the steps until it is reached.
        clipped: largest norm of the gradient, or None for any.
    """
    multitask.train()
    own = [group for task in multitask.tasks.values() for group in task.parameter_groups() if "lr" in group]
    apart = {id(parameter) for group in own for parameter in group["params"]}
    groups = [{"params": [p for p in multitask.parameters() if id(p) not in apart], "lr": rate}, *own]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=warmup)
    for step in range(steps):
        batch, moment = batch_of(step), Moment(step, steps, 0, step / steps)
        loss, outcomes = multitask(batch, moment, truth=truth_of(batch))
        optimizer.zero_grad()
        loss.backward()
        if clipped is not None:
            torch.nn.utils.clip_grad_norm_(multitask.parameters(), clipped)
        optimizer.step()
        multitask.after_step({name: [outcome.carry] for name, outcome in outcomes.items()}, moment)
        schedule.step()
    return multitask.eval()
