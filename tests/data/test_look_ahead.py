"""Remote samples are on their way while others are decoded, within a bound, and waiting for them is no hanging."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data import RemoteSettings, Stream
from mmssl.data import look_ahead as look_ahead_module
from mmssl.data.look_ahead import LookAhead
from mmssl.data.media import MediaError
from mmssl.data.shards.index import SampleEntry
from mmssl.data.sources import Place
from mmssl.data.storage import Url
from tests.corpora import write_corpus
from tests.http_server import Server, Stall

SHARD = Url("http://host/a.tar")


def place(key: str, size: int, shard: Url | Path = SHARD) -> Place:
    return Place("data", 0, shard, SampleEntry(key, {"mp4": (512, size)}))


class Reader:
    """Reads by waiting until told; keeps what was begun, and how much at a time."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.most = self._now = 0
        self.go = threading.Event()
        self.lock = threading.Lock()

    def __call__(self, place: Place) -> EncodedClip:
        with self.lock:
            self.begun.append(place.entry.key)
            self._now += 1
            self.most = max(self.most, self._now)
        self.go.wait(10)
        with self.lock:
            self._now -= 1
        if place.entry.key == "bad":
            raise MediaError("bad json", "it is no JSON object")
        return EncodedClip(key=place.entry.key, source="data", media=b"", subtitles=b"", meta={})


def until(condition, seconds: float = 5.0) -> None:
    since = time.monotonic()
    while not condition():
        assert time.monotonic() - since < seconds
        time.sleep(0.005)


def test_samples_come_in_order_fetched_side_by_side():
    read = Reader()
    ahead = LookAhead(read)
    places = [place(f"clip{n}", 10) for n in range(20)]
    ahead.expect([*places[:10], None])
    ahead.expect(places[10:])
    until(lambda: len(read.begun) == look_ahead_module.THREADS)
    read.go.set()
    assert [ahead.take(one).key for one in places] == [f"clip{n}" for n in range(20)]
    assert sorted(read.begun) == sorted(f"clip{n}" for n in range(20)), "each once"
    assert read.most == look_ahead_module.THREADS
    ahead.close()


def test_bytes_ahead_are_bounded_and_a_sample_beyond_the_bound_comes_alone(monkeypatch):
    monkeypatch.setattr(look_ahead_module, "MOST_BYTES", 100)
    read = Reader()
    read.go.set()
    ahead = LookAhead(read)
    places = [place("a", 60), place("b", 40), place("c", 30), place("huge", 1000), place("d", 10)]
    ahead.expect(places)
    until(lambda: sorted(read.begun) == ["a", "b"])
    time.sleep(0.05)
    assert sorted(read.begun) == ["a", "b"]
    ahead.take(places[0])
    until(lambda: sorted(read.begun) == ["a", "b", "c"])
    for one in places[1:]:
        assert ahead.take(one).key == one.entry.key
    assert sorted(read.begun) == ["a", "b", "c", "d", "huge"]


def test_samples_passed_over_are_forgotten_and_one_not_announced_is_read(monkeypatch):
    monkeypatch.setattr(look_ahead_module, "MOST_BYTES", 20)
    read = Reader()
    read.go.set()
    ahead = LookAhead(read)
    places = [place(f"clip{n}", 10) for n in range(6)]
    ahead.expect(places)
    assert ahead.take(places[4]).key == "clip4"
    assert ahead.take(place("other", 10)).key == "other"
    assert ahead.take(places[5]).key == "clip5"
    twice = place("twice", 10)
    ahead.expect([place("twice", 10), twice])
    assert ahead.take(twice).key == "twice"
    assert ahead._bytes == 0
    assert not ahead._coming


def test_local_samples_are_read_when_they_are_taken():
    read = Reader()
    read.go.set()
    ahead = LookAhead(read)
    local = place("local", 10, Path("a.tar"))
    ahead.expect([local])
    time.sleep(0.05)
    assert read.begun == []
    assert ahead.take(local).key == "local"


def test_what_reading_raises_is_raised_where_the_sample_is_due():
    read = Reader()
    read.go.set()
    ahead = LookAhead(read)
    places = [place("bad", 10), place("good", 10)]
    ahead.expect(places)
    with pytest.raises(MediaError, match="no JSON object"):
        ahead.take(places[0])
    assert ahead.take(places[1]).key == "good"


def test_without_threads_samples_are_read_when_they_are_due(monkeypatch):
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    read = Reader()
    read.go.set()
    ahead = LookAhead(read)
    places = [place("a", 10), place("b", 10)]
    ahead.expect(places)
    assert [ahead.take(one).key for one in places] == ["a", "b"]


def test_waiting_for_bytes_is_no_hanging(tmp_path):
    """A sample that takes longer than a worker may hang, because its server stalls, is waited for."""
    write_corpus(tmp_path, [4])
    remote = RemoteSettings(timeout=4.0, tries=3)
    with Server(tmp_path) as server:
        window = Window(Span(0.8, 5), size=(32, 32))
        stream = Stream(
            f"{server.url}/train-000000.tar", window, 4, workers=1, timeout=2.0, repeat=False, remote=remote
        )
        asked = len(server.gets)
        server.faults = dict.fromkeys(range(asked, asked + 4), Stall(10, 6.0))
        with stream:
            batches = [batch for batch, _ in stream]
    assert [batch.weight.sum() for batch in batches] == [4]
    assert stream.quarantine == {}
    assert len(server.met) == 4
