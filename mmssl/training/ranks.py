"""Plain objects of all ranks, and the data position that stands for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch.distributed as dist

from mmssl import distributed

T = TypeVar("T")


def gather_objects(mine: T) -> list[T]:
    """One object of each rank, in rank order; all ranks must call it."""
    if not distributed.is_distributed():
        return [mine]
    found: list[Any] = [None] * distributed.world_size()
    dist.all_gather_object(found, mine)
    return found


def common_position(state: Mapping[str, Any]) -> dict[str, Any]:
    """The stream's state for the checkpoint; all ranks must call it.

    Positions are those of the global batches and equal on all ranks; samples that killed or hung a decode worker are
    known to one rank only, and are put together: a resumed run, on whatever ranks, must leave out the same samples.
    """
    together = dict(state)
    if "quarantine" in state:
        together["quarantine"] = {}
        for other in gather_objects(state["quarantine"]):
            together["quarantine"].update(other)
    return together
