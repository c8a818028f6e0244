"""Sources of a mix: shards under one name, and the sample at any position of their endless order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from mmssl.data.order import order
from mmssl.data.shards.index import SampleEntry, expand_shards
from mmssl.data.shards.remote_index import read_indices
from mmssl.data.storage.settings import RemoteSettings
from mmssl.data.storage.url import Shard
from mmssl.errors import UserError


@dataclass(frozen=True)
class Source:
    """Shards under one name.

    Args:
        name: the name that draws and counters go by.
        shards: shard specification (braces, ``::``, globs, a folder) or a list of them.
        quota: samples of each global batch; may be left out when there is one source.
        remote: how shards at addresses are read; as the stream says if left out.
    """

    name: str
    shards: str | list[str]
    quota: int | None = None
    remote: RemoteSettings | None = None


@dataclass(frozen=True)
class Place:
    """One sample of a batch: its source, its epoch there, and where its bytes lie."""

    source: str
    epoch: int
    shard: Shard
    entry: SampleEntry


class IndexedSource:
    """A source with its shards' indices in memory.

    Args:
        source: the source.
        seed: seed of the order.
        shuffle_shards: shards whose samples are mixed; 0 keeps the order of the index.

    Raises:
        UserError: a shard is missing or unreadable, or the source holds no sample.
    """

    def __init__(self, source: Source, seed: int, shuffle_shards: int) -> None:
        self.name = source.name
        self.seed = seed
        self.shuffle_shards = shuffle_shards
        self.shards = [(i.path, i.samples) for i in read_indices(expand_shards(source.shards, source.remote))]
        self.lengths = [len(samples) for _, samples in self.shards]
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        if not self.starts[-1]:
            raise UserError(f"the source '{source.name}' ({source.shards}) holds no sample; build its shards first")
        # The last two epochs: a batch may straddle their border.
        self.order = lru_cache(maxsize=2)(self._order)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def fingerprint(self) -> str:
        """What the order depends on: the keys of all samples, shard by shard."""
        digest = hashlib.blake2b(digest_size=8)
        for _, samples in self.shards:
            digest.update("\x1f".join(entry.key for entry in samples).encode(errors="surrogatepass") + b"\x1e")
        return digest.hexdigest()

    def _order(self, epoch: int) -> np.ndarray:
        return order(self.seed, self.name, epoch, self.lengths, self.shuffle_shards)

    def sample(self, position: int) -> Place:
        """The sample at an absolute position, epochs laid end to end: nothing dropped, nothing repeated."""
        epoch, offset = divmod(position, len(self))
        number = int(self.order(epoch)[offset])
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        path, samples = self.shards[shard]
        return Place(self.name, epoch, path, samples[number - int(self.starts[shard])])
