"""Shards in an object store through fsspec: against moto's server, and against one with faults."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmssl.clip import Span, Window
from mmssl.data import RemoteSettings, Stream
from mmssl.data.shards.index import expand_shards, index_path, read_index
from mmssl.data.storage import MissingError, RemoteError, Url, fsspec_ranges, patience, read_range, status
from mmssl.errors import UserError
from tests.corpora import write_corpus
from tests.http_server import Answer, Drop, Server, Short, Stall
from tests.requirements import s3

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), text=True, size=(32, 32))
SHARDS = [4, 3]
KEYS = {"key": "testing", "secret": "testing"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_corpus(folder / "bucket" / "corpus", SHARDS)
    return folder


@pytest.fixture(scope="module")
def store(corpus) -> Iterator[RemoteSettings]:
    """A bucket with the corpus in moto's server."""
    server = s3()(port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        settings = settings_of(f"http://127.0.0.1:{port}")
        system = fsspec_ranges.file_system(Url("s3://bucket/corpus", settings))
        system.mkdir("bucket", create_parents=True)
        for path in sorted((corpus / "bucket" / "corpus").glob("*.tar")):
            system.put(str(path), f"bucket/corpus/{path.name}")
        yield settings
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def fresh_and_quick(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MMSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(patience, "FIRST_DELAY", 0.02)


def settings_of(endpoint: str, **more: object) -> RemoteSettings:
    options = {"endpoint_url": endpoint, "client_kwargs": {"region_name": "eu-west-1"}, **KEYS, **more}
    return RemoteSettings(timeout=1.0, tries=5, budget_seconds=20.0, options=options)


def one_pass(spec: str, settings: RemoteSettings | None = None, workers: int = 0):
    stream = Stream(spec, WINDOW, 4, workers=workers, repeat=False, remote=settings)
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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_over_s3_is_the_local_pass(corpus, store, workers):
    local = one_pass(str(corpus / "bucket" / "corpus"))
    assert_same(one_pass("s3://bucket/corpus/train-{000000..000001}.tar", store, workers), local)


@pytest.mark.parametrize("spec", ["s3://bucket/corpus", "s3://bucket/corpus/", "s3://bucket/corpus/train-*.tar"])
def test_folders_and_globs_are_listed(store, spec):
    assert [str(url) for url in expand_shards(spec, store)] == [
        "s3://bucket/corpus/train-000000.tar",
        "s3://bucket/corpus/train-000001.tar",
    ]


def test_what_is_not_there_is_named(store):
    with pytest.raises(UserError, match=r"train-000002\.tar' does not exist \(and 1 more of 4\)"):
        expand_shards("s3://bucket/corpus/train-{000000..000003}.tar", store)
    with pytest.raises(UserError, match="the folder 's3://bucket/nothing' holds no shards"):
        expand_shards("s3://bucket/nothing", store)
    with pytest.raises(UserError, match="no shard matches"):
        expand_shards("s3://bucket/corpus/test-*.tar", store)
    with pytest.raises(MissingError, match="does not exist in the store"):
        read_range(Url("s3://bucket/corpus/gone.tar", store), 0, 10)


def test_ranges_end_with_the_object_and_its_version_is_the_etag(corpus, store):
    data = (corpus / "bucket/corpus/train-000000.tar").read_bytes()
    shard = Url("s3://bucket/corpus/train-000000.tar", store)
    size, version = status(shard)
    assert (size, len(str(version)) > 16) == (len(data), True)
    assert read_range(shard, 700, 900) == data[700:1600]
    assert read_range(shard, size - 5, 100) == data[-5:]
    assert read_range(shard, size, 100) == b""


def test_an_index_in_the_bucket_is_taken(corpus, store, tmp_path):
    shard = Url("s3://bucket/corpus/train-000000.tar", store)
    walked = read_index(shard, store=False).samples
    assert [entry.key for entry in walked] == ["clip0000", "clip0001", "clip0002", "clip0003"]
    local = corpus / "bucket" / "corpus" / "train-000000.tar"
    read_index(local)
    system = fsspec_ranges.file_system(shard)
    text = index_path(local).read_text().replace('"label": "class0"', '"label": "from the index"')
    system.pipe_file("bucket/corpus/train-000000.idx", text.encode())
    assert read_index(shard, store=False).samples[0].label == "from the index"
    system.rm_file("bucket/corpus/train-000000.idx")


FAULTS = {
    "drop": lambda n: Drop(700) if n % 3 == 1 else None,
    "stall": lambda n: Stall(500, 3.0) if n % 6 == 3 else None,
    "503": lambda n: Answer(503) if n % 3 == 1 else None,
    "short": lambda n: Short(100) if n % 3 == 1 else None,
    "short and said so": lambda n: Short(100, honest=True) if n % 2 else None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_store_lose_nothing(corpus, fault):
    """A plain server with faults speaks enough of S3 for reading objects by path."""
    local = one_pass(str(corpus / "bucket" / "corpus"))
    with Server(corpus, fault_of=FAULTS[fault]) as server:
        # Samples are fetched side by side, so that a fault may meet one again and again: more tries than faults.
        settings = replace(settings_of(server.url), tries=12)
        assert_same(one_pass("s3://bucket/corpus/train-{000000..000001}.tar", settings), local)
        assert len(server.met) >= 2


def test_a_range_is_read_in_pieces_and_goes_on_from_the_last(corpus, monkeypatch):
    monkeypatch.setattr(fsspec_ranges, "PIECE", 4000)
    data = (corpus / "bucket/corpus/train-000000.tar").read_bytes()
    with Server(corpus) as server:
        server.faults = {1: Drop(100), 3: Answer(503)}
        assert (
            read_range(Url("s3://bucket/corpus/train-000000.tar", settings_of(server.url)), 0, 12_000) == data[:12_000]
        )
        firsts = [int(asked.split("=")[1].split("-")[0]) for _, asked in server.gets]
        assert firsts == [0, 4000, 4000, 8000, 8000]


def test_a_store_that_never_answers_is_given_up(corpus):
    with Server(corpus, fault_of=lambda n: Answer(503)) as server:
        with pytest.raises(RemoteError, match="could not be read in 5 tries"):
            read_range(Url("s3://bucket/corpus/train-000000.tar", settings_of(server.url)), 0, 10)
        # Fewer arrive where a busy machine lets one time out on its way.
        assert 3 <= len(server.gets) <= 5, "tries are counted in one place, not again by the client below"


def test_a_missing_backend_is_an_error_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"gs:// needs the package gcsfs .* pip install 'mmssl\[remote\]'"):
        expand_shards("gs://bucket/train-000000.tar")


def test_options_that_are_not_understood_are_named():
    settings = RemoteSettings(options={"endpoint": "http://127.0.0.1:1"})
    with pytest.raises(UserError, match=r"remote\.options \(endpoint\) are not those of s3://"):
        expand_shards("s3://bucket/train-000000.tar", settings)
