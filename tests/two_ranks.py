"""A function of a share of the rows, run in two processes that hold half of them each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from mmssl.distributed import sum_over_ranks

Found = dict[str, torch.Tensor]


def _one_rank(rank: int, folder: str, learn: Callable[[range], Found], rows: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        torch.save(learn(range(rank * rows // 2, (rank + 1) * rows // 2)), Path(folder) / f"found{rank}.pt")
    finally:
        dist.destroy_process_group()


def on_two_ranks(learn: Callable[[range], Found], rows: int, folder: Path) -> tuple[Found, Found]:
    """What `learn`, a function of a module, gives on either rank for its half of the rows."""
    multiprocessing.spawn(_one_rank, (str(folder), learn, rows), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in range(2))
    return first, second


def mean_over_ranks(found: Found) -> Found:
    """Means over the ranks, as DDP takes them of gradients."""
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    return {name: sum_over_ranks(value) / ranks for name, value in found.items()}


def assert_same(apart: Found, together: Found) -> None:
    """What one of two ranks found is what one process finds.

    A gradient of a first layer adds up thousands of float32 terms, in another order. That of a bias which a
    standardisation over the batch follows is nothing but rounding: a hundredth of the largest gradient counts as
    large for all of them.
    """
    assert apart.keys() == together.keys()
    sizes = {name: float(value.detach().double().abs().max()) for name, value in together.items()}
    largest = max((size for name, size in sizes.items() if name.startswith("gradient")), default=0.0)
    for name, value in together.items():
        gradient = name.startswith("gradient")
        least = max(1e-3, 0.01 * largest) if gradient else 1e-3
        tolerance = (1e-4 if gradient else 1e-5) * max(sizes[name], least)
        assert torch.allclose(apart[name].double(), value.double(), rtol=0, atol=tolerance), name
