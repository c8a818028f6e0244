"""The queue against a list: order, wrap-around, one index a sample, nobody enters without being valid, resume."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.nn.queue import EmbeddingQueue
from mmssl.randomness import hash_name


def rows_of(ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Vectors that are a function of the id, so that a place can be asked whose vector it holds."""
    base = torch.stack([ids % 7 + 1.0, ids % 11 - 5.0, ids % 13 - 20.0], dim=1)
    return {"video": base, "audio": base.flip(1) * 2}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=6))
def test_it_holds_the_last_valid_samples_each_at_one_index(capacity: int, steps: list[list[bool]]) -> None:
    queue, wanted, number = EmbeddingQueue(capacity, {"video": 3, "audio": 3}), deque[int](maxlen=capacity), 0
    for valid in steps:
        ids = torch.tensor([hash_name(str(number + i)) for i in range(len(valid))])
        queue.push(rows_of(ids), ids, torch.tensor(valid))
        wanted.extend(int(i) for i, entering in zip(ids, valid, strict=True) if entering)
        number += len(valid)
        held = queue.ids[queue.occupied()]
        assert sorted(held.tolist()) == sorted(wanted)
        assert int(queue.filled) == len(wanted)
        for name, vectors in rows_of(held).items():
            found = queue.vectors(name)[queue.occupied()]
            assert torch.allclose(found, torch.nn.functional.normalize(vectors.float(), dim=1))
    # The next to go is the oldest.
    if len(wanted) == capacity:
        assert int(queue.ids[queue.place]) == wanted[0]


def test_others_are_occupied_and_of_other_samples() -> None:
    queue = EmbeddingQueue(5, {"video": 3, "audio": 3})
    assert not queue.others(torch.tensor([0, 1])).any()  # empty places have id 0, and are nobody's
    ids = torch.tensor([4, 9, 4])
    queue.push(rows_of(ids), ids, torch.ones(3, dtype=torch.bool))
    assert queue.others(torch.tensor([4, 9, 0])).tolist() == [
        [False, True, False, False, False],
        [True, False, True, False, False],
        [True, True, True, False, False],
    ]


def test_vectors_have_length_one_unless_kept_as_they_are() -> None:
    ids = torch.arange(3)
    for unit in (True, False):
        queue = EmbeddingQueue(3, {"video": 3, "audio": 3}, unit)
        queue.push({name: v.bfloat16() for name, v in rows_of(ids).items()}, ids, torch.ones(3, dtype=torch.bool))
        assert queue.vectors("video").dtype == torch.float32
        assert torch.allclose(queue.vectors("video").norm(dim=1), torch.ones(3), atol=1e-6) == unit


def test_its_state_goes_on_from_a_state_dict() -> None:
    one, two = (EmbeddingQueue(4, {"video": 3, "audio": 3}) for _ in range(2))
    for step in range(3):
        ids = torch.arange(3) + 3 * step
        one.push(rows_of(ids), ids, torch.tensor([True, step != 1, True]))
        if step == 1:
            two.load_state_dict(one.state_dict())
    ids = torch.arange(6, 9)
    two.push(rows_of(ids), ids, torch.ones(3, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_rows_of_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="video, audio"):
        EmbeddingQueue(4, {"video": 3, "audio": 3}).push(
            {"video": torch.ones(1, 3)}, torch.zeros(1).long(), torch.ones(1).bool()
        )
    with pytest.raises(ValueError, match="capacity"):
        EmbeddingQueue(0, {"video": 3})
