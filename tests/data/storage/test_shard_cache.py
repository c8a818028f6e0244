"""The cache of whole shards: shared by processes, bounded, and never in the way."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from mmssl.clip import Span, Window
from mmssl.data import RemoteSettings, Stream
from mmssl.data.storage import Url, patience, shard_cache
from mmssl.data.storage.shard_cache import ShardCache, read_cached
from tests.corpora import write_corpus
from tests.http_server import Answer, Drop, Server

WINDOW = Window(Span(0.8, 5), size=(32, 32))
SIZE = 100_000


@pytest.fixture(autouse=True)
def fresh_and_quick(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MMSSL_CACHE", str(tmp_path / "indices"))
    monkeypatch.setattr(patience, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(shard_cache, "_caches", {})


@pytest.fixture
def served(tmp_path) -> Path:
    """Four files of 100,000 bytes, each of its own letter."""
    folder = tmp_path / "served"
    folder.mkdir()
    for letter in "abcd":
        (folder / f"{letter}.tar").write_bytes(letter.encode() * SIZE)
    return folder


def settings(tmp_path: Path, limit: int) -> RemoteSettings:
    return RemoteSettings(timeout=2.0, tries=4, cache=tmp_path / "cache", cache_bytes=limit)


def kept(tmp_path: Path) -> set[str]:
    return {path.name.split("-", 1)[1] for path in (tmp_path / "cache").glob("*-*.tar")}


def used_bytes(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "cache").iterdir() if path.is_file())


def test_a_shard_is_fetched_once_for_all_its_ranges(served, tmp_path):
    with Server(served, fault_of=lambda n: Drop(40_000) if n < 2 else None) as server:
        shard = Url(f"{server.url}/a.tar", settings(tmp_path, 3 * SIZE))
        for at in range(0, SIZE, 9000):
            assert read_cached(shard, at, 9000) == b"a" * min(9000, SIZE - at)
        assert server.gets[0][1] == f"bytes=0-{SIZE - 1}"
        assert len(server.gets) == 3, "once, and on from where it broke"
        again = ShardCache(tmp_path / "cache", 3 * SIZE)  # as another process would
        assert again.read(shard, 5, 3) == b"aaa"
        assert len(server.gets) == 3
    assert kept(tmp_path) == {"a.tar"}


def test_the_shard_read_least_recently_makes_room_and_stays_readable(served, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_cache, "IN_USE_SECONDS", 0.0)
    with Server(served) as server:
        shards = {letter: Url(f"{server.url}/{letter}.tar", settings(tmp_path, 2 * SIZE)) for letter in "abcd"}
        for letter in "ab":
            read_cached(shards[letter], 0, 10)
        for age, letter in ((50, "a"), (100, "b")):
            path = next((tmp_path / "cache").glob(f"*-{letter}.tar"))
            os.utime(path, (time.time() - age,) * 2)
        assert read_cached(shards["c"], 0, 3) == b"ccc"
        assert kept(tmp_path) == {"a.tar", "c.tar"}
        requests = len(server.gets)
        assert read_cached(shards["b"], 10, 3) == b"bbb", "open files are read after they made room"
        assert len(server.gets) == requests
        assert used_bytes(tmp_path) <= 2 * SIZE


def test_shards_in_use_make_no_room(served, tmp_path):
    """Else a cache smaller than what is read at a time would fetch whole shards for single clips."""
    with Server(served) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        for letter in "abcd" * 3:
            shard = Url(f"{server.url}/{letter}.tar", settings(tmp_path, 2 * SIZE))
            assert read_cached(shard, 7, 5) == letter.encode() * 5
        asked = Counter(asked for _, asked in server.gets)
        assert asked == {f"bytes=0-{SIZE - 1}": 2, "bytes=7-11": 6}
    assert kept(tmp_path) == {"a.tar", "b.tar"}


@pytest.mark.parametrize("trouble", ["too small", "a file", "read-only", "full"])
def test_a_cache_that_cannot_be_used_costs_one_warning_and_no_byte(served, tmp_path, trouble):
    limit = SIZE - 1 if trouble == "too small" else 4 * SIZE
    folder = tmp_path / "cache"
    if trouble == "a file":
        folder.write_text("not a folder")
    if trouble == "read-only":
        folder = Path("/proc/1/nothing")  # also for root
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if trouble == "full":  # the kernel lets no file grow as long
        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, before[1]))
    about = RemoteSettings(cache=folder, cache_bytes=limit)
    with Server(served) as server, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            found = [read_cached(Url(f"{server.url}/{letter}.tar", about), 3, 4) for letter in "abab"]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found == [b"aaaa", b"bbbb", b"aaaa", b"bbbb"]
    assert ["are not kept in" in str(warning.message) for warning in seen] == [True]
    assert not list(tmp_path.glob("cache/*.part"))


@pytest.mark.parametrize("shares_the_lock", [False, True])
def test_what_a_killed_process_left_makes_room_and_what_is_being_fetched_does_not(served, tmp_path, shares_the_lock):
    """Files share locks by the first digits of their names, the shard's of which hang on the server's port."""
    with Server(served) as server:
        shard = Url(f"{server.url}/a.tar", settings(tmp_path, 2 * SIZE))
        ShardCache(tmp_path / "elsewhere", 2 * SIZE).read(shard, 0, 4)
        (named,) = (tmp_path / "elsewhere").glob("*.tar")
        cache = ShardCache(tmp_path / "cache", 2 * SIZE)
        (tmp_path / "cache").mkdir()
        digits = int(named.name[:8], 16) ^ (0 if shares_the_lock else 1)
        left = tmp_path / "cache" / f"{digits:08x}89abcdef01234567-x.tar.part"
        left.write_bytes(bytes(2 * SIZE))
        assert (cache._lock_path(left.name) == cache._lock_path(named.name)) is shares_the_lock
        if not shares_the_lock:  # else the shard would wait for that lock before it looks for room
            descriptor = os.open(cache._lock_path(left.name), os.O_RDWR | os.O_CREAT)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            assert cache.read(shard, 0, 4) == b"aaaa"
            assert (left.exists(), kept(tmp_path)) == (True, set())
            os.close(descriptor)
        assert ShardCache(tmp_path / "cache", 2 * SIZE).read(shard, 0, 4) == b"aaaa"
        assert (left.exists(), kept(tmp_path)) == (False, {"a.tar"})


def test_whoever_is_stuck_with_a_lock_is_not_waited_for_without_end(served, tmp_path):
    with Server(served) as server:
        shard = Url(f"{server.url}/a.tar", RemoteSettings(budget_seconds=0.5, cache=tmp_path / "cache"))
        cache = ShardCache(tmp_path / "cache", 2 * SIZE)
        (tmp_path / "cache").mkdir()
        descriptor = os.open(tmp_path / "cache" / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        since = time.monotonic()
        assert cache.read(shard, 0, 4) == b"aaaa"
        assert 0.4 < time.monotonic() - since < 3.0
        os.close(descriptor)
    assert kept(tmp_path) == set()


def test_a_shard_gets_its_name_only_while_nobody_looks_for_room(served, tmp_path, monkeypatch):
    def replace(source: Path, target: Path) -> None:
        descriptor = os.open(tmp_path / "cache" / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):  # else who lists the folder and then looks at its files sees neither name
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        os.rename(source, target)

    monkeypatch.setattr(shard_cache.os, "replace", replace)
    with Server(served) as server:
        shard = Url(f"{server.url}/a.tar", settings(tmp_path, 2 * SIZE))
        assert read_cached(shard, 0, 4) == b"aaaa"
    assert kept(tmp_path) == {"a.tar"}


def test_a_fetch_that_fails_leaves_nothing_and_is_that_sample_s_failure(served, tmp_path):
    from mmssl.data.storage import RemoteError

    with Server(served) as server:
        shard = Url(f"{server.url}/a.tar", settings(tmp_path, 2 * SIZE))
        server.fault_of = lambda n: Answer(503) if n < 4 else None
        with pytest.raises(RemoteError, match="could not be read in 4 tries"):
            read_cached(shard, 0, 4)
        assert used_bytes(tmp_path) == 0
        assert read_cached(shard, 0, 4) == b"aaaa"


def test_another_version_of_a_shard_is_another_file(served, tmp_path):
    with Server(served) as server:
        shard = Url(f"{server.url}/a.tar", settings(tmp_path, 4 * SIZE))
        assert read_cached(shard, 0, 2) == b"aa"
        (served / "a.tar").write_bytes(b"z" * SIZE)
        assert ShardCache(tmp_path / "cache", 4 * SIZE).read(shard, 0, 2) == b"zz"


PROCESS = """
import contextlib, json, sys
from pathlib import Path
from mmssl.data.storage import RemoteSettings, Url, shard_cache
shard_cache.IN_USE_SECONDS = 0.0
url, folder, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
about = RemoteSettings(timeout=5.0, cache=folder, cache_bytes=250_000)
most = wrong = 0
for step in range(60):
    if step % 6 == 0:
        shard_cache._caches.clear()  # nothing is held open, as in a process that has just started
    letter = "abcd"[(step * (seed + 1) + seed) % 4]
    data = shard_cache.read_cached(Url(f"{url}/{letter}.tar", about), step * 500, 400)
    wrong += data != letter.encode() * 400
    sizes = 0
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it made room
            sizes += entry.stat().st_size if entry.is_file() else 0
    most = max(most, sizes)
