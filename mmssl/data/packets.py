"""The packet table of a clip: where each packet of its picture and sound lies in the member's bytes, and when it shows.

With a table a decoder is fed just the packets that a window needs, straight from the bytes: no container is opened,
probed or sought. A table is written only if it was seen to give what the demuxer gives (`mmssl.data.packets_make`).

The bytes are those of the member ``{key}.pkt``, little endian: the mark ``mmssl-pk2``; the size of the media (uint64),
the clock's zero and the duration (float64), the number of packets of picture and of sound and the length of the header
(uint32 each); a JSON header with what describes the streams; then for each stream four arrays over its packets in
decode order: offset uint32, size uint32, pts int32, flags uint8. Most clips of a corpus have the same header, which is
therefore read once.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

MAGIC = b"mmssl-pk2"
_HEAD = struct.Struct("<9sQddIII")
_LARGEST_HEADER = 1 << 20
KEY, DISCARD, DISPOSABLE = 1, 2, 4


class BadTable(Exception):
    """The bytes are no packet table, or not one of this clip."""


@dataclass(frozen=True, slots=True)
class StreamTable:
    """One stream's packets in decode order.

    Args:
        codec: FFmpeg's name of the decoder.
        extradata: what the decoder needs beside the packets (parameter sets, the AAC configuration).
        time_base: (numerator, denominator) of `pts`.
        offset, size: uint32 or int64 [P], where the bytes of each packet lie.
        pts: int32 or int64 [P], presentation time after the edit list, in `time_base`.
        flags: uint8 [P]: `KEY`, `DISCARD` (needed for decoding, never shown), `DISPOSABLE` (no other picture needs it).
        facts: the rest, by kind: of a picture ``aspect`` (pixel width, height), of sound ``rate``, ``channels``,
            ``preroll`` (packets decoded before the first wanted one) and ``skips`` ([packet, samples at its
            beginning, samples at its end] that are not part of the sound).
    """

    codec: str
    extradata: bytes
    time_base: tuple[int, int]
    offset: np.ndarray
    size: np.ndarray
    pts: np.ndarray
    flags: np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def seconds(self) -> np.ndarray:
        """Float64 [P]: `pts` in seconds, rounded once, as the demuxer's time stamps are."""
        numerator, denominator = self.time_base
        ticks = self.pts if numerator == 1 else self.pts.astype(np.int64) * numerator
        return ticks / denominator


@dataclass(frozen=True, slots=True)
class PacketTable:
    """The tables of a clip's streams.

    Args:
        media_bytes: size of the media that the table is of.
        zero: time stamp (seconds) that is 0 on the clip's clock.
        duration: seconds.
        video, audio: the streams, or None where the clip has none.
    """

    media_bytes: int
    zero: float
    duration: float
    video: StreamTable | None
    audio: StreamTable | None

    def to_bytes(self) -> bytes:
        """The bytes of the member.

        Raises:
            OverflowError: an offset or time stamp does not fit into 32 bits.
        """
        header: dict[str, Any] = {}
        arrays = []
        for name, stream in (("video", self.video), ("audio", self.audio)):
            if stream is None:
                continue
            if max(np.abs(stream.pts).max(initial=0), 0) >= 1 << 31 or self.media_bytes >= 1 << 32:
                raise OverflowError("a time stamp or offset does not fit into 32 bits")
            header[name] = {
                "codec": stream.codec,
                "extradata": stream.extradata.hex(),
                "time_base": list(stream.time_base),
                **stream.facts,
            }
            arrays += [
                stream.offset.astype("<u4").tobytes(),
                stream.size.astype("<u4").tobytes(),
                stream.pts.astype("<i4").tobytes(),
                stream.flags.astype("u1").tobytes(),
            ]
        text = json.dumps(header, separators=(",", ":")).encode()
        counts = (0 if stream is None else len(stream) for stream in (self.video, self.audio))
        head = _HEAD.pack(MAGIC, self.media_bytes, self.zero, self.duration, *counts, len(text))
        return head + text + b"".join(arrays)

    @classmethod
    def from_bytes(cls, data: bytes, media_bytes: int) -> PacketTable:
        """Read a table; `media_bytes` is the size of the clip's media.

        Raises:
            BadTable: the bytes are something else, or of other media.
        """
        if data[: len(MAGIC)] != MAGIC or len(data) < _HEAD.size:
            raise BadTable("not a packet table")
        _, of_bytes, zero, duration, pictures, sounds, length = _HEAD.unpack_from(data)
        if of_bytes != media_bytes:
            raise BadTable(f"the table is of {of_bytes} bytes of media, these are {media_bytes}")
        if length > _LARGEST_HEADER:
            raise BadTable("the header is too long")
        if not math.isfinite(zero + duration):
            raise BadTable("its times are no numbers")
        at = _HEAD.size + length
        try:
            video, audio = _described(data[_HEAD.size : at])
            picture = None if video is None else _stream(video, pictures, data, at, media_bytes)
            at += 13 * pictures if picture is not None else 0
            sound = None if audio is None else _stream(audio, sounds, data, at, media_bytes)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            raise BadTable(f"not a packet table ({type(error).__name__}: {error})") from None
        return cls(media_bytes, zero, duration, picture, sound)


