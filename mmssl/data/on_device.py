"""Decoding in the training process with pictures on the device: a bounded pool of threads, each with its own decoder.

NVDEC has a few engines for all of a process, so more threads than those gain nothing, and frames must not wait in
queues: at most `AHEAD` batches are in the making, whose frames lie on the device already. FFmpeg lets go of Python's
lock while it decodes.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from typing import Any

import numpy as np
import torch

from mmssl.data.decode.base import Buffers, Decoder
from mmssl.data.worker import Decoded, Failure, Job, Row, Settings, decode_sample

AHEAD = 2  # batches in the making beside the one handed out
THREADS = 4  # an H100 has seven engines, smaller cards one to three


def decode_on_device(
    jobs: Iterable[Job],
    settings: Settings,
    given_up: dict[str, str],
    make: Callable[[], Decoder],
    device: torch.device | str,
    *,
    threads: int = THREADS,
    timeout: float = 60.0,
) -> Generator[tuple[Job, Decoded], None, None]:
    """Decode batches in order; their frames are uint8 tensors on the device.

    Args:
        jobs: the batches.
        settings: what is decoded.
        given_up: samples ("source/key" -> cause) that are not to be tried; one that hangs is added.
        make: makes a decoder, one for each thread.
        device: where the frames are to lie.
        threads: how many samples are decoded at once.
        timeout: seconds after which a sample counts as hung.
    """
    decoders: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
    for _ in range(max(threads, 1)):
        decoders.put(make())
    layout = settings.layout

    def decode(place: Any, seed: int, into: Buffers) -> Row | Failure:
        decoder = decoders.get()
        try:
            return decode_sample(place, seed, settings, decoder, into)
        finally:
            decoders.put(decoder)

    pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="nvdec")
    waiting: deque[tuple[Job, Any, np.ndarray, list[Future[Row | Failure] | Failure | None]]] = deque()
    source = iter(jobs)

    def start(job: Job) -> None:
        frames = torch.empty(layout.frames, dtype=torch.uint8, device=device)
        audio = np.zeros(layout.audio, np.float32)
        rows: list[Future[Row | Failure] | Failure | None] = []
        for number, (place, seed) in enumerate(zip(job.places, job.seeds, strict=True)):
            name = "" if place is None else f"{place.source}/{place.entry.key}"
            if place is None:
                rows.append(None)
            elif name in given_up:
                rows.append(Failure(place.entry.key, given_up[name], f"{place.shard}: {place.entry.key}: given up"))
            else:
                into: Any = Buffers(frames[number], audio[number])  # type: ignore[arg-type]
                rows.append(pool.submit(decode, place, seed, into))
        waiting.append((job, frames, audio, rows))

    try:
        while True:
            while len(waiting) <= AHEAD and (job := next(source, None)) is not None:
                start(job)
            if not waiting:
                return
            job, frames, audio, rows = waiting.popleft()
            done: list[Row | Failure | None] = []
            for place, row in zip(job.places, rows, strict=True):
                if isinstance(row, Future) and place is not None:
                    try:
                        done.append(row.result(timeout))
                    except TimeoutError:
                        given_up[f"{place.source}/{place.entry.key}"] = "decoder hung"
                        done.append(Failure(place.entry.key, "decoder hung", f"{place.shard}: {place.entry.key}: hung"))
                else:
                    assert not isinstance(row, Future)
                    done.append(row)
            yield job, Decoded(done, frames, audio)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
