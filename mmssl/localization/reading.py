"""Decoding a film to its end, or as far as it goes: what cannot be decoded is passed over, counted and told.

A film of two hours is not given up for one damaged packet, nor for an end that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av

from mmssl.data.media import MediaError, clock_zero


@dataclass
class _Skipped:
    count: int
    first: float
    cause: str


@dataclass
class Faults:
    """What of a file could not be read.

    Args:
        skipped: packets that could not be decoded, by the kind of stream ("video", "audio").
        stopped: why the file could not be read on, by the kind of stream.
        ended: (where picture and sound end, where the file says that they do), in seconds, of a file that is cut off.
        still: where the picture ends, in seconds, of a film that lasts much longer.
    """

    skipped: dict[str, _Skipped] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    ended: tuple[float, float] | None = None
    still: float | None = None

    def skip(self, kind: str, time: float, cause: str) -> None:
        """Count a packet that could not be decoded."""
        if kind in self.skipped:
            self.skipped[kind].count += 1
        else:
            self.skipped[kind] = _Skipped(1, time, cause)

    def told(self) -> tuple[str, ...]:
        """A sentence for each fault, for a person."""
        names = {"video": "picture", "audio": "sound"}
        found = []
        if self.ended is not None:
            last, said = self.ended
            found.append(
                f"the file says that it lasts {said:.2f} s, but picture and sound end at {last:.2f} s: it is cut off, "
                "or its index is wrong; what could be read is drawn"
            )
        if self.still is not None:
            found.append(
                f"the picture ends at {self.still:.2f} s, before the film does; later maps are of its last frame"
            )
        for kind, cause in self.stopped.items():
            found.append(f"the {names[kind]} could not be read to its end (FFmpeg: {cause})")
        for kind, what in self.skipped.items():
            packets = "1 packet" if what.count == 1 else f"{what.count} packets"
            found.append(
                f"{packets} of the {names[kind]} could not be decoded, the first at {what.first:.2f} s "
                f"(FFmpeg: {what.cause})"
            )
        return tuple(found)


def decoded(container: Any, stream: Any, faults: Faults | None = None) -> Iterator[Any]:
    """The frames of a stream as its decoder gives them, one packet's at a time.

    Args:
        container: an open file.
        stream: one of its streams.
        faults: is told of what could not be decoded.

    Raises:
        MediaError: FFmpeg ran out of memory.
    """
    faults = faults if faults is not None else Faults()
    packets, kind, zero, time = container.demux(stream), stream.type, clock_zero(container), 0.0
    packet: Any = None
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            faults.stopped[kind] = _cause(error)
            packet = None
            yield from _flushed(stream)
        if packet is None:
            return
        if packet.pts is not None:
            time = max(float(packet.pts * packet.time_base) - zero, 0.0)
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            faults.skip(kind, time, _cause(error))
            continue
        yield from frames


def _flushed(stream: Any) -> list[Any]:
    """The frames that the decoder still holds."""
    try:
        return list(stream.codec_context.decode(None))
    except av.FFmpegError:  # it has given them already
        return []


def _cause(error: av.FFmpegError) -> str:
    if isinstance(error, MemoryError):
        raise MediaError("out of memory", "decoding takes more memory than is allowed") from error
    return str(error.strerror)
