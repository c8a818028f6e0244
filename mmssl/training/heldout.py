"""How well each task does on clips that are not trained on, beside its floor, and with its information taken away.

The *ablated* score is that of the same trained task when the input that carries its answer is zeroed: it must lie
at the floor, else the task is solved by something else (a shortcut).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypedDict

import torch

from mmssl.nn.blinded import blinded
from mmssl.tasks.base import Moment, MultiTask
from mmssl.training.budget import SharedBudget
from mmssl.training.feed import Feed
from mmssl.training.meter import Meter
from mmssl.training.precision import Precision


class HeldOut(TypedDict):
    """Scores of one task. None where no clip was valid (or where no ablated score was asked for).

    `count` is the number of rows (clips, frames or sentences, as the task counts) behind `score`. `ablated_floor` is
    the floor beside `ablated`: where it depends on what the model says, it is another one with the input zeroed.
    `truth` names what the task was trained with beside the clips themselves; it is empty for self-supervision.
    """

    score_name: str
    score: float | None
    floor: float | None
    ceiling: float
    ablated: float | None
    ablated_floor: float | None
    count: int
    truth: list[str]


@contextlib.contextmanager
def judging(multitask: MultiTask) -> Iterator[None]:
    """Eval mode inside, training mode as before outside."""
    training = multitask.training
    multitask.eval()
    try:
        yield
    finally:
        multitask.train(training)


def heldout_scores(
    multitask: MultiTask,
    stream_factory: Callable[[], Feed],
    batches: int,
    moment: Moment,
    *,
    ablated: bool = True,
    precision: Precision | None = None,
) -> dict[str, HeldOut]:
    """Score every task on the first `batches` batches of a held-out stream; all ranks must call it.

    Args:
        multitask: the trained tasks, not wrapped.
        stream_factory: makes a stream over held-out clips (one pass, unshuffled).
        batches: global batches at most.
        moment: where training stands (curricula depend on it).
        ablated: whether to score with the zeroed input too (a second forward).
        precision: number format of the forward; float32 if left out.
    """
    device = next(multitask.parameters()).device
    precision = precision or Precision("fp32", device)
    inputs = {task.ablated_input for task in multitask.tasks.values()} if ablated else set()
    meter = Meter()
    stream = stream_factory()
    budget = SharedBudget(stream, 1, device)
    with judging(multitask), torch.inference_mode(), contextlib.closing(stream):
        for number, (batch, truth) in enumerate(stream):
            budget.check()
            if number == batches:
                break
            with precision.autocast():
                _, outcomes = multitask(batch, moment, truth=truth)
            for name, outcome in outcomes.items():
                for metric in {multitask.tasks[name].score.metric, "floor"} & outcome.metrics.keys():
                    meter.add(f"{name}/{metric}", *outcome.metrics[metric])
            for what in sorted(inputs):
                blind = [name for name, task in multitask.tasks.items() if task.ablated_input == what]
                tasks = [multitask.tasks[name] for name in blind]
                with precision.autocast(), blinded(multitask.encoders, what, *tasks):
                    _, outcomes = multitask(batch, moment, blind, truth)
                for name, outcome in outcomes.items():
                    meter.add(f"{name}/ablated", *outcome.metrics[multitask.tasks[name].score.metric])
                    if "floor" in outcome.metrics:
                        meter.add(f"{name}/ablated_floor", *outcome.metrics["floor"])
    taken = meter.take(device)
    found: dict[str, HeldOut] = {}
    for name, task in multitask.tasks.items():
        mean, count = taken.get(f"{name}/{task.score.metric}", (None, 0.0))
        fixed = task.score.floor
        floor = taken.get(f"{name}/floor", (None, 0.0))[0] if fixed is None else fixed
        blind_score = taken.get(f"{name}/ablated", (None, 0.0))[0]
        blind_floor = taken.get(f"{name}/ablated_floor", (None, 0.0))[0] if fixed is None else fixed
        found[name] = HeldOut(
            score_name=task.score.metric,
            score=mean,
            floor=floor,
            ceiling=task.score.ceiling,
            ablated=blind_score,
            ablated_floor=None if blind_score is None else blind_floor,
            count=round(count),
            truth=list(task.needs_truth),
        )
    return found
