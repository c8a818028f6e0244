"""The order is a permutation of each epoch, mixed within groups of shards, and a pure function of its arguments."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.data.order import order

FROZEN = [4, 5, 7, 6, 9, 8, 11, 10, 1, 0, 3, 2]
lengths = st.lists(st.integers(0, 12), min_size=1, max_size=9)


@settings(deadline=None)
@given(lengths, st.integers(0, 2**31), st.integers(0, 5), st.integers(0, 4))
def test_every_sample_comes_once(shard_lengths, seed, epoch, shuffle_shards):
    found = order(seed, "data", epoch, shard_lengths, shuffle_shards)
    assert found.dtype == np.int64
    assert sorted(found.tolist()) == list(range(sum(shard_lengths)))


@settings(deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(1, 4))
def test_samples_mix_within_a_group_of_shards_only(shard_lengths, shuffle_shards):
    shard_of = np.repeat(np.arange(len(shard_lengths)), shard_lengths)[
        order(3, "data", 1, shard_lengths, shuffle_shards)
    ]
    seen: set[int] = set()
    while len(shard_of):
        group = {int(s) for s in shard_of[:1]}
        count = 0
        # the longest run that needs no more than `shuffle_shards` shards is a whole group
        while count < len(shard_of) and len(group | {int(shard_of[count])}) <= shuffle_shards:
            group.add(int(shard_of[count]))
            count += 1
        assert not group & seen
        seen |= group
        shard_of = shard_of[count:]


def test_seed_epoch_and_source_give_other_orders():
    base = order(0, "a", 0, [40, 40], 2).tolist()
    others = [order(1, "a", 0, [40, 40], 2), order(0, "b", 0, [40, 40], 2), order(0, "a", 1, [40, 40], 2)]
    assert all(other.tolist() != base for other in others)


def test_without_shuffling_the_order_is_that_of_the_index():
    assert order(5, "a", 3, [2, 0, 3], 0).tolist() == [0, 1, 2, 3, 4]


def test_positions_are_evenly_mixed():
    """Where sample 0 lands over 400 epochs: mean and spread of a uniform position."""
    places = np.array([int(np.flatnonzero(order(0, "a", epoch, [25, 25], 2) == 0)[0]) for epoch in range(400)])
    assert abs(places.mean() - 24.5) < 3 * 14.4 / 20
    assert abs(places.std() - 14.4) < 1.5


def test_another_process_gives_the_same_order_without_torch():
    code = (
        "import sys; from mmssl.data.order import order; print(order(7, 'clips', 2, [5, 9, 4], 2).tolist());"
        "assert 'torch' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(order(7, "clips", 2, [5, 9, 4], 2).tolist())


def test_the_order_is_frozen():
    """A changed order would make saved positions lie: change FORMAT of the stream with it."""
    assert order(0, "data", 0, [4, 3, 5], 2).tolist() == FROZEN
