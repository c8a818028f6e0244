"""One cross-modal task, set up or trained for a moment on the synthetic world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from mmssl.batch import Batch
from mmssl.tasks.base import Control, Moment, MultiTask, Outcome, PretextTask
from tests.batches import World, small_encoders, truth_of
from tests.tasks.fitting import fit

START, LATE = Moment(0, 100, 0, 0.0), Moment(90, 100, 9, 0.9)


def multitask_of(task: PretextTask[Any, Any], seed: int = 0) -> MultiTask:
    """The task and narrow encoders, with weights from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MultiTask(small_encoders(seed), {"task": task}).eval()


def outcome_of(multitask: MultiTask, batch: Batch, moment: Moment = LATE) -> Outcome:
    """The task's outcome on a batch."""
    return multitask(changed(batch), moment, truth=truth_of(batch))[1]["task"]


def changed(batch: Batch, **fields: Any) -> Batch:
    """The batch with other fields and nothing made from it yet."""
    return dataclasses.replace(batch, **fields, _made={})


def ramp(batch: Batch) -> Batch:
    """The batch with a sound whose value is its own time in units of 10 s, so that what is heard tells when."""
    samples = torch.arange(batch.audio.shape[-1], dtype=torch.float64) / batch.audio_rate
    return changed(batch, audio=((batch.audio_start[:, :, None] + samples) / 10).float())


def clock(batch: Batch) -> Batch:
    """The batch with frames whose grey value is their wanted time, 50 grey levels a second."""
    level = (batch.wanted_times * 50).round().to(torch.uint8)
    return changed(batch, pixels=level[..., None, None, None].expand_as(batch.frames).contiguous())


def mean(outcome: Outcome, metric: str) -> float:
    """A metric's mean."""
    total, count = outcome.metrics[metric]
    return float(total) / max(float(count), 1e-9)


def train(
    task: PretextTask[Any, Any],
    *,
    steps: int,
    clips: int = 256,
    batch_size: int = 32,
    distractor: bool = False,
    control: Control = "none",
    change: Callable[[Batch], Batch] = lambda batch: batch,
    seed: int = 0,
) -> MultiTask:
    """The task trained on a world of its own window, whose batches `change` may make over, as a control or not.

    `seed` is that of the start weights, the order of the clips and all draws; the world is the same.
    """
    world = World(clips, task.window, seed=0, distractor=distractor)
    multitask = multitask_of(task, seed)
    multitask.control = control
    generator = torch.Generator().manual_seed(seed)

    def batch_of(step: int) -> Batch:
        rows = torch.randperm(clips, generator=generator)[:batch_size].tolist()
        return change(world.batch(rows, epoch=1000 * seed + step))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fit(multitask, batch_of, steps)
