"""Decode workers: replaced when they die or hang, quiet at the end, fatal on faults of the program."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmssl.clip import Span, Window
from mmssl.data import Stream
from mmssl.data import pool as pool_module
from mmssl.data.pool import Worker
from mmssl.data.ring import Layout, Ring, anonymous_file
from mmssl.errors import UserError
from tests.corpora import write_corpus

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), text=True, size=(32, 32))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [7, 5, 6])


@pytest.fixture
def started(monkeypatch) -> list[Worker]:
    """The workers that a test starts."""
    workers: list[Worker] = []
    original = Worker.__init__

    def init(self: Worker, *args: object) -> None:
        original(self, *args)
        workers.append(self)

    monkeypatch.setattr(Worker, "__init__", init)
    return workers


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("cause", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_replaced_and_its_batch_redone(corpus, started, cause):
    stream = Stream(corpus, WINDOW, 6, workers=2, timeout=5.0)
    reference = Stream(corpus, WINDOW, 6, workers=0)
    with stream, reference:
        batches = zip(stream, reference, strict=True)
        next(batches)
        assert all(worker.ready for worker in started[:1])
        while not started[1].ring.heartbeat[0]:  # it has begun its batch
            time.sleep(0.01)
        os.kill(started[1].process.pid, cause)
        for (a, _), (b, _) in itertools.islice(batches, 5):
            assert torch.equal(a.frames, b.frames)
            assert a.weight.all()
        assert len(started) == 3
        assert stream.quarantine == {}


def test_a_worker_killed_while_it_starts_is_started_again(corpus, monkeypatch):
    kills = iter([True, True, False])
    original = Worker._start

    def start(self: Worker) -> None:
        original(self)
        if next(kills, False):
            self.process.send_signal(signal.SIGSEGV)

    monkeypatch.setattr(Worker, "_start", start)
    stream = Stream(corpus, WINDOW, 6, workers=1)
    with stream:
        batches = [batch for batch, _ in itertools.islice(stream, 3)]
    assert all(batch.weight.all() for batch in batches)
    assert stream.quarantine == {}
    monkeypatch.setattr(Worker, "_start", lambda self: (original(self), self.process.kill()))
    with pytest.raises(UserError, match=r"ended while starting \(exit code -9"):
        next(iter(Stream(corpus, WINDOW, 6, workers=1)))


def test_a_sample_that_hangs_its_worker_twice_becomes_a_hole_for_good(tmp_path, started):
    spec = write_corpus(tmp_path, [3, 1])
    stream = Stream(spec, WINDOW, 4, workers=1, timeout=5.0)
    os.unlink(tmp_path / "train-000001.tar")
    os.mkfifo(tmp_path / "train-000001.tar")  # nobody writes into it: opening it blocks for ever
    with stream:
        batches = [batch for batch, _ in itertools.islice(stream, 3)]
    for batch in batches:
        hole = batch.keys.index("clip0003")
        assert batch.weight.tolist() == [0.0 if row == hole else 1.0 for row in range(4)]
    assert stream.quarantine == {"data/clip0003": "worker hung"}
    assert stream.counters["failed: worker hung"] == 3
    assert len(started) <= 4  # a batch sent before the sample was given up hangs once more
    resumed = Stream(write_corpus(tmp_path / "again", [3, 1]), WINDOW, 4, workers=0)
    resumed.load_state_dict(stream.state_dict())
    with resumed:
        batch, _ = next(iter(resumed))
    assert batch.weight.sum() == 3
    assert resumed.counters["failed: worker hung"] == 1


def test_a_fault_of_the_program_in_a_worker_is_raised_with_its_traceback(corpus, monkeypatch):
    monkeypatch.setattr(Stream, "_seed_of", lambda self, place: None)
    with pytest.raises(RuntimeError, match=r"(?s)fault of the program.*Traceback.*TypeError"):
        next(iter(Stream(corpus, WINDOW, 6, workers=1)))


def test_a_worker_that_cannot_start_is_an_error_with_a_way_out(corpus, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    stream = Stream(corpus, WINDOW, 6, workers=1)
    with pytest.raises(UserError, match=r"ended while starting \(exit code 1; .* use workers=0"):
        next(iter(stream))


def test_workers_end_with_the_loop_the_stream_and_an_exception(corpus, started):
    stream = Stream(corpus, WINDOW, 6, workers=2)
    for _ in stream:
        break
    stream.close()
    with Stream(corpus, WINDOW, 6, workers=2, repeat=False) as once:
        list(once)
    with pytest.raises(KeyboardInterrupt):
        interrupted(Stream(corpus, WINDOW, 6, workers=1))
    assert len(started) == 5
    assert not any(running(worker.process.pid) for worker in started)


def interrupted(stream: Stream) -> None:
    with stream:
        for _ in stream:
            raise KeyboardInterrupt


PROGRAM = """
import os, sys
from mmssl.clip import Span, Window
from mmssl.data import Stream
# no guard of __main__: workers must not run this file again
print("main runs", flush=True)
stream = Stream(sys.argv[1], Window(Span(0.8, 5), size=(32, 32)), 6, workers=2)
iterator = iter(stream)
next(iterator)
{end}
"""


@pytest.mark.parametrize(
    "end", ["pass", pytest.param("raise SystemExit(3)", marks=pytest.mark.slow), "os.kill(os.getpid(), 9)"]
)
def test_nothing_is_left_behind_however_the_program_ends(corpus, tmp_path, end):
    """Also without close(), and by SIGKILL: no child lives on, no shared memory, no word on stderr."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("{end}", end))
    marker = f"mmssl-test-{os.getpid()}-{time.monotonic_ns()}"
    shared = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    done = subprocess.run(
        [sys.executable, str(program), corpus],
        capture_output=True,
        text=True,
        env=os.environ | {"MMSSL_TEST_MARKER": marker},
    )
    assert done.returncode == {"pass": 0, "raise SystemExit(3)": 3}.get(end, -9)
    assert done.stdout.count("main runs") == 1
    assert done.stderr == ""
    for _ in range(50):
        alive = [p for p in _processes(marker) if running(p)]
        if not alive:
            break
        time.sleep(0.1)
    assert alive == []
    if os.path.isdir("/dev/shm"):
        assert {name for name in set(os.listdir("/dev/shm")) - shared if "mmssl" in name} == set()


