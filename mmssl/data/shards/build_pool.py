"""Build workers as replaceable slots: a worker that dies or hangs is a failure of its source, not of the build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType

from mmssl.data.corpora.source import Source
from mmssl.data.shards.clips import BuiltClip, Failure, SourceReport
from mmssl.data.shards.settings import BuildSettings

Event = tuple[int, BuiltClip | SourceReport | Failure]
_COMMAND = "import sys; from mmssl.data.shards.build_worker import main; main(int(sys.argv[1]))"


@dataclass(slots=True)
class _Slot:
    process: subprocess.Popen[bytes]
    connection: Connection
    task: int | None = None
    source: Source | None = None
    heard: float = 0.0


class BuildPool:
    """Worker processes that take sources and give clips, as events (task number, clip | report | failure).

    Workers are fresh interpreters (nothing of the parent is imported, no fork), started when first needed.
    """

    def __init__(self, settings: BuildSettings) -> None:
        self.settings = settings
        self._slots: list[_Slot] = []

    def __enter__(self) -> BuildPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for slot in self._slots:
            slot.connection.close()
            if kind is not None:
                slot.process.kill()
        for slot in self._slots:
            try:
                slot.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                slot.process.kill()
                slot.process.wait()

    @property
    def busy(self) -> int:
        """Number of sources being worked on."""
        return sum(slot.task is not None for slot in self._slots)

    @property
    def free(self) -> bool:
        """Whether a source can be given out at once."""
        return self.busy < self.settings.processes

    def submit(self, task: int, source: Source, present: Collection[str]) -> None:
        """Give a source to a free worker; a worker found dead is replaced."""
        slot = next((slot for slot in self._slots if slot.task is None), None)
        if slot is None:
            slot = self._start()
            self._slots.append(slot)
        try:
            slot.connection.send((source, present))
        except (BrokenPipeError, ConnectionResetError):  # it died while idle: its successor gets the source
            self._replace(slot)
            slot = self._slots[-1]
            slot.connection.send((source, present))
        slot.task, slot.source, slot.heard = task, source, time.monotonic()

    def events(self) -> list[Event]:
        """Wait for news (a second at most) and return it."""
        working = [slot for slot in self._slots if slot.task is not None]
        ready = set(wait([slot.connection for slot in working], timeout=1.0)) if working else set()
        events: list[Event] = []
        for slot in working:
            assert slot.task is not None
            assert slot.source is not None
            if slot.connection in ready:
                try:
                    kind, content = slot.connection.recv()
                except (EOFError, ConnectionResetError, OSError):
                    events.append((slot.task, Failure(slot.source.name, None, "worker died", self._obituary(slot))))
                    self._replace(slot)
                    continue
                slot.heard = time.monotonic()
                if kind == "alive":
                    continue
                events.append((slot.task, content))
                if kind != "clip":
                    slot.task = slot.source = None
            elif time.monotonic() - slot.heard > self.settings.stall_seconds:
                message = f"no packet decoded within {self.settings.stall_seconds:.0f} s; the worker was stopped"
                events.append((slot.task, Failure(slot.source.name, None, "timed out", message)))
                slot.process.kill()
                self._replace(slot)
        return events

    def _obituary(self, slot: _Slot) -> str:
        try:
            code = slot.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            slot.process.kill()
            code = slot.process.wait()
        if code < 0:
            return f"the worker process was ended by {signal.Signals(-code).name} while it worked on this file"
        return f"the worker process ended with code {code} while it worked on this file"

    def _start(self) -> _Slot:
        ours, theirs = Pipe()
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path or os.getcwd() for path in sys.path))
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = "1"
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # an interrupt of the terminal reaches the parent alone, which ends the workers
        )
        theirs.close()
        ours.send(self.settings)
        return _Slot(process, ours)

    def _replace(self, slot: _Slot) -> None:
        slot.connection.close()
        slot.process.wait()
        self._slots.remove(slot)
        self._slots.append(self._start())
