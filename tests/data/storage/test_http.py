"""Shards over http: a real server that drops, stalls, refuses and lies loses no sample and no byte."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmssl.clip import Span, Window
from mmssl.data import RemoteSettings, Stream
from mmssl.data.shards.index import read_index, write_index
from mmssl.data.storage import MissingError, RefusedError, RemoteError, Url, http_ranges, patience, read_range, status
from mmssl.errors import UserError
from tests.corpora import write_corpus
from tests.http_server import Answer, Drop, Long, Server, Short, Stall

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), text=True, size=(32, 32))
SHARDS = [5, 4, 3]
NAMES = "train-{000000..000002}.tar"
PATIENT = RemoteSettings(timeout=0.5, tries=4, budget_seconds=20.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, SHARDS)
    return folder


@pytest.fixture(scope="module")
def local(corpus) -> list[tuple[tuple[str, ...], torch.Tensor, torch.Tensor]]:
    return one_pass(Stream(str(corpus), WINDOW, 4, workers=0, repeat=False))


@pytest.fixture(autouse=True)
def fresh_and_quick(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MMSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(patience, "FIRST_DELAY", 0.02)


def one_pass(stream: Stream) -> list[tuple[tuple[str, ...], torch.Tensor, torch.Tensor]]:
    with stream:
        rows = [(batch.keys, batch.frames, batch.audio) for batch, _ in stream]
    assert stream.counters["samples"] == sum(SHARDS)
    assert not [name for name in stream.counters if name.startswith("failed")]
    return rows


def assert_same(found, expected) -> None:
    assert [keys for keys, _, _ in found] == [keys for keys, _, _ in expected]
    for (_, frames, audio), (_, its_frames, its_audio) in zip(found, expected, strict=True):
        assert torch.equal(frames, its_frames)
        assert torch.equal(audio, its_audio)


def remote(server: Server, settings: RemoteSettings = PATIENT, workers: int = 0) -> Stream:
    return Stream(f"{server.url}/{NAMES}", WINDOW, 4, workers=workers, repeat=False, remote=settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_over_http_is_the_local_pass(corpus, local, workers):
    with Server(corpus, latency=0.02) as server:
        stream = remote(server, workers=workers)
        before = len(server.gets)
        assert_same(one_pass(stream), local)
        assert len(server.gets) - before == sum(SHARDS), "one request a sample"
        assert server.most_busy > 1, "samples are fetched side by side"


FAULTS = {
    "drop": lambda n: Drop(700) if n % 3 else None,
    "drop before a byte": lambda n: Drop(0) if n % 3 == 1 else None,
    "drop again and again": lambda n: Drop(4000),
    "stall": lambda n: Stall(500, 2.0) if n % 5 == 3 else None,
    "503": lambda n: Answer(503) if n % 3 == 1 else None,
    "503, come again": lambda n: Answer(503, "0") if n % 3 == 1 else None,
    "429": lambda n: Answer(429) if n % 3 == 1 else None,
    "short": lambda n: Short(100) if n % 3 == 1 else None,
    "short and said so": lambda n: Short(100, honest=True) if n % 3 == 1 else None,
    "too long": lambda n: Long(300) if n % 3 == 1 else None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_server_lose_nothing(corpus, local, fault):
    with Server(corpus, fault_of=FAULTS[fault]) as server:
        # Samples are fetched side by side, so that a fault may meet one again and again: more tries than faults.
        assert_same(one_pass(remote(server, replace(PATIENT, tries=12))), local)
        assert len(server.met) >= 3


def test_a_server_that_knows_no_ranges_is_read_from_the_start(corpus, local):
    with Server(corpus, ranges=False) as server:
        assert_same(one_pass(remote(server)), local)


def test_and_refused_with_a_way_out_where_shards_are_large(corpus, monkeypatch):
    monkeypatch.setattr(http_ranges, "LARGEST_SKIP", 1000)
    with Server(corpus, ranges=False) as server:
        shard = Url(f"{server.url}/train-000000.tar", PATIENT)
        with pytest.raises(RemoteError, match=r"knows no ranges of bytes, .*remote\.cache"):
            read_range(shard, 5000, 10)


def test_a_server_without_ranges_or_index_is_read_through_the_cache(tmp_path, monkeypatch):
    """Also to index a tar above the largest that is read from the start each time."""
    monkeypatch.setattr(http_ranges, "LARGEST_SKIP", 10_000)
    (tmp_path / "served").mkdir()
    write_corpus(tmp_path / "served", [3])
    for index in (tmp_path / "served").glob("*.idx"):
        index.unlink()
    with Server(tmp_path / "served", ranges=False) as server:
        settings = replace(PATIENT, cache=tmp_path / "whole")
        with Stream(f"{server.url}/train-000000.tar", WINDOW, 3, workers=0, repeat=False, remote=settings) as stream:
            assert [batch.weight.sum() for batch, _ in stream] == [3]


def test_a_range_goes_on_from_the_byte_reached(tmp_path):
    data = bytes(range(256)) * 40
    (tmp_path / "a.tar").write_bytes(data)
    with Server(tmp_path) as server:
        server.faults = {0: Drop(3000), 1: Short(1000), 2: Stall(100)}
        assert read_range(Url(f"{server.url}/a.tar", PATIENT), 100, 9000) == data[100:9100]
        firsts = [int(asked.split("=")[1].split("-")[0]) for _, asked in server.gets]
        assert firsts[0] == 100
        assert firsts[1] <= 3100
        assert firsts == sorted(firsts)
        assert firsts[3] == firsts[2] + 100
        assert len(firsts) == 4


def test_ranges_end_with_the_file_and_keep_the_connection(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    with Server(tmp_path) as server:
        shard = Url(f"{server.url}/a.tar?token=secret", PATIENT)
        assert status(shard)[0] == 10
        assert read_range(shard, 2, 3) == b"234"
        assert read_range(shard, 8, 100) == b"89"
        assert read_range(shard, 10, 5) == b""
        assert read_range(shard, 3, 0) == b""
        assert server.connections == 1
        assert "secret" not in str(shard)
        assert ("/a.tar?token=secret", "bytes=2-4") in server.gets


def test_a_server_without_head_says_its_length_by_a_range(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    for ranges in (True, False):
        with Server(tmp_path, head=False, ranges=ranges) as server:
            assert status(Url(f"{server.url}/a.tar", PATIENT))[0] == 10


def test_retry_after_is_waited_for_and_held_against_the_budget(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    with Server(tmp_path) as server:
        shard = Url(f"{server.url}/a.tar", PATIENT)
        server.faults = {0: Answer(503, "1"), 2: Answer(503, "3600")}
        since = time.monotonic()
        assert read_range(shard, 0, 10) == b"0123456789"
        assert 1.0 <= time.monotonic() - since < 3.0
        since = time.monotonic()
        with pytest.raises(RemoteError, match=r"could not be read in 20 s .*the server answers 503"):
            read_range(shard, 0, 10)
        assert time.monotonic() - since < 1.0, "no use in waiting for longer than the budget"


def test_what_is_final_is_not_tried_again(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    with Server(tmp_path) as server:
        shard = Url(f"{server.url}/a.tar", PATIENT)
        server.faults = {0: Answer(404), 1: Answer(403), 2: Answer(400)}
        for error, message in (
            (MissingError, "does not exist"),
            (RefusedError, "may not be read"),
            (RemoteError, "answers 400"),
        ):
            with pytest.raises(error, match=message) as caught:
                read_range(shard, 0, 10)
            assert caught.value.cause == "remote"
        assert len(server.gets) == 3


def test_a_slow_drip_is_given_up(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(100_000))
    with Server(tmp_path, fault_of=lambda n: Drop(1)) as server:
        shard = Url(f"{server.url}/a.tar", RemoteSettings(timeout=0.5, tries=4, budget_seconds=1.5))
        with pytest.raises(RemoteError, match=r"a\.tar' c(omes too slowly|ould not be read in 1\.5 s)"):
            read_range(shard, 0, 100_000)


def test_a_shard_replaced_in_the_midst_is_noticed(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"a" * 10_000)

    def replace_at_second(number: int) -> Drop | None:
        if number == 1:
            (tmp_path / "a.tar").write_bytes(b"b" * 20_000)
        return Drop(2000) if number == 0 else None

    with Server(tmp_path, fault_of=replace_at_second) as server:
        server.faults = {}
        shard = Url(f"{server.url}/a.tar", PATIENT)
        with pytest.raises(RemoteError, match="was replaced by another file"):
            read_range(shard, 0, 10_000)


def test_missing_shards_are_named_before_the_start(corpus):
    with (
        Server(corpus) as server,
        pytest.raises(UserError, match=r"train-000003\.tar' does not exist \(and 1 more of 5"),
    ):
        Stream(f"{server.url}/train-{{000000..000004}}.tar", WINDOW, 4, remote=PATIENT)


def test_a_server_that_never_recovers_is_holes_and_then_an_error(corpus):
    with Server(corpus) as server:
        stream = remote(server, RemoteSettings(timeout=0.3, tries=2, budget_seconds=2.0))
        stream.repeat = True
        server.fault_of = lambda n: Answer(503)
        since = time.monotonic()
        weights: list[float] = []
        with stream, pytest.raises(UserError, match=r"could not be read \(remote: \d+\)"):
            weights.extend(float(batch.weight.sum()) for batch, _ in stream)
        assert weights
        assert not any(weights)
        assert time.monotonic() - since < 20
        assert stream.counters["failed: remote"] == stream.counters["samples"] > 50


def test_a_server_that_goes_away_is_named(corpus):
    with Server(corpus) as server:
        url = server.url
    with pytest.raises(RemoteError, match="could not be read in 2 tries"):
        Stream(f"{url}/train-000000.tar", WINDOW, 4, remote=RemoteSettings(tries=2))


def test_the_index_beside_a_shard_is_fetched_and_kept(corpus, tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    for path in corpus.glob("*.tar"):
        (folder / path.name).write_bytes(path.read_bytes())
    path = folder / "train-000000.tar"
    expected = read_index(path, store=False).samples
    with Server(folder) as server:
        shard = Url(f"{server.url}/{path.name}", PATIENT)
        walked = read_index(shard)
        assert walked.samples == expected
        requests = len(server.gets)
        assert read_index(shard).samples == expected
        assert len(server.gets) == requests, "the index made is kept"
        write_index(path, expected[:2])
        path.touch()  # another version
        assert read_index(shard).samples == expected[:2], "the index beside it is taken"
        assert read_index(shard, store=False).samples == expected[:2]
        path.write_bytes(path.read_bytes() + bytes(512))  # the index beside it is not of it any more
        assert read_index(shard).samples == expected
