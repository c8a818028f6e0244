"""The budget of samples that fail, over all ranks: they stop together, at the same step, with the same causes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from mmssl import distributed
from mmssl.data.budget import Budget
from mmssl.training.ranks import gather_objects

FAILED = "failed: "  # how a stream's counters name the causes of samples that could not be read


class SharedBudget:
    """Takes the budget over from a stream of several ranks, which could stop only itself and leave the others waiting.

    With one rank, or a feed that keeps no count, there is nothing to do.

    Args:
        feed: the stream.
        accumulate: micro-batches a step.
        device: where the ranks' counts are gathered.
    """

    def __init__(self, feed: Any, accumulate: int, device: torch.device) -> None:
        self._feed = feed
        self._accumulate = accumulate
        self._device = device
        self._budget = Budget()
        self._active = distributed.is_distributed() and hasattr(feed, "share_budget")
        if self._active:
            feed.share_budget()

    def check(self) -> None:
        """Count the samples of one step; all ranks must call it.

        Raises:
            TooManyFailures: on all ranks alike.
        """
        if not self._active:
            return
        mine = torch.tensor(self._feed.take_outcomes(), dtype=torch.int8, device=self._device)
        gathered = distributed.gather(mine).reshape(distributed.world_size(), self._accumulate, -1)
        outcomes = gathered.transpose(0, 1).flatten().tolist()  # in the order of the global batches
        if self._budget.note(bool(outcome) for outcome in outcomes if outcome >= 0):
            causes: Counter[str] = Counter()
            examples: list[str] = []
            for counted, messages in gather_objects((dict(self._feed.counters), list(self._feed.failures)[-3:])):
                causes.update({k.removeprefix(FAILED): n for k, n in counted.items() if k.startswith(FAILED)})
                examples += messages
            raise self._budget.error(dict(sorted(causes.items())), examples[-3:])


def total_counters(counters: Any) -> dict[str, Any]:
    """A feed's counters summed over all ranks; all ranks must call it. Batches and passes are global, counted once."""
    total: Counter[str] = Counter()
    for counted in gather_objects(dict(counters)):
        total.update(counted)
    shared = {name: n for name, n in counters.items() if name == "batches" or name.startswith("passes of ")}
    return dict(total) | shared
