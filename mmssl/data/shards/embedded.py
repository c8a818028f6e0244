"""The cues that go with a source: a subtitle file named for it, or a subtitle stream within it."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Any

import av
import av.error

from mmssl.data.corpora.source import Source
from mmssl.data.media import MediaError, clock_zero, open_media
from mmssl.data.shards.clips import Failure
from mmssl.data.subtitles import Cue, Subtitles, decode_text, from_rows, read_subtitles
from mmssl.errors import UserError

TEXT_CODECS = ("mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text")
_THREE_LETTERS = {"eng": "en", "ger": "de", "deu": "de", "fre": "fr", "fra": "fr", "spa": "es", "ita": "it"}


def cues_of(
    source: Source, language: str | None
) -> tuple[dict[Path | None, tuple[Cue, ...]], dict[str, int], list[Failure]]:
    """Return the cues of each subtitle file of a source's segments (key None: the embedded stream).

    A file that cannot be read is a failure with cause "subtitles"; the clips are made without it.
    """
    found: dict[Path | None, tuple[Cue, ...]] = {}
    dropped: Counter[str] = Counter()
    failures: list[Failure] = []
    for path in {segment.subtitles for segment in source.segments}:
        try:
            if path is None and source.sound is not None:  # a still picture
                found[path] = ()
                continue
            subtitles = read_embedded(source.path, language) if path is None else read_subtitles(path)
        except UserError as error:
            failures.append(Failure(source.name, None, "subtitles", str(error)))
            continue
        found[path] = subtitles.cues
        dropped.update(subtitles.dropped)
    return found, dict(dropped), failures


def read_embedded(path: Path, language: str | None = None) -> Subtitles:
    """Read the text subtitle stream of a media file, chosen by language, then by the default mark, then the first.

    Without one (or for a file that cannot be opened, which the cutting itself will say) there are no cues. Times
    are on the clock that a player shows.
    """
    rows: list[tuple[float, float, str]] = []
    try:
        with open_media(path) as container:
            stream = _choose(container, language)
            if stream is None:
                return from_rows([])
            zero = clock_zero(container)
            for packet in container.demux(stream):
                row = _row(packet, stream, zero)
                if row is not None:
                    rows.append(row)
    except (MediaError, av.error.FFmpegError):
        pass
    return from_rows(rows)


def _choose(container: Any, language: str | None) -> Any | None:
    streams = [s for s in container.streams.subtitles if s.codec_context is not None]
    streams = [s for s in streams if s.codec_context.name in TEXT_CODECS]
    if language is not None:
        spoken = [s for s in streams if s.language and _THREE_LETTERS.get(s.language, s.language) == language]
        streams = spoken or [s for s in streams if not s.language or s.language == "und"]
    default = [s for s in streams if s.disposition & av.stream.Disposition.default]
    return next(iter(default or streams), None)


def _row(packet: Any, stream: Any, zero: float) -> tuple[float, float, str] | None:
    if not packet.size or packet.pts is None:
        return None
    data = bytes(packet)
    name = stream.codec_context.name
    if name == "mov_text":
        length = struct.unpack(">H", data[:2])[0] if len(data) >= 2 else 0
        data = data[2 : 2 + length]
        if not data:  # the pause between two cues is a sample, too
            return None
    text = decode_text(data)[0] or ""
    if name in ("ass", "ssa"):  # ReadOrder,Layer,Style,Name,MarginL,MarginR,MarginV,Effect,Text
        text = text.split(",", 8)[-1]
    start = float(packet.pts * packet.time_base) - zero
    return start, start + float((packet.duration or 0) * packet.time_base), text
