"""Samples that fail: each a hole of weight 0 counted by cause, its neighbours whole and in order; memory is bounded."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Clip, EncodedClip, Span, Window
from mmssl.data import Stream
from mmssl.data import worker as worker_module
from mmssl.data.decode import choose as choose_module
from mmssl.data.decode.base import Buffers
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.pool import Worker
from mmssl.data.shards.index import index_path, read_index
from tests.corpora import sample, write_corpus, write_tar
from tests.data.hostile import with_frames_beyond_memory
from tests.media import numbered

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), text=True, size=(32, 32))
ROOT = Path(__file__).parents[2]


def failures(stream: Stream) -> dict[str, int]:
    return {name.removeprefix("failed: "): n for name, n in stream.counters.items() if name.startswith("failed: ")}


def damage(tar: Path, key: str, change: Callable[[bytearray], None]) -> None:
    """Change the bytes of a sample's film where they lie in the tar."""
    entry = next(entry for entry in read_index(tar).samples if entry.key == key)
    at, size = entry.members["mp4"]
    status = tar.stat()
    with open(tar, "r+b") as file:
        file.seek(at)
        data = bytearray(file.read(size))
        change(data)
        file.seek(at)
        file.write(data)
    os.utime(tar, ns=(status.st_atime_ns, status.st_mtime_ns))  # the index does not notice


def garbage(data: bytearray) -> None:
    data[:] = np.random.default_rng(0).integers(0, 256, len(data), np.uint8).tobytes()


