"""The order of samples as a pure function of (seed, source, epoch): it knows nothing of ranks or workers.

Shards are permuted, taken in groups of `shuffle_shards`, and samples are permuted within a group through the index.
There is no shuffle buffer, so a position in the order is one integer and resuming costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmssl.randomness import hash_name, uniform_numpy


def _permutation(name: str, count: int) -> np.ndarray:
    return np.argsort(uniform_numpy(np.array([hash_name(name)]), "order", count)[0], kind="stable")


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
    name = f"{seed}\x1f{source}\x1f{epoch}"
    shards = _permutation(name, len(shard_lengths))
    groups = []
    for first in range(0, len(shards), shuffle_shards):
        group = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in shards[first : first + shuffle_shards]])
        groups.append(group[_permutation(f"{name}\x1f{first}", len(group))])
    return np.concatenate(groups) if groups else np.zeros(0, dtype=np.int64)
