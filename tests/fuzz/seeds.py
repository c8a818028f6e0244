"""What is mutated: small whole films of every container, and shards of them.

To fuzz a further container, add a line to `FILMS`; to fuzz a further member (a packet table), put it beside the film in
`members` and name it in `MUTATED`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl.data.packets_make import NoTable, make_table
from tests.media import flash_and_click

#: container -> how `flash_and_click` writes it
FILMS: dict[str, dict[str, Any]] = {
    "mp4": {},
    "fragmented.mp4": {"fragmented": True},
    "mov": {"container": "mov"},
    "mkv": {"subtitles": [(0.2, 0.8, "hello")]},
    "webm": {"video_codec": "libvpx", "audio_codec": "libopus", "audio_rate": 48000},
    "avi": {"video_codec": "mpeg4", "audio_codec": "mp2"},
    "ts": {"container": "mpegts", "video_codec": "mpeg2video", "audio_codec": "mp2"},
    "ogg": {"video_codec": "libvpx", "audio_codec": "libopus", "audio_rate": 48000},
    "flv": {"video_codec": "flv", "audio_codec": None},
    "mpg": {"container": "mpeg", "video_codec": "mpeg1video", "audio_codec": "mp2"},
}
#: members that are mutated, each with its share of the mutations
MUTATED = {"mp4": 0.65, "pkt": 0.2, "vtt": 0.05, "json": 0.1}

VTT = b"WEBVTT\n\n00:00.200 --> 00:00.900\nhello there\n\n00:00.500 --> 00:01.100\n<c>and</c> again &amp; again\n"
JSON = b'{"duration": 1.2, "label": "a", "context": [[-2.0, -1.0, "before"], [0.2, 0.9, "hello there"]]}'


def films(folder: Path) -> dict[str, bytes]:
    """Container -> the bytes of a film of 1.2 s."""
    found = {}
    for name, settings in FILMS.items():
        path = folder / f"seed.{name}"
        settings = {"audio_rate": 44100, "bitexact": True} | settings
        flash_and_click(path, seconds=1.2, at=(0.5,), fps=25.0, size=(48, 64), **settings)
        found[name] = path.read_bytes()
        path.unlink()
    return found


def members(film: bytes) -> Mapping[str, bytes]:
    """A sample around a film. Whatever the container, the member is called mp4: content decides."""
    found = {"mp4": film, "vtt": VTT, "json": JSON}
    with contextlib.suppress(NoTable):
        found["pkt"] = make_table(film).to_bytes()
    return found
