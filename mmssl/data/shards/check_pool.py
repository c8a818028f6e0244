"""Check workers as replaceable slots: a clip that kills or hangs one is a fault of that clip, not the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from mmssl.data.shards.check_clip import Fault
from mmssl.data.shards.check_worker import CheckSettings
from mmssl.data.shards.entry import SampleEntry
from mmssl.data.storage import Shard
from mmssl.errors import UserError

Task = tuple[int, Shard, SampleEntry]  # number, shard, sample


@dataclass(slots=True)
class _Slot:
    process: subprocess.Popen[bytes]
    connection: Connection
    task: Task | None = None
    heard: float = 0.0


def check_in_processes(
    tasks: Iterator[Task], settings: CheckSettings, processes: int, stall_seconds: float
) -> Iterator[tuple[int, list[Fault]]]:
    """(number of the task, its faults) in the order in which they are done.

    Args:
        tasks: what to check; taken one by one as workers are free.
        settings: what is looked at.
        processes: workers.
        stall_seconds: a clip that decodes no frame for so long is given up.

    Raises:
        UserError: a worker cannot even start.
    """
    slots = [_start(settings) for _ in range(processes)]
    proven = False  # a worker that dies before any clip was checked may not be the clip's fault
    deaths = 0
    try:
        while True:
            for slot in slots:
                if slot.task is None and (task := next(tasks, None)) is not None:
                    slot.task, slot.heard = task, time.monotonic()
                    with contextlib.suppress(OSError):  # it died while idle: seen below
                        slot.connection.send(task[1:])
            busy = [slot for slot in slots if slot.task is not None]
            if not busy:
                return
            ready = set(wait([slot.connection for slot in busy], timeout=1.0))
            for slot in busy:
                assert slot.task is not None
                faults: list[Fault] | None = None
                if slot.connection in ready:
                    try:
                        kind, content = slot.connection.recv()
                    except (EOFError, OSError):
                        faults, deaths = [Fault("worker died", _obituary(slot.process))], deaths + 1
                        if not proven and deaths > 3:
                            raise UserError("check workers end while starting; their message is above") from None
                    else:
                        slot.heard = time.monotonic()
                        if kind == "done":
                            yield slot.task[0], content
                            slot.task, proven = None, True
                        continue
                elif time.monotonic() - slot.heard > stall_seconds:
                    faults = [
                        Fault("timed out", f"nothing was decoded for {stall_seconds:g} s; the worker was stopped")
                    ]
                if faults is not None:
                    yield slot.task[0], faults
                    _end(slot)
                    slots[slots.index(slot)] = _start(settings)
    finally:
        for slot in slots:
            _end(slot)


def _start(settings: CheckSettings) -> _Slot:
    """A fresh Python with this one's search path and one thread a library."""
    ours, theirs = Pipe()
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from mmssl.data.shards.check_worker import main; main({theirs.fileno()})"
    )
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env=os.environ | one_thread,
        start_new_session=True,  # an interrupt of the terminal reaches the parent alone, which ends the workers
    )
    theirs.close()
    ours.send(settings)
    return _Slot(process, ours)


def _end(slot: _Slot) -> None:
    slot.connection.close()
    slot.process.kill()
    slot.process.wait()


def _obituary(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code < 0:
        return f"the process that decoded it was ended by {signal.Signals(-code).name}"
    return f"the process that decoded it ended with code {code}"
