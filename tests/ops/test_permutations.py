"""Orders and their classes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl.ops.permutations import order_classes, order_label, orders_of, slot_pairs


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_orders_fall_into_half_as_many_classes_two_each(n: int) -> None:
    every = torch.tensor(list(itertools.permutations(range(n))))
    counts = order_label(every).bincount()
    assert len(counts) == math.factorial(n) // 2
    assert (counts == 2).all()


def test_the_twelve_classes_of_four_frames() -> None:
    classes = [tuple(row) for row in order_classes(4).tolist()]
    assert classes[0] == (0, 1, 2, 3)
    assert len(set(classes)) == 12
    assert not {tuple(reversed(row)) for row in classes} & set(classes)


@given(st.permutations(range(4)))
def test_an_order_and_its_reverse_are_one_class(order: list[int]) -> None:
    forward = torch.tensor(order)
    assert order_label(forward) == order_label(forward.flip(0))


@given(st.permutations(range(4)))
def test_a_film_played_backwards_keeps_its_label(order: list[int]) -> None:
    """`order[t]` is the slot of time t; backwards, the frame of time t comes at time 3 - t."""
    frame_of_slot = torch.tensor(order).argsort()
    backwards = 3 - frame_of_slot
    assert order_label(frame_of_slot.argsort()) == order_label(backwards.argsort())


@given(st.integers(0, 11), st.booleans())
def test_label_of_the_order_of_a_label_is_that_label(label: int, reverse: bool) -> None:
    order = orders_of(torch.tensor([[label]]), torch.tensor([[reverse]]), 4)
    assert order.shape == (1, 1, 4)
    assert order_label(order).item() == label


def test_what_is_no_permutation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be a permutation of 0\.\.3"):
        order_label(torch.tensor([0, 1, 1, 3]))
    with pytest.raises(ValueError, match="orders of 9 things: n must be between 2 and 8"):
        order_classes(9)


def test_pairs_of_slots_follow_the_presented_order() -> None:
    assert slot_pairs(4).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
