"""What one rank does in `test_distributed_gradients.py`; run as ``python -m tests.laws.two_ranks RANK WORLD FOLDER``.

The same code runs with one rank that holds the whole global batch and with two that hold half of it each: losses and
gradients must be the same. Each scenario starts from the same weights.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.tasks import TASKS
from mmssl.tasks.base import Moment, MultiTask
from tests.batches import World, small_encoders, training_undropped, truth_of
from tests.contract.rows import changed, take_rows, without

CLIPS = 8  # of the global batch
LATE = Moment(9, 10, 0, 0.9)
NO_NEGATIVES = [name for name, task in TASKS.items() if not task.negatives]
#: clips without sound, text or anything at all, most of them on the second rank
LACKING = {"sound": [1, 4, 5, 6, 7], "text": [2, 6]}
HOLES = [3, 5]
#: so that every clip takes part where none is lacking: micro-batches of unequal numbers of rows are no one batch
SETTINGS: dict[str, dict[str, Any]] = {
    "pace_prediction": {"repeated": 1.0},
    "video_colorization": {"clusters": 64},
}  # several colours in each


def multitask() -> MultiTask:
    """All tasks, every weight moved off its start."""
    torch.manual_seed(0)
    tasks = {name: TASKS[name](size=(32, 32), **SETTINGS.get(name, {})) for name in sorted(TASKS)}  # type: ignore[call-arg]
    made = MultiTask(small_encoders(0, 32), tasks)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return training_undropped(made)


def global_batch(window: Any, lacking: bool) -> Batch:
    batch = World(CLIPS, window, seed=5).batch(range(CLIPS))
    if lacking:
        for what, rows in LACKING.items():
            batch = without(batch, what, rows)
        weight = torch.ones(CLIPS)
        weight[HOLES] = 0
        batch = changed(batch, weight=weight)
    return batch


class Run:
    """One scenario: forwards and backwards of one optimizer step.

    Args:
        lacking: whether clips lack sound, text or everything, unequally on the ranks.
    """

    def __init__(self, lacking: bool) -> None:
        self.module = multitask()
        self.model: nn.Module = self.module
        if distributed.is_distributed():
            self.model = DistributedDataParallel(self.module, find_unused_parameters=True, broadcast_buffers=False)
        self.batch = global_batch(self.module.window, lacking)
        self.loss = torch.zeros(())

    def backward(self, rows: range, only: list[str] | None = None, last: bool = True, share: float = 1.0) -> None:
        """Forward and backward on this rank's part of these rows of the global batch."""
        each = len(rows) // distributed.world_size()
        mine = rows[distributed.rank() * each : (distributed.rank() + 1) * each]
        hold = contextlib.nullcontext() if last or self.model is self.module else self.model.no_sync()  # type: ignore[operator]
        with hold:
            batch = take_rows(self.batch, mine)
            loss, _ = self.model(batch, LATE, only, truth_of(batch))
            (share * loss).backward()
        self.loss = self.loss + share * loss.detach()

    def result(self) -> dict[str, torch.Tensor]:
        found = {n: p.grad.clone() for n, p in self.module.named_parameters() if p.grad is not None}
        return found | {"loss": distributed.sum_over_ranks(self.loss) / distributed.world_size()}


def summed(lacking: bool) -> dict[str, torch.Tensor]:
    run = Run(lacking)
    run.backward(range(CLIPS))
    return run.result()


def sampled(lacking: bool) -> dict[str, torch.Tensor]:
    """Two steps with other tasks each, gradients added up."""
    run = Run(lacking)
    run.backward(range(CLIPS), ["av_sync", "rotation"])
    run.backward(range(CLIPS), ["subtitle_matching"])
    return run.result()


def one_backward_per_task(lacking: bool) -> dict[str, torch.Tensor]:
    """Each task's graph is freed before the next is built; only the last backward talks to the other ranks."""
    run = Run(lacking)
    names = sorted(TASKS)
    for name in names:
        run.backward(range(CLIPS), [name], last=name == names[-1])
    return run.result()


def accumulated(lacking: bool) -> dict[str, torch.Tensor]:
    """Two micro-batches, for tasks that do not compare rows."""
    run = Run(lacking)
    half = CLIPS // 2
    run.backward(range(half), NO_NEGATIVES, last=False, share=0.5)
    run.backward(range(half, CLIPS), NO_NEGATIVES, share=0.5)
    return run.result()


def one_batch_without_negatives(lacking: bool) -> dict[str, torch.Tensor]:
    """What `accumulated` must equal when all clips are whole."""
    run = Run(lacking)
    run.backward(range(CLIPS), NO_NEGATIVES)
    return run.result()


SCENARIOS = {
    "summed": (summed, False),
    "summed, clips lacking": (summed, True),
    "sampled, clips lacking": (sampled, True),
    "one backward per task, clips lacking": (one_backward_per_task, True),
    "accumulated": (accumulated, False),
    "one batch without negatives": (one_batch_without_negatives, False),
}


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if world > 1:
        store = f"file://{folder / 'meet'}"
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    try:
        results = {name: make(lacking) for name, (make, lacking) in SCENARIOS.items()}
        torch.save(results, folder / f"rank{rank}of{world}.pt")
        distributed.barrier()
    finally:
        distributed.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
