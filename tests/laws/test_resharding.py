"""Law 4, re-sharding: ranks and workers may change between runs, the global batches do not."""

from __future__ import annotations

import itertools

import pytest
import torch

from mmssl.clip import Batch, Span, Window
from mmssl.data import Source, Stream
from tests.corpora import write_corpus

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), text=True, size=(32, 32))
STEPS = 7  # 42 samples of 16: over two borders


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> list[Source]:
    big = write_corpus(tmp_path_factory.mktemp("big"), [7, 9])
    small = write_corpus(tmp_path_factory.mktemp("small"), [5], prefix="small")
    return [Source("big", big, 4), Source("small", small, 2)]


def stream(corpora: list[Source], world: int = 1, rank: int = 0, workers: int = 0) -> Stream:
    return Stream(corpora, WINDOW, 6, seed=5, workers=workers, world=world, rank=rank)


def run(given: Stream, count: int) -> list[Batch]:
    with given:
        return [batch for batch, _ in itertools.islice(given, count)]


@pytest.fixture(scope="module")
def reference(corpora) -> list[Batch]:
    return run(stream(corpora), STEPS)


def assert_together(parts: list[list[Batch]], whole: list[Batch]) -> None:
    """The ranks' slices, one after the other, are the global batch."""
    for slices, batch in zip(zip(*parts, strict=True), whole, strict=True):
        assert sum((part.keys for part in slices), ()) == batch.keys
        assert sum((part.sentences for part in slices), ()) == batch.sentences
        for name in ("seeds", "frames", "audio", "anchors"):
            assert torch.equal(torch.cat([getattr(part, name) for part in slices]), getattr(batch, name)), name


@pytest.mark.parametrize(("world", "workers"), [(2, 0), (3, 0), (2, 2)])
def test_ranks_share_one_global_batch(corpora, reference, world, workers):
    parts = [run(stream(corpora, world, rank, workers), STEPS) for rank in range(world)]
    assert_together(parts, reference)
    for slices in zip(*parts, strict=True):
        assert {len(part) for part in slices} == {6 // world}


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 1)])
def test_a_run_goes_on_with_other_ranks(corpora, reference, before, after):
    given = [stream(corpora, before, rank) for rank in range(before)]
    assert_together([run(part, 3) for part in given], reference[:3])
    states = [part.state_dict() for part in given]
    assert all(state == states[0] for state in states)  # any rank's position is everyone's
    resumed = [stream(corpora, after, rank) for rank in range(after)]
    for part in resumed:
        part.load_state_dict(states[0])
    assert_together([run(part, STEPS - 3) for part in resumed], reference[3:])


def test_every_rank_makes_the_same_number_of_steps_in_one_pass(tmp_path):
    spec = write_corpus(tmp_path, [7])
    parts = [
        run(Stream(spec, WINDOW, 4, workers=0, world=2, rank=rank, shuffle=False, repeat=False), 99) for rank in (0, 1)
    ]
    assert [len(part) for part in parts] == [2, 2]
    assert [part[-1].weight.tolist() for part in parts] == [[1.0, 1.0], [1.0, 0.0]]
