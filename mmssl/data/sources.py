"""Sources of a mix: shards under one name, and the sample at any position of their endless order."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mmssl.data.order import ORDERS, Epochs, Order, OrderName, Resampled
from mmssl.data.shards.catalog import Catalog, Progress, only, read_catalog
from mmssl.data.shards.index import SampleEntry, expand_shards
from mmssl.data.storage.settings import RemoteSettings
from mmssl.data.storage.url import Shard
from mmssl.errors import UserError, nearest

_MOST_SHARDS = 256  # whose entries are kept: 50 MB at 1,000 samples a shard
_AT_ONCE = 1 << 20  # positions


@dataclass(frozen=True)
class Source:
    """Shards under one name.

    Args:
        name: the name that draws and counters go by.
        shards: shard specification (braces, ``::``, globs, a folder) or a list of them.
        quota: samples of each global batch; may be left out when there is one source.
        order: "epochs" (every sample once an epoch) or "resampled" (drawn with replacement); that of the stream if
            left out.
        remote: how shards at addresses are read; as the stream says if left out.
        keys: only the samples with these keys; all of them if left out.
    """

    name: str
    shards: str | list[str]
    quota: int | None = None
    order: OrderName | None = None
    remote: RemoteSettings | None = None
    keys: frozenset[str] | None = None


def as_sources(given: str | Path | Source | Sequence[str | Path | Source]) -> list[Source]:
    """Sources from what names them; shards without a name of their own are those of one source, ``data``.

    Raises:
        UserError: sources and bare shards are mixed, or something else is among them.
    """
    listed = [given] if isinstance(given, str | Path | Source) else list(given)
    if all(isinstance(one, Source) for one in listed):
        return [one for one in listed if isinstance(one, Source)]
    if all(isinstance(one, str | Path) for one in listed):
        return [Source("data", [str(one) for one in listed])]
    kinds = ", ".join(sorted({type(one).__name__ for one in listed}))
    raise UserError(f"sources are shards (a str or Path, or a list of them) or Source(name, shards)s, not {kinds}")


@dataclass(frozen=True)
class Place:
    """One sample of a batch: its source, its epoch there, and where its bytes lie.

    `visit` tells apart the times that a resampled sample comes in one epoch; its draws go by it.
    """

    source: str
    epoch: int
    shard: Shard
    entry: SampleEntry
    visit: int = 0


class IndexedSource:
    """A source with what the plan needs of its shards in memory; their entries are read when they are due.

    Args:
        source: the source.
        seed: seed of the order.
        shuffle_shards: shards whose samples are mixed; 0 keeps the order of the index.
        order: what the order is where the source does not say it.
        progress: see `read_catalog`.
        catalog: what is known of the shards, if it is known already.

    Raises:
        UserError: a shard is missing or unreadable, or the source holds no sample.
    """

    def __init__(
        self,
        source: Source,
        seed: int,
        shuffle_shards: int,
        order: OrderName = "epochs",
        progress: Progress | None = None,
        catalog: Catalog | None = None,
    ) -> None:
        self.name = source.name
        self.order_name = source.order or order
        if self.order_name not in ORDERS:
            raise UserError(
                f"no order '{self.order_name}' of the source '{source.name}' (there are {', '.join(ORDERS)})"
                f"{nearest(self.order_name, ORDERS)}"
            )
        if self.order_name == "resampled" and not shuffle_shards:
            raise UserError(f"the source '{source.name}' is resampled, which has no order to keep: leave shuffle=True")
        self.catalog = (
            read_catalog(expand_shards(source.shards, source.remote), progress) if catalog is None else catalog
        )
        if source.keys is not None:
            self.catalog = only(self.catalog, source.keys)
        self.starts = np.concatenate([[0], np.cumsum(self.catalog.lengths)])
        self.samples = int(self.starts[-1])
        if not self.samples and source.keys is not None:
            raise UserError(f"none of the {len(source.keys)} wanted samples is in the source '{source.name}'")
        if not self.samples:
            raise UserError(f"the source '{source.name}' ({source.shards}) holds no sample; build its shards first")
        kind = Resampled if self.order_name == "resampled" else Epochs
        self.order: Order = kind(seed, self.name, self.catalog.lengths, shuffle_shards)
        # The groups of shards on both sides of a border.
        self._keep = min(2 * shuffle_shards + 2, _MOST_SHARDS)
        self._entries: OrderedDict[int, Sequence[SampleEntry]] = OrderedDict()

    def __len__(self) -> int:
        return self.samples

    @cached_property
    def fingerprint(self) -> str:
        """What the order depends on: the keys of all samples, shard by shard."""
        told = "\x1e".join(self.catalog.digests)
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

    def places(self, positions: np.ndarray) -> list[Place]:
        """The samples at absolute positions, int64 [B], epochs laid end to end: nothing dropped, nothing repeated."""
        numbers = self.order(positions)
        shards = np.searchsorted(self.starts, numbers, side="right") - 1
        rows = zip(positions.tolist(), shards.tolist(), (numbers - self.starts[shards]).tolist(), strict=True)
        return [self._place(position, shard, inside) for position, shard, inside in rows]

    def _place(self, position: int, shard: int, inside: int) -> Place:
        epoch, offset = divmod(position, self.samples)
        visit = offset + 1 if self.order_name == "resampled" else 0
        return Place(self.name, epoch, self.catalog.shards[shard], self._entry(shard, inside), visit)

    def _entry(self, shard: int, inside: int) -> SampleEntry:
        if shard not in self._entries:
            self._entries[shard] = self.catalog.entries(shard)
            if len(self._entries) > self._keep:
                self._entries.popitem(last=False)
        self._entries.move_to_end(shard)
        return self._entries[shard][inside]

    def seen(self, position: int) -> int:
        """Distinct samples handed out in the epoch that `position` lies in, before it."""
        epoch, offset = divmod(position, self.samples)
        if self.order_name != "resampled":
            return offset
        drawn = np.zeros(self.samples, dtype=bool)
        for first in range(0, offset, _AT_ONCE):
            drawn[self.order(epoch * self.samples + np.arange(first, min(first + _AT_ONCE, offset)))] = True
        return int(drawn.sum())
