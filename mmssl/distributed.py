"""Rank, world, gather and agreement between processes; everything works in one process without a backend."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def is_distributed() -> bool:
    """Whether a process group of several ranks is up."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's rank, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of ranks, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this is rank 0, the one that writes files."""
    return rank() == 0


class _GatherRows(torch.autograd.Function):
    """All ranks' rows in rank order; the gradient of a row is the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.rows = x.shape[0]
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather(x: torch.Tensor) -> torch.Tensor:
    """Rows [B, ...] of every rank, [world * B, ...], in rank order, differentiable.

    Every rank must hold the same number of rows. The gradient that reaches a row is summed over ranks: when every
    rank computes the *same* loss on the gathered rows and DDP then averages gradients over ranks, parameters get
    exactly the gradient of one process holding the whole batch. A loss on gathered rows is therefore never divided
    by the world size.
    """
    if not is_distributed():
        return x
    if x.dtype == torch.bool:
        return gather(x.to(torch.uint8)).bool()
    if not x.requires_grad:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)
    gathered: torch.Tensor = _GatherRows.apply(x)
    return gathered


def gather_filled(x: torch.Tensor) -> torch.Tensor:
    """`gather` of rows [B, ...] whose other sizes may differ between ranks: the smaller are filled up with zeros.

    Without gradient. Ranks cut sentences to the longest of their own rows.
    """
    if not is_distributed():
        return x
    size = gather(torch.tensor([x.shape[1:]], dtype=torch.int64, device=x.device)).amax(dim=0).tolist()
    full = x.new_zeros(len(x), *size)
    full[tuple(slice(length) for length in x.shape)] = x.detach()
    return gather(full)


def sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over all ranks, without gradient."""
    x = x.detach().clone()
    if is_distributed():
        dist.all_reduce(x)
    return x


def global_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean of per-row values [B] over the valid rows of *all* ranks, as this rank's share of the loss.

    DDP averages gradients over ranks, so the local sum is scaled by the world size: the mean over ranks of what is
    returned is the global mean, and its gradient that of one process holding the whole batch. Without a valid row
    anywhere the result is 0 (with a gradient of 0).
    """
    total = sum_over_ranks(weight.sum()).clamp(min=1e-12)
    return (torch.where(weight > 0, values, torch.zeros_like(values)) * weight).sum() * world_size() / total


def any_rank(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Whether the flag is set on any rank: stopping is agreed, never decided alone."""
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)) > 0)


def barrier() -> None:
    """Wait for all ranks."""
    if is_distributed():
        dist.barrier()


def start(backend: str | None = None) -> torch.device:
    """Join the process group that torchrun describes in the environment, if there is one; returns the device."""
    import os

    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group(backend or ("nccl" if device.type == "cuda" else "gloo"))
    return device


def stop() -> None:
    """Leave the process group."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
