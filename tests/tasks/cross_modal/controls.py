"""Law 6: a task trained as meant and as its two controls, scored on true clips that it was not trained on.

Unlike `trained.train` it calls `after_step`, so that tasks with queues and centroids learn as they do in a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mmssl.tasks.base import Control, Moment, MultiTask, Outcome, PretextTask
from tests.batches import World, small_encoders

LATE = Moment(10**6, 10**6, 9, 1.0)


def train(
    task: PretextTask[Any, Any], *, steps: int, control: Control = "none", clips: int = 256, batch_size: int = 32
) -> MultiTask:
    """The task trained on a world of its own window, every clip once an epoch."""
    world = World(clips, task.window, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        multitask = MultiTask(small_encoders(0), {"task": task}, control=control).train()
    optimizer = torch.optim.AdamW(multitask.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    generator, per_epoch = torch.Generator().manual_seed(0), clips // batch_size
    order = torch.arange(0)
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(clips, generator=generator)
        rows = order[step % per_epoch * batch_size :][:batch_size].tolist()
        moment = Moment(step, steps, step // per_epoch, step / steps)
        loss, outcomes = multitask(world.batch(rows, epoch=step // per_epoch), moment)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(multitask.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        multitask.after_step({"task": [outcomes["task"].carry]}, moment)
    return multitask.eval()


@torch.no_grad()
def held_out(multitask: MultiTask, metrics: Sequence[str], clips: int = 128) -> dict[str, float]:
    """Means of metrics over true clips of another world."""
    outcome: Outcome = multitask(World(clips, multitask.window, seed=1).batch(range(clips)), LATE)[1]["task"]
    return {name: float(outcome.metrics[name][0]) / float(outcome.metrics[name][1]) for name in metrics}
