"""Law 6: a task trained as meant and as its two controls, scored on true clips that it was not trained on.

Unlike `trained.train` it shows every clip once an epoch: tasks with queues and centroids should not meet a clip again
while they hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mmssl.batch import Batch
from mmssl.tasks.base import Control, Moment, MultiTask, Outcome, PretextTask
from tests.batches import World, small_encoders
from tests.tasks.fitting import fit

LATE = Moment(10**6, 10**6, 9, 1.0)


def train(
    task: PretextTask[Any, Any], *, steps: int, control: Control = "none", clips: int = 256, batch_size: int = 32
) -> MultiTask:
    """The task trained on a world of its own window, every clip once an epoch."""
    world = World(clips, task.window, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        multitask = MultiTask(small_encoders(0), {"task": task}, control=control)
    generator, per_epoch = torch.Generator().manual_seed(0), clips // batch_size
    orders = [torch.randperm(clips, generator=generator) for _ in range(-(-steps // per_epoch))]

    def batch_of(step: int) -> Batch:
        epoch, place = divmod(step, per_epoch)
        return world.batch(orders[epoch][place * batch_size :][:batch_size].tolist(), epoch=epoch)

    return fit(multitask, batch_of, steps)


@torch.no_grad()
def held_out(multitask: MultiTask, metrics: Sequence[str], clips: int = 128) -> dict[str, float]:
    """Means of metrics over true clips of another world."""
    outcome: Outcome = multitask(World(clips, multitask.window, seed=1).batch(range(clips)), LATE)[1]["task"]
    return {name: float(outcome.metrics[name][0]) / float(outcome.metrics[name][1]) for name in metrics}
