"""The PyAV decoder beside torchcodec, an independent reader of the same files, on real H.264 and AAC."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.decode.pyav import PyAVDecoder
from tests import media
from tests.requirements import torchcodec


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("b.mp4", {"b_frames": 2, "gop": 25}),
        ("c.mp4", {"fragmented": True}),
        ("d.mkv", {"b_frames": 2}),
        ("e.mp4", {"variable_rate": True}),
    ],
)
def test_the_same_frames_at_the_same_times(tmp_path, name, options):
    decoders = torchcodec().decoders
    path = media.numbered(tmp_path / name, frames=75, fps=25.0, size=(64, 96), **options)
    window = Window(Span(1.5, 7.3), size=(64, 96))
    clip = EncodedClip(key="clip", source="test", media=path.read_bytes())
    ours = PyAVDecoder().decode(clip, window, np.array([1.4]))
    theirs = decoders.VideoDecoder(str(path), seek_mode="exact")
    begin = theirs.metadata.begin_stream_seconds
    # A microsecond on: torchcodec's stamps and ours may round a border to either side.
    played = theirs.get_frames_played_at((ours.wanted_times[0] + begin + 1e-6).tolist())
    np.testing.assert_allclose(ours.frame_times[0], played.pts_seconds.numpy() - begin, atol=1e-5)
    difference = np.abs(ours.frames[0].astype(int) - played.data.numpy().astype(int))
    assert np.quantile(difference, 0.999) <= 3


def test_the_same_sound_at_the_same_time(tmp_path):
    decoders = torchcodec().decoders
    path = media.numbered(tmp_path / "a.mp4", frames=75, fps=25.0, audio_codec="aac", audio_rate=16000)
    window = Window(sound=Span(1.0, 16000), size=(64, 96))
    clip = EncodedClip(key="clip", source="test", media=path.read_bytes())
    ours = PyAVDecoder().decode(clip, window, np.array([1.4]))
    start = float(ours.audio_start[0])
    theirs = decoders.AudioDecoder(str(path)).get_samples_played_in_range(start, start + 1.0)
    offset = round((start - theirs.pts_seconds) * 16000)
    assert 0 <= offset <= 1
    reference = theirs.data[0].numpy()[offset:]
    sound = ours.audio[0][: len(reference)]
    assert len(reference) >= 15990
    assert np.abs(sound - reference).max() < 0.01
