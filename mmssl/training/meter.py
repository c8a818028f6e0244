"""Means over steps and ranks: sums and counts are kept apart until a row is written, so that means are exact."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mmssl import distributed


class Meter:
    """Adds up (sum, count) of named numbers on the device, without waiting for it."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, name: str, total: torch.Tensor | float, count: torch.Tensor | float = 1.0) -> None:
        """Add a sum over `count` values."""
        total = torch.as_tensor(total, dtype=torch.float64).detach()
        count = torch.as_tensor(count, dtype=torch.float64, device=total.device).detach()
        if name in self._sums:
            before = self._sums[name]
            self._sums[name] = (before[0] + total.to(before[0].device), before[1] + count.to(before[1].device))
        else:
            self._sums[name] = (total, count)

    def take(self, device: torch.device) -> dict[str, tuple[float, float]]:
        """(mean, count) of each name over all ranks, sorted by name, and start anew; all ranks must call it.

        Names without any count (no valid row anywhere) are left out. The names must be the same on all ranks.
        """
        names = sorted(self._sums)
        if not names:
            return {}
        pairs = torch.stack([torch.stack([value.to(device) for value in self._sums[name]]) for name in names])
        self._sums = {}
        sums = distributed.sum_over_ranks(pairs).tolist()
        return {name: (total / count, count) for name, (total, count) in zip(names, sums, strict=True) if count > 0}


def means(taken: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The means alone."""
    return {name: mean for name, (mean, _) in taken.items()}
