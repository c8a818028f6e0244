"""Dense predictive coding on one and on two ranks, with unequal masks: same loss, same gradients, same metrics."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from mmssl.distributed import sum_over_ranks
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.contrastive.dense_predictive_coding import DensePredictiveCoding
from tests.batches import World, small_encoders
from tests.contract.rows import changed

CLIPS = 8


def learn(rows: range) -> dict[str, torch.Tensor]:
    """Loss, gradients and summed metrics, averaged and summed over ranks as training does."""
    torch.manual_seed(0)
    task = DensePredictiveCoding(size=(32, 32), width=32)
    multitask = MultiTask(small_encoders(0, 32), {"task": task}).eval()
    weight = torch.tensor([1.0, 1, 1, 0, 1, 0, 0, 1])[list(rows)]
    batch = changed(World(CLIPS, multitask.window, seed=4).batch(rows), weight=weight)
    total, outcomes = multitask(batch, Moment(0, 1, 0, 0.0))
    total.backward()
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    found = {f"gradient {n}": p.grad for n, p in multitask.named_parameters() if p.grad is not None}
    found["loss"] = outcomes["task"].loss
    found = {name: sum_over_ranks(value) / ranks for name, value in found.items()}
    for metric, values in outcomes["task"].metrics.items():
        found[f"metric {metric}"] = sum_over_ranks(torch.stack(values))
    return found


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        found = learn(range(rank * CLIPS // 2, (rank + 1) * CLIPS // 2))
        if rank == 0:
            torch.save(found, Path(folder) / "found.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    multiprocessing.spawn(one_rank, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    apart, together = torch.load(tmp_path / "found.pt", weights_only=True), learn(range(CLIPS))
    assert apart.keys() == together.keys()
    assert float(together["loss"].detach()) > 0
    assert float(together["metric top1"][1]) == 5.0
    for name, value in together.items():
        tolerance = (1e-4 if name.startswith("gradient") else 1e-5) * max(float(value.detach().abs().max()), 1e-3)
        assert torch.allclose(apart[name], value, rtol=0, atol=tolerance), name
