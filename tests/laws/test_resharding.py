"""Law 4, re-sharding: ranks and workers may change between runs, the global batches do not."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.data import Source, Stream
from tests.corpora import write_corpus

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), text=True, size=(32, 32))
STEPS = 7  # 28 samples of 16 and 14 of 5: over three borders
WORKERS = (0, 1, 3)


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


# Every pair of numbers of ranks and every pair of numbers of workers, once each, in mid-epoch (3), where the big source
# begins an epoch (4) and where the small one does (5).
CHANGES = [
    ((a + 1, b + 1), WORKERS[(a + b) % 3], WORKERS[(a + 2 * b) % 3], 3 + b)
    for a, b in itertools.product(range(3), repeat=2)
]


@pytest.mark.parametrize(("ranks", "workers_before", "workers_after", "at"), CHANGES)
def test_a_run_goes_on_with_other_ranks_and_workers(corpora, reference, ranks, workers_before, workers_after, at):
    before, after = ranks
    # One rank has the workers: ranks know nothing of each other.
    given = [stream(corpora, before, rank, workers_before if rank == before - 1 else 0) for rank in range(before)]
    assert_together([run(part, at) for part in given], reference[:at])
    states = [json.loads(json.dumps(part.state_dict())) for part in given]
    assert all(state == states[0] for state in states)  # any rank's position is everyone's
    resumed = [stream(corpora, after, rank, workers_after if rank == 0 else 0) for rank in range(after)]
    for part in resumed:
        part.load_state_dict(states[0])
    assert_together([run(part, STEPS - at) for part in resumed], reference[at:])


def test_the_changes_are_all_changes():
    assert len({(before, after) for (before, after), *_ in CHANGES}) == 9
    assert {(before, after) for _, before, after, _ in CHANGES} == set(itertools.product(WORKERS, repeat=2))
    assert {at for *_, at in CHANGES} == {3, 4, 5}


def test_samples_drawn_with_replacement_are_re_sharded_alike(corpora):
    def drawn(world: int = 1, rank: int = 0) -> Stream:
        return Stream(corpora, WINDOW, 6, seed=5, workers=0, world=world, rank=rank, order="resampled")

    whole = drawn()
    batches = run(whole, STEPS)
    keys = [key for batch in batches for key in batch.keys]
    assert len(set(keys)) < len(keys)
    # A sample that comes twice in an epoch is drawn for anew: no two rows have the same seed.
    seeds = torch.cat([batch.seeds for batch in batches])
    assert len(set(seeds.tolist())) == len(seeds)
    first = drawn()
    run(first, 3)
    resumed = [drawn(3, rank) for rank in range(3)]
    for part in resumed:
        part.load_state_dict(first.state_dict())
    assert_together([run(part, STEPS - 3) for part in resumed], batches[3:])


def test_fewer_shards_than_ranks_and_workers_change_nothing(tmp_path):
    """The order knows no ranks: each has its share of a single shard."""
    spec = write_corpus(tmp_path, [6])
    whole = run(Stream(spec, WINDOW, 6, workers=0), 3)
    parts = [run(Stream(spec, WINDOW, 6, workers=0, world=6, rank=rank), 3) for rank in range(6)]
    assert_together(parts, whole)
    for batch in whole:
        assert len(set(batch.keys)) == 6


def test_every_rank_makes_the_same_number_of_steps_in_one_pass(tmp_path):
    spec = write_corpus(tmp_path, [7])
    parts = [
        run(Stream(spec, WINDOW, 4, workers=0, world=2, rank=rank, shuffle=False, repeat=False), 99) for rank in (0, 1)
    ]
    assert [len(part) for part in parts] == [2, 2]
    assert [part[-1].weight.tolist() for part in parts] == [[1.0, 1.0], [1.0, 0.0]]
