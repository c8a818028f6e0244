"""What a plan needs of many shards: how many samples each has and a digest of their keys, from one line of each index.

Shards without an index are indexed first: local ones in several processes, remote ones, whose walk is a wait, in
threads. Entries are read later, shard by shard.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mmssl.data.shards.entry import SampleEntry
from mmssl.data.shards.index import Status, find_header, index_places, keep_index, read_index
from mmssl.data.shards.index_file import Header, StoredEntries, digest_of_keys, read_header
from mmssl.data.shards.indexing import index_in_processes
from mmssl.data.storage.ranges import status
from mmssl.data.storage.url import Shard, Url
from mmssl.errors import UserError

Progress = Callable[[int, int], None]
# Reading a header is a wait for the disk or the network and little work: threads, each with some shards at a time.
_READERS, _AT_A_TIME = 16, 64  # at most
_FEW = 16  # shards that are indexed here: starting processes would take as long


@dataclass(frozen=True)
class Catalog:
    """Shards and what a plan must know of them.

    Args:
        shards: the tars, S of them.
        lengths: int64 [S], samples in each.
        digests: of the keys of each.
        statuses: size and version of each.
        cut_short: names of the shards that end within a sample.
        silent: samples known to have no sound.
        wordless: samples known to have no sentence.
        kept: whole indices by shard's number, of tars whose index could be stored nowhere.
    """

    shards: Sequence[Shard]
    lengths: np.ndarray
    digests: Sequence[str]
    statuses: Sequence[Status]
    cut_short: tuple[str, ...] = ()
    silent: int = 0
    wordless: int = 0
    kept: dict[int, Sequence[SampleEntry]] = field(default_factory=dict)

    def entries(self, number: int) -> Sequence[SampleEntry]:
        """The samples of a shard, read anew. Those of a shard that is gone with its index have no members.

        Raises:
            UserError: the shard holds other samples than when the catalog was made.
        """
        if number in self.kept:
            return self.kept[number]
        shard, digest = self.shards[number], self.digests[number]
        for place in index_places(shard, self.statuses[number]):
            header = read_header(place)
            if header is not None and (header.status, header.keys) == (self.statuses[number], digest):
                return StoredEntries(place)
        if isinstance(shard, Path) and not shard.is_file():
            # Holes, as all that cannot be read, and not the end of the run.
            return [SampleEntry(f"{shard.stem}/{row}", {}) for row in range(int(self.lengths[number]))]
        entries = read_index(shard).samples
        if digest_of_keys(entry.key for entry in entries) != digest:
            raise UserError(
                f"shard '{shard}' changed while it was being read; start again on shards that stay as they are"
            )
        return entries


def read_catalog(shards: Sequence[Shard], progress: Progress | None = None, processes: int | None = None) -> Catalog:
    """Read the headers of the shards' indices, making the indices that are missing.

    Args:
        shards: the tars.
        progress: called with (shards indexed, shards to index) while indices are made.
        processes: that index; by default one a core, and none for few tars.

    Raises:
        UserError: a shard is missing, compressed, or holds no sample with video; `RemoteError` if it cannot be fetched.
    """
    headers = list(_in_threads(_look, shards))
    missing = [number for number, header in enumerate(headers) if header is None]
    wanted = [shards[number] for number in missing]
    for done in _make(wanted, processes):
        if progress is not None:
            progress(done, len(missing))
    kept: dict[int, Sequence[SampleEntry]] = {}
    for number, header in zip(missing, _in_threads(_look, wanted), strict=True):
        headers[number] = header
        if header is None:  # an old index, one that failed (said here), or one that can be stored nowhere
            index, its_status = read_index(shards[number]), status(shards[number])
            headers[number] = Header.of(index, its_status)
            keep_index(index, its_status)  # an old index gets the new header
            if find_header(shards[number], its_status) is None:
                kept[number] = index.samples
    found = [header for header in headers if header is not None]
    return Catalog(
        shards=shards,
        lengths=np.array([header.samples for header in found], dtype=np.int64),
        digests=[header.keys for header in found],
        statuses=[header.status for header in found],
        cut_short=tuple(str(shard) for shard, header in zip(shards, found, strict=True) if header.cut_short),
        silent=sum(header.silent for header in found),
        wordless=sum(header.wordless for header in found),
        kept=kept,
    )


def _make(shards: Sequence[Shard], processes: int | None) -> Iterator[int]:
    """Index shards and store the indices as far as they can be, giving how many are done.

    What fails in a process is tried again, and said, by the caller.
    """
    done = 0
    local = [shard for shard in shards if isinstance(shard, Path)]
    if local and (processes is not None or len(local) > _FEW):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for _ in index_in_processes(local, min(processes or cores, len(local))):
            yield (done := done + 1)
    else:
        for path in local:
            read_index(path)
            yield (done := done + 1)
    remote = [shard for shard in shards if isinstance(shard, Url)]
    if remote:
        with ThreadPoolExecutor(min(_READERS, len(remote))) as readers:
            for future in as_completed([readers.submit(read_index, url) for url in remote]):
                future.result()
                yield (done := done + 1)


def _look(shard: Shard) -> Header | None:
    return find_header(shard, status(shard))


def _in_threads(look: Callable[[Shard], Header | None], shards: Sequence[Shard]) -> Iterator[Header | None]:
    """What `look` says of each shard, in order."""
    size = max(1, min(_AT_A_TIME, len(shards) // _READERS))
    parts = [shards[first : first + size] for first in range(0, len(shards), size)]
    if len(shards) <= _FEW and all(isinstance(shard, Path) for shard in shards):
        yield from map(look, shards)
        return
    with ThreadPoolExecutor(min(_READERS, len(parts))) as readers:
        for part in readers.map(lambda part: [look(shard) for shard in part], parts):
            yield from part


def only(catalog: Catalog, keys: Collection[str]) -> Catalog:
    """The catalog of the samples with these keys; all entries are read, and kept in memory."""
    wanted = frozenset(keys)
    kept: dict[int, Sequence[SampleEntry]] = {
        number: [entry for entry in catalog.entries(number) if entry.key in wanted]
        for number in range(len(catalog.shards))
    }
    every = [entry for entries in kept.values() for entry in entries]
    return replace(
        catalog,
        silent=sum(entry.has_audio is False for entry in every),
        wordless=sum(entry.n_sentences == 0 or "vtt" not in entry.members for entry in every),
        lengths=np.array([len(entries) for entries in kept.values()], dtype=np.int64),
        digests=[digest_of_keys(entry.key for entry in entries) for entries in kept.values()],
        kept=kept,
    )
