"""Laws 2, 3 and 5 at the stream: draws, resume and equal steps do not depend on workers, and little on memory.

The reference is always one process that decodes by itself and is never interrupted; the comparison is bit for bit,
pixels and samples included.
"""

from __future__ import annotations

import itertools
import json
import os
import signal

import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.data import Source, Stream
from mmssl.data.pool import Worker
from tests.corpora import write_corpus

WINDOW = Window((Span(1.0, 5), Span(0.4, 12)), Span(0.7, 16000), text=True, size=(32, 32), views=2)
STEPS = 10  # 60 samples of 19: three borders of epochs


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> list[Source]:
    big = write_corpus(tmp_path_factory.mktemp("big"), [7, 5, 7])
    small = write_corpus(tmp_path_factory.mktemp("small"), [4], prefix="small")
    return [Source("big", big, 4), Source("small", small, 2)]


def stream(sources: list[Source], workers: int, **settings: object) -> Stream:
    return Stream(sources, WINDOW, 6, seed=11, workers=workers, shuffle_shards=2, **settings)


def run(given: Stream, count: int) -> list[Batch]:
    with given:
        return [batch for batch, _ in itertools.islice(given, count)]


@pytest.fixture(scope="module")
def reference(corpora) -> list[Batch]:
    return run(stream(corpora, 0), STEPS)


def assert_same(a: Batch, b: Batch) -> None:
    assert a.keys == b.keys
    assert a.sources == b.sources
    assert a.sentences == b.sentences
    for name in ("seeds", "weight", "frames", "audio", "anchors", "wanted_times", "frame_times", "audio_start"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(corpora, reference, workers):
    for a, b in zip(run(stream(corpora, workers), STEPS), reference, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize(("at", "before", "after"), [(2, 0, 3), (5, 3, 0), (7, 1, 1)])
def test_a_resumed_stream_goes_on_with_the_next_batch(corpora, reference, at, before, after):
    """In mid-epoch and on the border, whatever had been prefetched."""
    first = stream(corpora, before)
    run(first, at)
    state = json.loads(json.dumps(first.state_dict()))
    second = stream(corpora, after)
    second.load_state_dict(state)
    for a, b in zip(run(second, STEPS - at), reference[at:], strict=True):
        assert_same(a, b)
    assert second.state_dict() == stream_state_after(corpora, STEPS)


def test_a_worker_killed_moves_no_batch_and_no_position(corpora, reference, monkeypatch):
    started: list[Worker] = []
    start = Worker.__init__
    monkeypatch.setattr(Worker, "__init__", lambda self, *given: started.append(self) or start(self, *given))
    first = stream(corpora, 3)
    found = []
    with first:
        for batch, _ in itertools.islice(first, 9):  # its third batch had not been sent
            found.append(batch)
            if len(found) == 2:
                os.kill(started[2].process.pid, signal.SIGKILL)
    assert sum(worker.starts for worker in started) == 4  # replaced, or started again where it was not yet ready
    assert first.quarantine == {}
    second = stream(corpora, 1)
    second.load_state_dict(first.state_dict())
    found += run(second, STEPS - 9)
    for a, b in zip(found, reference, strict=True):
        assert_same(a, b)


def stream_state_after(corpora: list[Source], steps: int) -> dict[str, object]:
    whole = stream(corpora, 0)
    run(whole, steps)
    return whole.state_dict()


def test_the_position_is_what_was_handed_out_and_not_what_was_prefetched(corpora):
    with stream(corpora, 2) as given:
        for number, _ in enumerate(given, start=1):
            big, small = given.state_dict()["sources"]
            assert big["epoch"] * big["samples"] + big["next"] == 4 * number
            assert small["epoch"] * small["samples"] + small["next"] == 2 * number
            if number == 4:
                break


def test_epochs_draw_anew_and_a_repeated_run_draws_the_same(corpora, reference):
    anchors: dict[tuple[str, str], set[tuple[float, ...]]] = {}
    for batch in reference:
        for source, key, row in zip(batch.sources, batch.keys, batch.anchors.tolist(), strict=True):
            anchors.setdefault((source, key), set()).add(tuple(row))
    repeated = [found for (source, _), found in anchors.items() if source == "small"]
    assert all(len(found) == 5 for found in repeated)  # 20 samples handed out of a source of 4
    for a, b in zip(run(stream(corpora, 0), 3), reference, strict=False):
        assert torch.equal(a.anchors, b.anchors)


def test_an_added_span_moves_nobodys_frames(corpora, reference):
    """A union of windows gives each task the frames and samples that it would get alone."""
    alone = run(
        Stream(corpora, Window(Span(0.4, 12), size=(32, 32), views=2), 6, seed=11, workers=0, shuffle_shards=2), 2
    )
    for a, b in zip(alone, reference, strict=False):
        for view in range(2):
            assert torch.equal(a.frames_of(Span(0.4, 12), view), b.frames_of(Span(0.4, 12), view))