def _processes(marker: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if marker.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(int(pid))
        except OSError:
            continue
    return found


def test_workers_are_never_more_than_two_batches_ahead(corpus, monkeypatch, started):
    sent: list[int] = []
    original = pool_module.Worker.send

    def send(self: Worker, job: object) -> None:
        sent.append(1)
        original(self, job)

    monkeypatch.setattr(pool_module.Worker, "send", send)
    with Stream(corpus, WINDOW, 3, workers=2) as stream:
        for number, _ in enumerate(stream, start=1):
            assert len(sent) <= number + 4
            if number == 6:
                break


def test_slots_of_a_ring_do_not_overlap_and_are_shared():
    layout = Layout(WINDOW, rows=3, slots=2)
    descriptor = anonymous_file(layout.bytes)
    here, there = Ring(descriptor, layout), Ring(descriptor, layout)
    os.close(descriptor)
    for slot in range(2):
        frames, audio = here.slot(slot)
        frames[...], audio[...] = slot + 1, slot + 0.5
    here.heartbeat[0] = 2**40
    for slot in range(2):
        frames, audio = there.slot(slot)
        assert frames.shape == (3, 1, 4, 3, 32, 32)
        assert audio.shape == (3, 1, 8000)
        assert (frames == slot + 1).all()
        assert (audio == slot + 0.5).all()
    assert there.heartbeat[0] == 2**40
