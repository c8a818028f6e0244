"""The order of samples as a pure function of (seed, source, epoch): it knows nothing of ranks or workers.

Shards are permuted, taken in groups of `shuffle_shards`, and samples are permuted within a group through the index.
There is no shuffle buffer, so a position in the order is one integer and resuming costs nothing.

`order` says what the order is. `Epochs` gives the same order a few positions at a time, and makes no more of it than
they need: the permutation of the shards and those of the last groups. `Resampled` draws with replacement.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np

from mmssl.randomness import hash_name, uniform_at, uniform_numpy

OrderName = Literal["epochs", "resampled"]
ORDERS = ("epochs", "resampled")
T = TypeVar("T")


def _permutation(name: str, count: int) -> np.ndarray:
    return np.argsort(uniform_numpy(np.array([hash_name(name)]), "order", count)[0], kind="stable")


def _name(seed: int, source: str, epoch: int) -> str:
    return f"{seed}\x1f{source}\x1f{epoch}"


def order(seed: int, source: str, epoch: int, shard_lengths: Sequence[int], shuffle_shards: int) -> np.ndarray:
    """Int64 [N]: all sample ids of the source, each once, in the order of one epoch.

    Args:
        seed: the run's seed.
        source: name of the source.
        epoch: number of the epoch.
        shard_lengths: samples in each shard; sample ids count through the shards.
        shuffle_shards: shards a group; samples mix within a group. 0 keeps the index's own order.
    """
    starts = np.concatenate([[0], np.cumsum(shard_lengths)]).astype(np.int64)
    if shuffle_shards <= 0:
        return np.arange(starts[-1], dtype=np.int64)
    name = _name(seed, source, epoch)
    shards = _permutation(name, len(shard_lengths))
    groups = []
    for first in range(0, len(shards), shuffle_shards):
        group = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in shards[first : first + shuffle_shards]])
        groups.append(group[_permutation(f"{name}\x1f{first}", len(group))])
    return np.concatenate(groups) if groups else np.zeros(0, dtype=np.int64)


class Order(Protocol):
    """Sample ids at positions of a source whose epochs are laid end to end."""

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Int64 [B]: the sample at each position, int64 [B], all >= 0."""
        ...


class _Recent:
    """The last values of a function that is dear to call."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: OrderedDict[Hashable, object] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self.kept:
            self.kept[key] = make()
            if len(self.kept) > self.size:
                self.kept.popitem(last=False)
        self.kept.move_to_end(key)
        return self.kept[key]  # type: ignore[return-value]


class Epochs:
    """The order of `order`, epoch after epoch, made where it is asked for.

    Memory: three int64 a shard and epoch (the last two epochs), one a sample of the last four groups.

    Args:
        seed: the run's seed.
        source: name of the source.
        shard_lengths: int64 [S], samples in each shard, at least one in all.
        shuffle_shards: shards a group; 0 keeps the index's own order.
    """

    def __init__(self, seed: int, source: str, shard_lengths: np.ndarray, shuffle_shards: int) -> None:
        self.seed, self.source, self.shuffle_shards = seed, source, shuffle_shards
        self.lengths = np.asarray(shard_lengths, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        self.samples = int(self.starts[-1])
        self._shards = _Recent(2)  # a batch may straddle two epochs
        self._groups = _Recent(4)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Int64 [B]: the sample at each position, int64 [B]."""
        positions = np.asarray(positions, dtype=np.int64)
        if self.shuffle_shards <= 0:
            return positions % self.samples
        found = np.empty_like(positions)
        epochs, offsets = np.divmod(positions, self.samples)
        for epoch in np.unique(epochs).tolist():
            shards, edges = self._shards.get(epoch, lambda epoch=epoch: self._epoch(epoch))  # type: ignore[misc]
            rows = np.flatnonzero(epochs == epoch)
            groups = np.searchsorted(edges, offsets[rows], side="right") - 1
            for number in np.unique(groups).tolist():
                samples = self._groups.get(
                    (epoch, number),
                    lambda epoch=epoch, number=number, shards=shards: self._group(epoch, number, shards),  # type: ignore[misc]
                )
                inside = rows[groups == number]
                found[inside] = samples[offsets[inside] - edges[number]]
        return found

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The permuted shards, int64 [S], and where each group of them begins in the epoch, int64 [groups + 1]."""
        shards = _permutation(_name(self.seed, self.source, epoch), len(self.lengths))
        ends = np.cumsum(self.lengths[shards])
        edges = np.concatenate([[0], ends[self.shuffle_shards - 1 :: self.shuffle_shards]])
        return shards, edges if edges[-1] == self.samples else np.append(edges, self.samples)

    def _group(self, epoch: int, number: int, shards: np.ndarray) -> np.ndarray:
        first = number * self.shuffle_shards
        members = shards[first : first + self.shuffle_shards]
        group = np.concatenate([np.arange(self.starts[s], self.starts[s + 1]) for s in members])
        mixed: np.ndarray = group[_permutation(f"{_name(self.seed, self.source, epoch)}\x1f{first}", len(group))]
        return mixed


class Resampled:
    """Samples drawn with replacement, each position for itself, all samples equally likely.

    Positions are taken in blocks of as many as `shuffle_shards` shards of mean length hold. A block draws that many
    shards, with chances by their length, and each of its positions one of these and a sample in it, so that
    few shards are read at a time. As every draw is a hash of its position, resuming and re-sharding are exact here
    too. Its epochs are nominal: as many positions as there are samples.

    Args: see `Epochs`; `shuffle_shards` is at least 1.
    """

    def __init__(self, seed: int, source: str, shard_lengths: np.ndarray, shuffle_shards: int) -> None:
        self.starts = np.concatenate([[0], np.cumsum(shard_lengths)]).astype(np.int64)
        self.samples = int(self.starts[-1])
        self.shards = shuffle_shards
        self.block = max(self.samples * shuffle_shards // len(shard_lengths), 1)
        self.seed = hash_name(f"{seed}\x1f{source}\x1fresampled")

    def _draw(self, name: str, counters: np.ndarray, high: np.ndarray | int) -> np.ndarray:
        drawn = (uniform_at(self.seed, name, counters) * high).astype(np.int64)
        return np.asarray(np.minimum(drawn, np.asarray(high) - 1))

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Int64 [B]: the sample at each position, int64 [B]."""
        positions = np.asarray(positions, dtype=np.int64)
        slot = positions // self.block * self.shards + self._draw("slot", positions, self.shards)
        shard = np.searchsorted(self.starts, self._draw("shard", slot, self.samples), side="right") - 1
        first, after = self.starts[shard], self.starts[shard + 1]
        found: np.ndarray = first + self._draw("sample", positions, after - first)
        return found
