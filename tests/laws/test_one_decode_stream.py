"""Law 1, one decode, at the stream: calls and pictures per batch grow with the window, never with the tasks on it."""

from __future__ import annotations

import itertools
from functools import reduce
from operator import or_

import pytest

from mmssl.clip import Span, Window
from mmssl.data import Stream
from tests.corpora import write_corpus

SIZE = (32, 32)
TASKS = [
    Window(Span(1.6, 5), Span(1.6, 16000), size=SIZE),
    Window(Span(0.8, 10), size=SIZE),
    Window(Span(0.5, 4), Span(0.5, 16000), text=True, size=SIZE),
    Window(Span(1.6, 5), text=True, size=SIZE),
    Window(Span(1.0, 1), size=SIZE),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [6, 6])


def counters(corpus: str, window: Window) -> list[dict[str, int]]:
    with Stream(corpus, window, 4, workers=0) as stream:
        return [dict(batch.counters) for batch, _ in itertools.islice(stream, 5)]


@pytest.mark.parametrize("window", TASKS)
def test_five_tasks_on_one_window_decode_as_much_as_one(corpus, window):
    assert counters(corpus, reduce(or_, [window] * 5)) == counters(corpus, window)


def test_five_tasks_on_five_windows_share_one_call_a_clip_and_less_than_their_sum(corpus):
    together = counters(corpus, reduce(or_, TASKS))
    alone = [counters(corpus, window) for window in TASKS]
    for step, found in enumerate(together):
        assert found["decoder_calls"] == 4
        assert sum(one[step]["decoder_calls"] for one in alone) == 20
        pictures = [one[step]["decoded_pictures"] for one in alone]
        # Spans lie inside one another: in each clip the union decodes as far as the one that reaches furthest.
        assert max(pictures) <= found["decoded_pictures"] <= max(pictures) + 4 < sum(pictures) / 3
