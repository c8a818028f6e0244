"""Text streams within media files, of every kind that FFmpeg writes."""

from __future__ import annotations

import pytest

from mmssl.data.shards.embedded import read_embedded
from mmssl.data.subtitles import Cue
from tests.media import flash_and_click

CUES = ((0.5, 0.9, "Grüße, an <i>alle</i>"), (1.0, 1.75, "zwei\\NZeilen"))
OVERLAPPING = (1.2, 1.5, "dazwischen")
WEBM = {"video_codec": "libvpx", "audio_codec": "libopus", "audio_rate": 48000}


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        *(("mp4", "mov_text"), ("mov", "mov_text")),
        *(("mkv", codec) for codec in ("srt", "subrip", "ass", "ssa", "webvtt", "text")),
        ("webm", "webvtt"),
    ],
)
def test_embedded_text_of_every_kind(tmp_path, suffix, codec):
    cues = CUES if codec == "mov_text" else (*CUES, OVERLAPPING)  # mov_text shows one at a time
    settings = WEBM if suffix == "webm" else {}
    path = flash_and_click(
        tmp_path / f"a.{suffix}", seconds=2.0, size=(32, 32), subtitles=cues, subtitle_codec=codec, **settings
    )
    subtitles = read_embedded(path)
    expected = [Cue(0.5, 0.9, "Grüße, an alle"), Cue(1.0, 1.75, "zwei Zeilen"), Cue(1.2, 1.5, "dazwischen")]
    assert list(subtitles.cues) == expected[: len(cues)]
    assert subtitles.dropped == {}
