"""Tasks that remember: two steps on one and on two ranks leave the same queues, centroids, losses and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from mmssl.clip import Span
from mmssl.distributed import sum_over_ranks
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.cross_modal.av_clustering import AVClustering
from mmssl.tasks.cross_modal.av_instance import AVInstance
from tests.batches import World, small_encoders
from tests.tasks.cross_modal.trained import changed

CLIPS = 10
SHORT: dict[str, Any] = {"picture": Span(0.5, 8.0), "sound_seconds": 1.0, "size": (32, 32)}


def multitask_of_all() -> MultiTask:
    tasks: dict[str, Any] = {
        "av_instance": AVInstance(queue=12, positives=2, agreement_from=1, **SHORT),
        "xdc": AVClustering("xdc", clusters=3, queue=12, every=1, **SHORT),
        "selavi": AVClustering("selavi", clusters=3, heads=2, queue=12, every=1, **SHORT),
    }
    torch.manual_seed(0)
    return MultiTask(small_encoders(0, width=32), tasks).train()


def learn(rows: range) -> dict[str, torch.Tensor]:
    """State after two steps, and losses, gradients and summed metrics of the second."""
    multitask = multitask_of_all()
    world = World(2 * CLIPS, multitask.window, seed=4)
    keep = torch.tensor([True, True, True, True, True, False, True, False, True, True])[list(rows)]
    weight = torch.tensor([1.0, 1, 1, 0, 1, 1, 1, 1, 1, 1])[list(rows)]
    outcomes: dict[str, Any] = {}
    for number in range(2):
        batch = changed(world.batch([number * CLIPS + i for i in rows]), has_audio=keep, weight=weight)
        moment = Moment(number, 2, 0, number / 2)
        multitask.zero_grad()
        total, outcomes = multitask(batch, moment)
        total.backward()
        multitask.after_step({name: [outcome.carry] for name, outcome in outcomes.items()}, moment)
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    found = {f"gradient {n}": p.grad for n, p in multitask.named_parameters() if p.grad is not None}
    found |= {f"loss {name}": outcome.loss for name, outcome in outcomes.items()}
    found = {name: sum_over_ranks(value) / ranks for name, value in found.items()}
    for name, outcome in outcomes.items():
        for metric, values in outcome.metrics.items():
            found[f"metric {name}/{metric}"] = sum_over_ranks(torch.stack(values))
    return found | {f"state {name}": value.clone() for name, value in multitask.heads.named_buffers()}


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        torch.save(learn(range(rank * CLIPS // 2, (rank + 1) * CLIPS // 2)), Path(folder) / f"found{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_remember_what_one_process_remembers(tmp_path: Path) -> None:
    multiprocessing.spawn(one_rank, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"found{rank}.pt", weights_only=True) for rank in range(2))
    together = learn(range(CLIPS))
    assert first.keys() == together.keys()
    assert int(together["state av_instance.queue.filled"]) == 12
    for name, value in together.items():
        if name.startswith("state"):
            assert torch.equal(first[name], second[name]), name  # to the bit, or ranks would drift apart
        scale = float(value.double().abs().max())
        tolerance = (1e-4 if name.startswith("gradient") else 1e-5) * max(scale, 1e-3)
        assert torch.allclose(first[name].double(), value.double(), rtol=0, atol=tolerance), name
