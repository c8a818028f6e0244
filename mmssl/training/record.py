"""What the steps since the last row were: means over ranks, speed, which samples, which could not be read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.tasks.base import Outcome
from mmssl.training.budget import FAILED
from mmssl.training.meter import Meter, means
from mmssl.training.ranks import gather_objects


class Record:
    """Collects steps until a row is written. `take` and `new_failures` must be called by all ranks.

    Args:
        accumulate: micro-batches a step.
        device: where sums over ranks are made.

    Attributes:
        seconds: time of the steps.
        waited: seconds of it that were spent waiting for data.
        steps: how many steps.
    """

    def __init__(self, accumulate: int, device: torch.device) -> None:
        self._accumulate = accumulate
        self._device = device
        self._meter = Meter()
        self._failures: dict[str, int] = {}
        self._begin()

    def _begin(self) -> None:
        self.seconds = self.waited = 0.0
        self.steps = self._clips = 0
        self._seeds: list[torch.Tensor] = []

    def number(self, name: str, value: torch.Tensor | float) -> None:
        """One number of a step."""
        self._meter.add(name, value)

    def batch(self, batch: Batch, loss: torch.Tensor, outcomes: Mapping[str, Outcome]) -> None:
        """One micro-batch."""
        self._seeds.append(batch.seeds)
        self._clips += len(batch)
        self._meter.add("loss", loss)
        for name, outcome in outcomes.items():
            self._meter.add(f"{name}/loss", outcome.loss)
            for metric, (total, count) in outcome.metrics.items():
                self._meter.add(f"{name}/{metric}", total, count)
        for counter in ("decoder_calls", "decoded_pictures"):
            if counter in batch.counters:
                self._meter.add(counter, float(batch.counters[counter]))

    def take(self) -> tuple[dict[str, float], str]:
        """The row's numbers, and the digest of its samples; begins anew."""
        world = distributed.world_size()
        row = means(self._meter.take(self._device))
        for counter in ("decoder_calls", "decoded_pictures"):
            if counter in row:  # of a step, over all ranks
                row[counter] *= world * self._accumulate
        row["seconds_per_step"] = self.seconds / self.steps
        row["clips_per_second"] = world * self._clips / max(self.seconds, 1e-9)
        row["data_wait"] = self.waited / max(self.seconds, 1e-9)
        keys = self._digest()
        self._begin()
        return row, keys

    def _digest(self) -> str:
        """Digest of the samples of the global batches (their `sample_seed`), in their order."""
        gathered = distributed.gather(torch.cat(self._seeds))
        ordered = gathered.reshape(distributed.world_size(), len(self._seeds), -1).transpose(0, 1)
        return hashlib.blake2b(ordered.contiguous().cpu().numpy().tobytes(), digest_size=8).hexdigest()

    def new_failures(self, counters: Mapping[str, Any]) -> dict[str, int]:
        """Samples that could not be read since this process started, by cause; empty unless there are new ones."""
        mine = {k.removeprefix(FAILED): int(n) for k, n in counters.items() if k.startswith(FAILED)}
        causes: Counter[str] = Counter()
        for counted in gather_objects(mine):
            causes.update(counted)
        if dict(causes) == self._failures:
            return {}
        self._failures = dict(sorted(causes.items()))
        return self._failures
