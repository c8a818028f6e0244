"""The order is a permutation of each epoch, mixed within groups of shards, and a pure function of its arguments."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.data.order import Epochs, Resampled, order

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


# ------------------------------------------------------------------------------------------------ as it is asked for


@settings(deadline=None, max_examples=150)
@given(lengths, st.integers(0, 2**31), st.integers(0, 4), st.data())
def test_the_order_made_where_it_is_asked_for_is_the_order(shard_lengths, seed, shuffle_shards, data):
    """Whatever is asked in whatever order, over borders of epochs and groups."""
    samples = sum(shard_lengths)
    if not samples:
        return
    whole = np.concatenate([order(seed, "data", epoch, shard_lengths, shuffle_shards) for epoch in range(4)])
    lazy = Epochs(seed, "data", np.array(shard_lengths), shuffle_shards)
    for _ in range(3):
        positions = np.array(data.draw(st.lists(st.integers(0, 4 * samples - 1), max_size=40)), dtype=np.int64)
        assert lazy(positions).tolist() == whole[positions].tolist()
    assert lazy(np.arange(4 * samples)).tolist() == whole.tolist()


def test_no_more_of_an_epoch_is_made_than_was_asked_for():
    lazy = Epochs(0, "data", np.full(100_000, 1000), 8)
    lazy(np.array([3, 99_999_990, 100_000_000, 250_000_000]))
    held = [array for group in lazy._groups.kept.values() for array in [group]]
    assert len(held) == 4
    assert sum(array.nbytes for array in held) == 4 * 8 * 1000 * 8
    assert len(lazy._shards.kept) == 2


def test_drawing_with_replacement_is_even_and_a_function_of_the_position():
    lengths = np.array([40, 1, 0, 7, 52])
    drawn = Resampled(1, "data", lengths, 2)
    positions = np.arange(60_000)
    found = drawn(positions)
    assert np.array_equal(drawn(positions[::-1])[::-1], found)
    assert np.array_equal(Resampled(1, "data", lengths, 2)(positions[777:800]), found[777:800])
    assert not np.array_equal(Resampled(2, "data", lengths, 2)(positions), found)
    assert not np.array_equal(Resampled(1, "other", lengths, 2)(positions), found)
    counts = np.bincount(found, minlength=100)
    # A block of 40 positions draws two shards, so counts vary more than independent draws would.
    assert counts.min() > 0
    shards = np.add.reduceat(counts, [0, 40, 41, 48])
    np.testing.assert_allclose(shards / 60_000, [0.40, 0.01, 0.07, 0.52], atol=0.03)
    inside = counts[:40] / counts[:40].sum()
    np.testing.assert_allclose(inside, 1 / 40, atol=5 * np.sqrt(1 / 40 / counts[:40].sum()))


def test_a_block_of_resampled_positions_reads_few_shards():
    lengths = np.full(500, 100)
    shard_of = Resampled(3, "data", lengths, 4)(np.arange(20 * 400)) // 100
    blocks = [set(block.tolist()) for block in shard_of.reshape(20, 400)]
    assert all(len(block) <= 4 for block in blocks)
    assert len(set.union(*blocks)) > 60
