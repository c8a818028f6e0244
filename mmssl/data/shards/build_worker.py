"""A build worker: a process of its own that cuts sources into clips, so that a crash costs one source.

Started as `python -c "from mmssl.data.shards.build_worker import main; main(fd)"` with a connection on the file
descriptor. It receives (source, keys present) and answers with ("clip", BuiltClip) for each clip, ("alive", None) every
few seconds, and at last ("done", SourceReport) or ("failed", Failure). Torch is not imported.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection

import av
import av.logging

from mmssl.data.corpora.source import Source
from mmssl.data.media import MediaError
from mmssl.data.memory import bound_blocks
from mmssl.data.shards.clips import BuiltClip, Failure, SourceReport
from mmssl.data.shards.cutter import cut_source
from mmssl.data.shards.settings import BuildSettings

HEARTBEAT_SECONDS = 5.0


def main(descriptor: int) -> None:
    """Serve until the other end closes the connection."""
    av.logging.set_level(None)  # FFmpeg's remarks on damaged files would fill the terminal
    bound_blocks()
    connection = Connection(descriptor)
    try:
        settings: BuildSettings = connection.recv()
        while True:
            source, present = connection.recv()
            emit, tick = (lambda clip: connection.send(("clip", clip))), heartbeat(connection)
            result = work(source, settings, emit, present, tick)
            connection.send(("failed" if isinstance(result, Failure) else "done", result))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has gone, or has no more work


def work(
    source: Source,
    settings: BuildSettings,
    emit: Callable[[BuiltClip], None],
    present: Collection[str],
    tick: Callable[[], None],
) -> SourceReport | Failure:
    """Cut one source; whatever goes wrong becomes a failure of that source."""
    try:
        return cut_source(source, settings, emit, present, tick)
    except MediaError as error:
        return Failure(source.name, None, error.cause, str(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # a file must never stop the build: named by type, with the place in the code
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{error} ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})"
        return Failure(source.name, None, f"error {type(error).__name__}", message)


def heartbeat(connection: Connection) -> Callable[[], None]:
    """Return a function that, called often, tells the parent every few seconds that work goes on."""
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > HEARTBEAT_SECONDS:
            last = now
            connection.send(("alive", None))

    return tick
