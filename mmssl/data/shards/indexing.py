"""Indexing many tars at once: fresh Python processes that walk headers and store what they find.

Walking headers is Python's work as much as the disk's, so threads would take turns. The processes are fresh Pythons,
as the decode workers are, and need no `if __name__ == "__main__"` in the program that reads shards.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmssl.data.shards.index import read_index
from mmssl.errors import UserError


def index_in_processes(shards: Sequence[Path], processes: int) -> Iterator[Path]:
    """Make and store the indices of tars, giving each tar when it is done.

    Whatever fails is left for the caller to try, and to name; so is a tar on which a process died.

    Args:
        shards: the tars.
        processes: how many work at once.
    """
    waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    # The ranks of a run index the same tars: from different starts they meet what others did and find it done.
    start = int.from_bytes(os.urandom(4), "little") % max(len(shards), 1)
    for path in [*shards[start:], *shards[:start], *[None] * processes]:
        waiting.put(path)
    feeders = [threading.Thread(target=_feed, args=(waiting, done), daemon=True) for _ in range(processes)]
    for feeder in feeders:
        feeder.start()
    try:
        ended = 0
        while ended < processes:
            path = done.get()
            if path is None:
                ended += 1
            else:
                yield path
    finally:  # after Ctrl-C there is nothing more to do: the feeders end with their processes
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for _ in feeders:
            waiting.put(None)


def _feed(waiting: queue.SimpleQueue[Path | None], done: queue.SimpleQueue[Path | None]) -> None:
    """Hand tars to one process, one at a time; a process that dies is left and its tar counts as done."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from mmssl.data.shards.indexing import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while (path := waiting.get()) is not None:
            with contextlib.suppress(OSError):
                process.stdin.write(os.fsencode(path) + b"\0\n")
                process.stdin.flush()
                process.stdout.readline()
            done.put(path)
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()
        process.stdout.close()
        done.put(None)


def main() -> None:
    """Entry point of the process: index the tars named on the standard input, answering each with a line."""
    name = b""
    for line in sys.stdin.buffer:
        name += line
        if not name.endswith(b"\0\n"):  # a file's name may hold a line's end
            continue
        with contextlib.suppress(UserError, OSError):  # the parent tries again and says it
            read_index(Path(os.fsdecode(name[:-2])))
        name = b""
        sys.stdout.write("done\n")
        sys.stdout.flush()
