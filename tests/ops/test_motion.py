"""Motion by frame differences: where, when, and which frames."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.ops.motion import (
    UNIT,
    beside,
    busiest_square,
    even_cells,
    frame_distances,
    frame_pairs,
    frame_tuples,
    motion_map,
    order_slack,
    unlike_both,
)


def film(bright: dict[int, tuple[int, int]], count: int = 6, size: int = 32) -> torch.Tensor:
    """One film, dark but for an 8 x 8 square at (row, column) in some frames; the ground is striped."""
    frames = torch.full((1, count, 3, size, size), 40, dtype=torch.uint8)
    frames[..., ::8] = 60
    for number, (row, column) in bright.items():
        frames[:, number, :, row : row + 8, column : column + 8] = 220
    return frames


def test_motion_is_found_where_the_square_comes_and_goes() -> None:
    moved = motion_map(even_cells(film({2: (16, 4), 3: (16, 8)})))
    assert moved.shape == (1, 8, 8)
    top, left = busiest_square(moved, 3)
    rows, columns = range(int(top), int(top) + 3), range(int(left), int(left) + 3)
    assert {4, 5} <= set(rows)
    assert {1, 2, 3} <= set(columns)


def test_a_fade_is_no_motion() -> None:
    gain = torch.linspace(0.6, 1.4, 6)[None, :, None, None, None]
    noise = torch.randint(40, 160, (1, 1, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    noise = noise.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)
    faded = (noise * gain + 10 * (gain - 1)).round().to(torch.uint8)
    assert float(frame_distances(even_cells(faded)).max()) < 0.005 * UNIT  # the bytes are rounded
    plain = torch.roll(faded, 8, dims=-1)
    assert float(frame_distances(even_cells(torch.cat([faded, plain], dim=1))).max()) > 0.05 * UNIT


def test_frames_alike_are_no_distance_apart_though_something_swung_between() -> None:
    distances = frame_distances(even_cells(film({0: (0, 0), 1: (8, 8), 2: (0, 0)})))[0]
    assert distances[0, 2] == 0
    assert distances[0, 1] == distances[1, 0] == distances[1, 2] > 0
    assert torch.equal(distances.diagonal(), torch.zeros(6, dtype=torch.int64))


def test_numbers_do_not_depend_on_the_other_rows() -> None:
    films = torch.randint(0, 256, (5, 6, 3, 32, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    together = frame_distances(even_cells(films))
    alone = torch.cat([frame_distances(even_cells(one[None])) for one in films])
    assert torch.equal(together, alone)


@given(st.integers(1, 5), st.lists(st.integers(0, 50), min_size=35, max_size=35))
def test_busiest_square_is_the_best_of_all(side: int, values: list[int]) -> None:
    motion = torch.tensor(values).reshape(1, 5, 7)
    top, left = (int(x) for x in busiest_square(motion, side))
    sums = {
        (row, column): int(motion[0, row : row + side, column : column + side].sum())
        for row in range(5 - side + 1)
        for column in range(7 - side + 1)
    }
    assert (top, left) == max(sums, key=lambda place: (sums[place], -place[0], -place[1]))


@given(st.integers(4, 14), st.integers(1, 3), st.integers(0, 3))
def test_tuples_rise_and_keep_their_gaps(count: int, least: int, more: int) -> None:
    if 3 * least >= count:
        with pytest.raises(ValueError, match=f"4 frames at least {least} apart do not fit into {count} frames"):
            frame_tuples(count, 4, least, least + more)
        return
    tuples = frame_tuples(count, 4, least, least + more)
    gaps = tuples.diff(dim=1)
    assert int(gaps.min()) >= least
    assert int(gaps.max()) <= least + more
    wanted = {
        c
        for c in itertools.combinations(range(count), 4)
        if all(least <= b - a <= least + more for a, b in itertools.pairwise(c))
    }
    assert {tuple(row) for row in tuples.tolist()} == wanted


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_slack_is_what_the_next_shortest_order_is_longer_by(seed: int) -> None:
    drawn = torch.randint(0, 1000, (2, 6, 6), generator=torch.Generator().manual_seed(seed))
    distances = drawn + drawn.transpose(1, 2)  # as far there as back
    tuples = frame_tuples(6, 4, 1, 2)
    found = order_slack(distances, tuples)

    def length(row: int, frames: tuple[int, ...]) -> int:
        return sum(int(distances[row, a, b]) for a, b in itertools.pairwise(frames))

    for row, chosen in itertools.product(range(2), range(len(tuples))):
        frames = tuple(tuples[chosen].tolist())
        others = [o for o in itertools.permutations(frames) if o not in (frames, frames[::-1])]
        assert int(found[row, chosen]) == min(length(row, o) for o in others) - length(row, frames)


def test_the_order_of_a_straight_course_can_be_seen_and_that_of_a_swing_cannot() -> None:
    straight = film({number: (4, 5 * number) for number in range(4)}, count=4)
    swing = film({0: (4, 0), 1: (4, 12), 2: (4, 0), 3: (4, 12)}, count=4)
    tuples = frame_tuples(4, 4, 1, 1)
    assert int(order_slack(frame_distances(even_cells(straight)), tuples)) > 0
    assert int(order_slack(frame_distances(even_cells(swing)), tuples)) <= 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="cells of 4 pixels must be even and fit into frames of 3x9"):
        even_cells(torch.zeros(1, 2, 3, 3, 9, dtype=torch.uint8))
    with pytest.raises(ValueError, match="a square of 6 cells does not fit into 5x7 cells"):
        busiest_square(torch.zeros(1, 5, 7, dtype=torch.int64), 6)


@given(st.integers(4, 12), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3), st.integers(0, 4))
def test_frames_beside_a_pair(count: int, least: int, more: int, near: int, further: int) -> None:
    pairs = frame_pairs(count, least, least + more)
    assert {tuple(pair) for pair in pairs.tolist()} == {
        (b, d) for b in range(count) for d in range(count) if least <= d - b <= least + more
    }
    between, outside = beside(count, pairs, near, near + further)
    for (b, d), inner, outer in zip(pairs.tolist(), between.tolist(), outside.tolist(), strict=True):
        for frame in range(count):
            assert inner[frame] == (b < frame < d)
            assert outer[frame] == (near <= b - frame <= near + further or near <= frame - d <= near + further)


def test_two_frames_too_far_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="two frames at least 6 apart do not fit into 6 frames"):
        frame_pairs(6, 6, 9)


def test_what_looks_like_one_of_a_pair_is_found() -> None:
    places = {0: (0, 0), 1: (8, 8), 2: (16, 16), 3: (8, 8), 4: (0, 0), 5: (16, 0)}
    distances = frame_distances(even_cells(film(places)))
    fit = unlike_both(distances, torch.tensor([[0, 2], [0, 4]]), 1)
    assert fit[0, 0].tolist() == [False, True, False, True, False, True]  # 4 looks like 0
    assert not bool(fit[0, 1].any())  # the pair itself is alike
