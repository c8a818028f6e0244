"""The parent's side of the decode workers: starts them, hands out batches in order, replaces the dead and the hung.

A worker that dies or hangs is replaced, and its batch is redone sample by sample; the sample that does it again is
given up, with the cause "worker died" or "worker hung", and not tried any more.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection, wait

import numpy as np

from mmssl.data.decode.choose import make_decoder
from mmssl.data.look_ahead import LookAhead
from mmssl.data.memory import bound_blocks
from mmssl.data.ring import Ring, anonymous_file
from mmssl.data.sources import Place
from mmssl.data.worker import Answer, Decoded, Failure, Job, Settings, decode_job, reader_for
from mmssl.errors import UserError

START_SECONDS = 120.0  # for a worker to start, on a machine under load
MOST_STARTS = 3  # of a worker that is killed before it is ready
LOOK_SECONDS = 0.5  # between two looks at a heartbeat


class WorkerFailed(Exception):
    """A worker died or hung; the message says which."""


def decode_here(
    jobs: Iterable[Job], settings: Settings, given_up: dict[str, str]
) -> Generator[tuple[Job, Decoded], None, None]:
    """Decode in this process, by the same code as the workers.

    Its memory is the program's own and has no bound; FFmpeg is told the largest block it may ask for.
    """
    settings = replace(settings, memory=None)
    decoder = make_decoder(settings.decoder, settings.pixels)
    bound_blocks()
    layout = settings.layout
    with closing(LookAhead(reader_for(settings.window))) as ahead:
        for job in jobs:
            frames, audio = np.zeros(layout.frames, np.uint8), np.zeros(layout.audio, np.float32)
            tried = _without(job, given_up)
            ahead.expect(tried.places)
            answers = decode_job(tried, settings, decoder, frames, audio, ahead=ahead)
            yield job, Decoded.of(_with_given_up(job, answers, given_up), frames, audio)


class Worker:
    """One worker process with its ring and its socket."""

    def __init__(self, settings: Settings) -> None:
        self.waiting: deque[tuple[Job, int]] = deque()  # jobs sent, with their slots, in order
        self.free = list(range(settings.slots))
        self.starts = 0
        self._settings = settings
        self._start()

    def _start(self) -> None:
        settings, layout = self._settings, self._settings.layout
        self.starts += 1
        self.ready = False
        ring_descriptor = anonymous_file(layout.bytes)
        ours, theirs = socket.socketpair()
        try:
            self.ring = Ring(ring_descriptor, layout)
            # A fresh Python with this one's search path: nothing of the program's main module is run again.
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; "
                f"from mmssl.data.worker import main; main({theirs.fileno()}, {ring_descriptor})"
            )
            one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=(theirs.fileno(), ring_descriptor),
                stdin=subprocess.DEVNULL,
                env=os.environ | one_thread,
            )
        finally:
            theirs.close()
            os.close(ring_descriptor)
        self.connection = Connection(ours.detach())
        with contextlib.suppress(OSError):  # it died at once: seen when its answer is waited for
            self.connection.send(settings)

    def send(self, job: Job) -> None:
        """Give the worker a job; a slot must be free."""
        slot = self.free.pop()
        self.waiting.append((job, slot))
        with contextlib.suppress(OSError):
            self.connection.send((job, slot))

    def receive(self, timeout: float) -> tuple[list[Answer], np.ndarray, np.ndarray]:
        """The answers of the first waiting job, and its frames and audio copied out of the ring.

        Raises:
            WorkerFailed: the worker died, or began no sample for `timeout` seconds.
            UserError: it could not even start.
            RuntimeError: a fault of the program in the worker.
        """
        if not self.ready:
            self._await(START_SECONDS)
            try:
                self.ready = self.connection.recv() == "ready"
            except (EOFError, OSError):
                code = self.process.wait()
                if code < 0 and self.starts < MOST_STARTS:  # killed by a signal: no sample was begun
                    self.stop()
                    self._start()
                    for sent in self.waiting:
                        with contextlib.suppress(OSError):
                            self.connection.send(sent)
                    return self.receive(timeout)
                raise UserError(
                    f"a decode worker ended while starting (exit code {code}; its message is above); "
                    "use workers=0 to decode in the main process"
                ) from None
        self._await(timeout)
        try:
            number, answers = self.connection.recv()
        except (EOFError, OSError):
            raise WorkerFailed("worker died") from None
        if isinstance(answers, str):
            raise RuntimeError(f"a decode worker failed by a fault of the program:\n{answers}")
        job, slot = self.waiting.popleft()
        if number != job.number:
            raise RuntimeError(f"a decode worker answered batch {number} where {job.number} was due")
        frames, audio = (np.array(view) for view in self.ring.slot(slot))
        self.free.append(slot)
        return answers, frames, audio

    def _await(self, timeout: float) -> None:
        """Wait for a message while the heart beats."""
        beat, since = -1, time.monotonic()
        while not wait([self.connection], LOOK_SECONDS):
            if beat != int(self.ring.heartbeat[0]):
                beat, since = int(self.ring.heartbeat[0]), time.monotonic()
            elif time.monotonic() - since > timeout:
                raise WorkerFailed("worker hung")

    def stop(self) -> None:
        """End the process; it holds nothing that needs saving."""
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.ring.close()


class Pool:
    """Workers that take the batches in turn.

    Args:
        settings: what they decode with.
        workers: how many.
        timeout: seconds without a new sample after which a worker counts as hung.
        given_up: samples ("source/key" -> cause) that are not to be tried; those that kill or hang a worker twice
            are added.
    """

    def __init__(self, settings: Settings, workers: int, timeout: float, given_up: dict[str, str]) -> None:
        self.settings = settings
        self.workers = workers
        self.timeout = timeout
        self.given_up = given_up
        self.crew: list[Worker] = []

    def decode(self, jobs: Iterable[Job]) -> Generator[tuple[Job, Decoded], None, None]:
        """Decoded batches in the order of the jobs, each worker at most `slots` jobs ahead."""
        source = iter(jobs)
        queue: deque[tuple[int, Job]] = deque()  # (worker, job) in order
        turn = 0
        try:
            for _ in range(self.workers):
                self.crew.append(Worker(self.settings))
            while True:
                while self.crew[turn].free and (job := next(source, None)) is not None:
                    self.crew[turn].send(_without(job, self.given_up))
                    queue.append((turn, job))
                    turn = (turn + 1) % self.workers
                if not queue:
                    return
                number, job = queue.popleft()
                try:
                    answers, frames, audio = self.crew[number].receive(self.timeout)
                except WorkerFailed:
                    answers, frames, audio = self._redo(number)
                yield job, Decoded.of(_with_given_up(job, answers, self.given_up), frames, audio)
        finally:
            for worker in self.crew:
                worker.stop()
            self.crew.clear()

    def _replace(self, number: int) -> Worker:
        self.crew[number].stop()
        self.crew[number] = Worker(self.settings)
        return self.crew[number]

    def _redo(self, number: int) -> tuple[list[Answer], np.ndarray, np.ndarray]:
        """Replace a worker; its first job is done again sample by sample, the others are sent anew."""
        jobs = [job for job, _ in self.crew[number].waiting]
        worker = self._replace(number)
        layout = self.settings.layout
        frames, audio = np.zeros(layout.frames, np.uint8), np.zeros(layout.audio, np.float32)
        answers: list[Answer] = []
        for row, (place, seed) in enumerate(zip(jobs[0].places, jobs[0].seeds, strict=True)):
            if place is None:
                answers.append(None)
                continue
            worker.send(Job(jobs[0].number, (place,), (seed,)))
            try:
                alone, its_frames, its_audio = worker.receive(self.timeout)
            except WorkerFailed as error:
                self.given_up[_name(place)] = str(error)
                answers.append(None)
                worker = self._replace(number)
            else:
                answers += alone
                frames[row], audio[row] = its_frames[0], its_audio[0]
        for job in jobs[1:]:
            worker.send(_without(job, self.given_up))
        return answers, frames, audio


def _name(place: Place) -> str:
    return f"{place.source}/{place.entry.key}"


def _without(job: Job, given_up: dict[str, str]) -> Job:
    """The job without the samples that are not to be tried."""
    if not given_up:
        return job
    places = tuple(None if place is not None and _name(place) in given_up else place for place in job.places)
    return Job(job.number, places, job.seeds)


def _with_given_up(job: Job, answers: list[Answer], given_up: dict[str, str]) -> list[Answer]:
    """The answers with a failure where a sample was not tried."""
    whole: list[Answer] = []
    for place, answer in zip(job.places, answers, strict=True):
        if answer is None and place is not None:
            cause = given_up[_name(place)]
            answer = Failure(place.entry.key, cause, f"{place.shard}: {place.entry.key}: {cause} twice at this clip")
        whole.append(answer)
    return whole