def assert_same(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to the last bit; where not, say by how much and where."""
    apart = (found.double() - expected.double()).abs()
    where = apart.flatten(1).any(1).nonzero().flatten().tolist() if apart.ndim > 1 else int(apart.count_nonzero())
    assert torch.equal(found, expected), f"{what}: up to {apart.max():g} apart, in {where} of {tuple(found.shape)}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[str, dict[str, Batch]]:
    """A corpus of 12 clips in two shards, and what each clip looks like."""
    spec = write_corpus(tmp_path_factory.mktemp("whole"), [6, 6])
    with Stream(spec, WINDOW, 1, workers=0, shuffle=False, repeat=False) as stream:
        return spec, {batch.keys[0]: batch for batch, _ in stream}


@pytest.mark.parametrize("workers", [0, 2])
def test_every_fault_of_a_shard_is_a_hole_and_its_neighbours_are_whole(tmp_path, whole, workers):
    shutil.copytree(Path(whole[0]).parent, tmp_path, dirs_exist_ok=True)  # the very bytes, not a second encoding
    spec = str(tmp_path / Path(whole[0]).name)
    first, second = tmp_path / "train-000000.tar", tmp_path / "train-000001.tar"
    damage(first, "clip0001", garbage)
    damage(first, "clip0002", lambda data: data.__setitem__(slice(0, len(data)), bytes(len(data))))
    rows = index_path(first).read_text().splitlines()
    for number, key in ((4, "clip0003"), (5, "clip0004")):
        row = json.loads(rows[number])
        assert row["key"] == key
        if key == "clip0003":
            del row["members"]["mp4"]  # a stale index
        else:
            row["members"]["mp4"][1] = 0
        rows[number] = json.dumps(row)
    index_path(first).write_text("\n".join(rows) + "\n")
    stream = Stream(spec, WINDOW, 4, workers=workers, shuffle=False, repeat=False)
    at, size = read_index(second).samples[-1].members["mp4"]
    os.truncate(second, at + size // 2)  # after it was indexed
    bad = {"clip0001", "clip0002", "clip0003", "clip0004", "clip0011"}
    with stream:
        batches = [batch for batch, _ in stream]
    assert [key for batch in batches for key in batch.keys] == [f"clip{n:04d}" for n in range(12)]
    for batch in batches:
        for row, key in enumerate(batch.keys):
            assert batch.weight[row] == (0 if key in bad else 1)
            if key not in bad:
                assert_same(f"pictures of {key}", batch.frames[row], whole[1][key].frames[0])
                assert_same(f"sound of {key}", batch.audio[row], whole[1][key].audio[0])
                assert batch.sentences[row] == whole[1][key].sentences[0]
    assert failures(stream) == {
        "not a known container": 2,
        "no media": 1,
        "empty file": 1,
        "shard unreadable": 1,
    }
    assert stream.quarantine == {}  # nothing of this hung or killed a worker


class Fails(PyAVDecoder):
    """A decoder that raises at one clip."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def decode(self, clip: EncodedClip, window: Window, anchors: np.ndarray, into: Buffers | None = None) -> Clip:
        if clip.key == "clip0002":
            raise self.error
        return super().decode(clip, window, anchors, into)


ERRORS = [
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    OverflowError("int too large"),
    RecursionError("maximum recursion depth exceeded"),
    ZeroDivisionError("division by zero"),
    KeyError("x"),
    IndexError("x"),
    ValueError("x"),
    RuntimeError("x"),
    OSError("x"),
    StopIteration(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_decoder_raises_is_a_hole(whole, monkeypatch, error):
    monkeypatch.setitem(choose_module.DECODERS, "pyav", lambda _: Fails(error))
    with Stream(whole[0], WINDOW, 4, workers=0, shuffle=False) as stream:
        batch, _ = next(iter(stream))
    assert batch.weight.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert failures(stream) == {type(error).__name__: 1}


@pytest.mark.parametrize("fault", [TypeError, NameError, AttributeError, ImportError, AssertionError, MemoryError])
def test_faults_of_the_program_and_of_the_machine_are_fatal(whole, monkeypatch, fault):
    monkeypatch.setitem(choose_module.DECODERS, "pyav", lambda _: Fails(fault("a fault")))
    with Stream(whole[0], WINDOW, 4, workers=0, shuffle=False) as stream, pytest.raises(fault, match="a fault"):
        next(iter(stream))


def test_a_member_over_its_limit_is_a_hole_before_it_is_read(whole, monkeypatch):
    sizes = {
        e.key: e.members["mp4"][1] for e in read_index(Path(whole[0].replace("{000000..000001}", "000000"))).samples
    }
    largest = max(sizes, key=lambda key: sizes[key])
    monkeypatch.setattr(worker_module, "LARGEST_MEDIA", sizes[largest] - 1)
    read: list[Any] = []
    original = worker_module.read_members

    def read_members(shard: Path, entry: Any, extensions: Any = None) -> dict[str, bytes]:
        read.append(entry.key)
        return original(shard, entry, extensions)

    monkeypatch.setattr(worker_module, "read_members", read_members)
    with Stream(whole[0], WINDOW, 6, workers=0, shuffle=False) as stream:
        batch, _ = next(iter(stream))
    assert [key for key, w in zip(batch.keys, batch.weight.tolist(), strict=True) if w == 0] == [largest]
    assert failures(stream) == {"member too large": 1}
    assert largest not in read
    assert len(read) == 5


# ---------------------------------------------------------------- memory

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the bound is Linux's")


def peak(pid: int) -> int:
    """Most memory that a process has had, in bytes."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def lying_corpus(folder: Path) -> str:
    """Six clips; two of a few kilobytes ask for 2.8 GB."""
    samples = []
    for number in range(6):
        key, members = sample(folder, f"clip{number:04d}", number)
        if number in (1, 4):
            members["mp4"] = with_frames_beyond_memory(members["mp4"])
            assert len(members["mp4"]) < 9000
        samples.append((key, members))
    return str(write_tar(folder / "lying.tar", samples))


@needs_proc
def test_files_that_ask_for_gigabytes_do_not_get_them_from_a_worker(tmp_path, monkeypatch):
    spec = lying_corpus(tmp_path)
    peaks: list[int] = []
    stop = Worker.stop

    def measured(self: Worker) -> None:
        if self.process.poll() is None:
            peaks.append(peak(self.process.pid))
        stop(self)

    monkeypatch.setattr(Worker, "stop", measured)
    with Stream(spec, WINDOW, 6, workers=1, shuffle=False, repeat=False) as stream:
        ((batch, _),) = list(stream)
    assert [row for row, w in enumerate(batch.weight.tolist()) if w == 0] == [1, 4]
    assert sum(failures(stream).values()) == 2
    assert len(peaks) == 1
    assert max(peaks) < 300 << 20


IN_PROCESS = """
import resource, sys
from mmssl.clip import Span, Window
from mmssl.data import Stream
window = Window(Span(0.8, 5), Span(0.5, 16000), size=(32, 32))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Stream(sys.argv[1], window, 6, workers=0, shuffle=False, repeat=False) as stream:
    ((batch, _),) = list(stream)
print(int(batch.weight.sum()), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@needs_proc
def test_files_that_ask_for_gigabytes_do_not_get_them_without_workers(tmp_path):
    """FFmpeg is told the largest block it may ask for, in whatever process decodes."""
    spec = lying_corpus(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS, spec], capture_output=True, text=True, cwd=ROOT, check=True
    )
    valid, grown = map(int, done.stdout.split())
    assert valid == 4
    assert grown < 300  # MiB


@needs_proc
def test_a_sample_that_needs_more_memory_than_a_worker_may_take_is_a_hole(tmp_path):
    samples = [sample(tmp_path, f"clip{number:04d}", number) for number in range(4)]
    large = numbered(tmp_path / "large.mp4", frames=2, size=(3000, 4000)).read_bytes()
    samples[1][1].update(mp4=large, json=b"{}")
    padding = 60 << 20
    samples[2][1]["mp4"] += struct.pack(">I4s", padding, b"free") + bytes(padding - 8)
    spec = str(write_tar(tmp_path / "large.tar", samples))
    for memory, whole_rows in ((32 << 20, [1.0, 0.0, 0.0, 1.0]), (worker_module.MEMORY, [1.0] * 4)):
        with Stream(spec, WINDOW, 4, workers=1, shuffle=False, repeat=False, memory=memory) as stream:
            ((batch, _),) = list(stream)
        assert batch.weight.tolist() == whole_rows
        assert sum(failures(stream).values()) == 4 - sum(whole_rows)
        if not all(whole_rows):  # codecs often call it invalid data when they get no memory for a picture
            assert failures(stream)["out of memory"] >= 1


def test_a_worker_killed_at_one_clip_again_and_again_gives_it_up(tmp_path, monkeypatch):
    """The clip's shard is a pipe: whoever opens it waits, and is killed meanwhile."""
    spec = write_corpus(tmp_path, [3, 1])
    stream = Stream(spec, WINDOW, 4, workers=1, timeout=60.0, shuffle=False)
    os.unlink(tmp_path / "train-000001.tar")
    os.mkfifo(tmp_path / "train-000001.tar")
    wait = Worker._await

    def kill_when_it_waits(self: Worker, timeout: float) -> None:
        begun = -1
        while self.ready and not self.connection.poll(1.5):
            if begun == int(self.ring.heartbeat[0]):
                self.process.kill()
                break
            begun = int(self.ring.heartbeat[0])
        wait(self, timeout)

    monkeypatch.setattr(Worker, "_await", kill_when_it_waits)
    with stream:
        batches = [batch for batch, _ in itertools.islice(stream, 2)]
    for batch in batches:
        assert batch.weight.tolist() == [1.0, 1.0, 1.0, 0.0]
    assert stream.quarantine == {"data/clip0003": "worker died"}
    assert failures(stream) == {"worker died": 2}