_Description = tuple[str, bytes, tuple[int, int], Mapping[str, Any]]  # codec, extradata, time base, facts


@lru_cache(maxsize=16)
def _described(header: bytes) -> tuple[_Description | None, _Description | None]:
    """What a header says of picture and sound, looked at: decoding relies on it."""
    streams = json.loads(header)
    found: list[_Description | None] = []
    for name in ("video", "audio"):
        if name not in streams:
            found.append(None)
            continue
        facts = _checked(name, streams[name])
        codec, extradata, base = str(facts.pop("codec")), bytes.fromhex(facts.pop("extradata")), facts.pop("time_base")
        numerator, denominator = map(int, base)
        if not (0 < numerator < 1 << 31 and 0 < denominator < 1 << 31):
            raise BadTable("a stream without a clock")
        found.append((codec, extradata, (numerator, denominator), MappingProxyType(facts)))
    if found == [None, None]:
        raise BadTable("neither picture nor sound")
    return found[0], found[1]


def _stream(about: _Description, count: int, data: bytes, at: int, media_bytes: int) -> StreamTable:
    """One stream of a table: its arrays, which begin at byte `at`."""
    if not count:
        raise BadTable("a stream without packets")
    words: np.ndarray = np.frombuffer(data, "<u4", 3 * count, at).reshape(3, count)
    flags: np.ndarray = np.frombuffer(data, np.uint8, count, at + 12 * count)
    offset, size, pts = words[0], words[1], words[2].view("<i4")
    if int(np.add(offset, size, dtype=np.int64).max()) > media_bytes or int(size.sum(dtype=np.int64)) > media_bytes:
        raise BadTable("a packet lies past the end of the media, or over another")
    return StreamTable(about[0], about[1], about[2], offset, size, pts, flags, about[3])


def _checked(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a stream, each of its own type: what uses them takes that for granted."""
    if name == "video":
        width, height = facts["aspect"]
        right = _all_int(width, height, facts["turns"], facts["matrix"]) and width > 0 and height > 0
    else:
        right = _all_int(facts["rate"], facts["preroll"], *(n for row in facts["skips"] for n in row))
        right = right and all(len(row) == 3 and min(row) >= 0 for row in facts["skips"])
        right = right and isinstance(facts["layout"], str)
        right = right and 0 < facts["rate"] < 1 << 24 and facts["preroll"] >= 0
    if not right:
        raise BadTable(f"the facts of the {name} stream are wrong")
    return facts


def _all_int(*values: Any) -> bool:
    return all(isinstance(value, int) and abs(value) < 1 << 31 for value in values)