print(json.dumps([wrong, most]))
"""


def test_processes_share_a_cache_smaller_than_the_corpus(served, tmp_path):
    with Server(served) as server:
        command = [sys.executable, "-W", "error::UserWarning", "-c", PROCESS, server.url, str(tmp_path / "cache")]
        running = [
            subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd())
            for seed in range(4)
        ]
        answers = [process.communicate(timeout=60)[0] for process in running]
        assert [process.returncode for process in running] == [0] * 4
        for wrong, most in map(json.loads, answers):
            assert wrong == 0
            assert most <= 250_000
        fetched = sum(asked == f"bytes=0-{SIZE - 1}" for _, asked in server.gets)
        assert 4 < fetched < 200, "shards made room and came back, but not for each range"
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_through_a_small_cache_is_the_local_pass(tmp_path, workers):
    spec = write_corpus(tmp_path / "corpus", [3, 3, 2])
    size = max(path.stat().st_size for path in (tmp_path / "corpus").glob("*.tar"))

    def frames(spec: str, remote: RemoteSettings | None = None):
        with Stream(spec, WINDOW, 4, workers=workers, repeat=False, remote=remote) as stream:
            found = [(batch.keys, batch.frames) for batch, _ in stream]
        assert not [name for name in stream.counters if name.startswith("failed")]
        return found

    expected = frames(spec)
    with Server(tmp_path / "corpus", ranges=False) as server:
        remote = RemoteSettings(timeout=5.0, cache=tmp_path / "cache", cache_bytes=2 * size)
        found = frames(f"{server.url}/train-{{000000..000002}}.tar", remote)
    assert [keys for keys, _ in found] == [keys for keys, _ in expected]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))
    assert 1 <= len(kept(tmp_path)) <= 2
