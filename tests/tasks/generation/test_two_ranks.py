"""The same global batch on one and on two ranks, with a hole on one: same loss, same gradients, same clusters."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from mmssl.distributed import sum_over_ranks
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.generation.video_colorization import SAMPLES, VideoColorization
from tests.batches import World, small_encoders
from tests.contract.rows import changed

CLIPS = 8
LATE = Moment(9, 10, 0, 0.9)


def learn(rows: range) -> dict[str, torch.Tensor]:
    """Loss and gradients, averaged over ranks as training does; and the clusters after enough steps to fit them."""
    torch.manual_seed(0)
    multitask = MultiTask(small_encoders(0, width=32), {"task": VideoColorization(size=(32, 32))}).eval()
    batch = World(CLIPS, multitask.window, seed=4).batch(rows)
    batch = changed(batch, weight=torch.tensor([1.0, 0, 1, 1, 1, 1, 1, 1])[list(rows)])
    loss, outcomes = multitask(batch, LATE)
    loss.backward()
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    found = {f"gradient {n}": p.grad for n, p in multitask.named_parameters() if p.grad is not None}
    found = {name: sum_over_ranks(value) / ranks for name, value in (found | {"loss": loss.detach()}).items()}
    for name, values in outcomes["task"].metrics.items():
        found[f"metric {name}"] = sum_over_ranks(torch.stack(values))
    task = multitask.tasks["task"]
    before = task.centroids.clone()
    for _ in range(SAMPLES // (64 * (CLIPS - 1)) + 1):
        multitask.after_step({"task": [outcomes["task"].carry]}, LATE)
    assert not torch.equal(task.centroids, before)
    return found | {"centroids": task.centroids.clone()}


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        torch.save(learn(range(rank * CLIPS // 2, (rank + 1) * CLIPS // 2)), Path(folder) / f"found{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    multiprocessing.spawn(one_rank, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"found{rank}.pt", weights_only=True) for rank in range(2))
    together = learn(range(CLIPS))
    assert torch.equal(first["centroids"], second["centroids"])
    for name, value in together.items():
        scale = float(value.abs().max())
        tolerance = (1e-4 if name.startswith("gradient") else 1e-5) * max(scale, 1e-3)
        assert torch.allclose(first[name], value, rtol=0, atol=tolerance), name
