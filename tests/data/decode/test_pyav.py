"""The PyAV decoder against clips whose frames carry their number, and against a plain decode of the whole file."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mmssl.clip import Clip, EncodedClip, Span, Window
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.media import MediaError
from tests import media

SIZE = (64, 96)


def encoded(path: Path, key: str = "clip", **meta: object) -> EncodedClip:
    return EncodedClip(key=key, source="test", media=path.read_bytes(), meta=meta)


def decode(path: Path, window: Window, *anchors: float, **meta: object) -> Clip:
    return PyAVDecoder().decode(encoded(path, **meta), window, np.array(anchors))


def stamps_of(path: Path) -> np.ndarray:
    """Time stamps of all frames on the file's own clock, by FFmpeg alone."""
    with av.open(str(path)) as container:
        zero = max((container.start_time or 0) / av.time_base, 0.0)
        return np.sort([float(frame.pts * frame.time_base) - zero for frame in container.decode(video=0)])


@pytest.mark.parametrize("variable_rate", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("b.mp4", {"b_frames": 2, "gop": 25}),
        ("c.mp4", {"fragmented": True}),
        ("d.mkv", {"b_frames": 2}),
        ("e.webm", {"video_codec": "libvpx"}),
    ],
)
def test_each_wanted_time_gives_the_frame_on_screen(tmp_path, name, options, variable_rate):
    path = media.numbered(tmp_path / name, frames=100, fps=25.0, size=(32, 80), variable_rate=variable_rate, **options)
    stamps = stamps_of(path)
    assert len(stamps) == 100
    window = Window(Span(1.5, 7.3), size=(32, 80))
    for anchor in (0.0, 1.1, 3.3):
        clip = decode(path, window, anchor)
        expected = np.maximum(np.searchsorted(stamps, clip.wanted_times[0] + 1e-6, side="right") - 1, 0)
        numbers = [media.number_of(frame.transpose(1, 2, 0)) for frame in clip.frames[0]]
        assert numbers == expected.tolist()
        np.testing.assert_allclose(clip.frame_times[0], stamps[expected], atol=1e-6)


def test_a_frames_own_time_stamp_gives_that_frame_and_the_ends_are_held(tmp_path):
    path = media.numbered(tmp_path / "a.mp4", frames=25, fps=25.0)
    clip = decode(path, Window(Span(1.0, 25.0), size=SIZE), 0.5, duration=1.0)
    assert [media.number_of(f.transpose(1, 2, 0)) for f in clip.frames[0]] == list(range(25))
    longer = decode(path, Window(Span(2.0, 5.0), size=SIZE), 0.5, duration=1.0)
    assert [media.number_of(f.transpose(1, 2, 0)) for f in longer.frames[0]] == [0, 5, 10, 15, 20, 24, 24, 24, 24, 24]


def test_views_lie_at_their_anchors_and_share_decoded_frames(tmp_path):
    path = media.numbered(tmp_path / "a.mp4", frames=75, audio_codec="aac")
    window = Window(Span(1.0, 5.0), Span(1.0, 16000), size=SIZE, views=3)
    clip = decode(path, window, 0.2, 0.7, 2.9)
    assert clip.frames.shape == (3, 5, 3, *SIZE)
    for view, anchor in enumerate((0.2, 0.7, 2.9)):
        alone = decode(path, window, anchor)
        np.testing.assert_array_equal(clip.frames[view], alone.frames[0])
        np.testing.assert_array_equal(clip.audio[view], alone.audio[0])
    assert clip.decoded_pictures <= 75
    assert clip.decoder_calls == 1


def test_reading_stops_after_the_last_wanted_frame_and_seeks_to_the_first(tmp_path):
    path = media.numbered(tmp_path / "a.mp4", frames=250, fps=25.0, gop=10)
    window = Window(Span(0.4, 25.0), size=SIZE)
    assert decode(path, window, 0.2).decoded_pictures == 11
    late = decode(path, window, 8.0)
    assert late.decoded_pictures <= 22
    assert [media.number_of(f.transpose(1, 2, 0)) for f in late.frames[0]] == list(range(195, 205))


def test_sound_is_that_of_a_whole_decode(tmp_path):
    path = media.numbered(tmp_path / "a.mp4", frames=100, fps=25.0, audio_codec="aac", audio_rate=16000)
    with av.open(str(path)) as container:
        parts = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    whole = np.zeros(5 * 16000, np.float32)
    for time, samples in parts:
        first = round(time * 16000)
        whole[first : first + len(samples)] = samples
    for anchor in (0.3, 1.7, 3.6):
        clip = decode(path, Window(sound=Span(1.0, 16000), size=SIZE), anchor)
        first = round(clip.audio_start[0] * 16000)
        assert clip.has_audio
        # AAC fills noise bands from a generator whose state depends on where decoding began: 1 % is its share.
        np.testing.assert_allclose(clip.audio[0], whole[first : first + 16000], atol=0.02)


def test_resampled_sound_keeps_its_place(tmp_path):
    path = media.numbered(tmp_path / "a.mkv", frames=75, audio_codec="pcm_s16le", audio_rate=44100)
    clip = decode(path, Window(sound=Span(1.0, 16000), size=SIZE), 1.3)
    t = clip.audio_start[0] + np.arange(16000) / 16000
    exact = 0.3 * np.sin(2 * np.pi * (200 * t + 150 * t**2))
    assert np.abs(clip.audio[0] - exact).max() < 0.02  # a shift of one sample would be 0.05


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_mixed(tmp_path, channels):
    path = media.flash_and_click(tmp_path / "a.mkv", audio_codec="pcm_s16le", channels=channels, audio_rate=16000)
    clip = decode(path, Window(sound=Span(3.0, 16000), size=SIZE), 1.5)
    assert clip.audio.shape == (1, 48000)
    assert np.abs(clip.audio).max() == pytest.approx(0.8, abs=0.01)


def test_gaps_of_the_sound_stay_zeros_and_do_not_move_what_follows(tmp_path):
    path = media.flash_and_click(
        tmp_path / "a.mkv", seconds=4.0, at=(0.5, 1.5, 3.0), audio_rate=16000, sound_gap=(1.0, 2.0)
    )
    assert media.measure(path).samples < 3.2 * 16000  # the gap is there
    clip = decode(path, Window(sound=Span(4.0, 16000), size=SIZE), 2.0)
    loud = np.flatnonzero(np.abs(clip.audio[0]) > 0.4) / 16000
    assert loud[0] == pytest.approx(0.5, abs=0.002)
    assert loud[loud > 1][0] == pytest.approx(3.0, abs=0.002)
    assert not clip.audio[0, 18000:31000].any()


def test_a_clip_without_sound_or_picture_is_masked(tmp_path):
    silent = media.numbered(tmp_path / "silent.mp4", frames=25)
    window = Window(Span(0.5, 10.0), Span(0.5, 16000), size=SIZE)
    clip = decode(silent, window, 0.5)
    assert (clip.has_picture, clip.has_audio) == (True, False)
    assert clip.audio.shape == (1, 8000)
    assert not clip.audio.any()

    path = media.numbered(tmp_path / "both.mp4", frames=25, audio_codec="aac")
    sound_only = tmp_path / "sound.m4a"
    with av.open(str(path)) as source, av.open(str(sound_only), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    clip = decode(sound_only, window, 0.5)
    assert (clip.has_picture, clip.has_audio) == (False, True)
    assert clip.frames.shape == (1, 5, 3, *SIZE)
    assert np.abs(clip.audio).max() > 0.2


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_display_rotation_is_applied_and_told_by_the_geometry(tmp_path, rotation):
    path = media.flash_and_click(tmp_path / "a.mp4", size=(64, 96), rotation=rotation)
    upright = (64, 96) if rotation % 180 == 0 else (96, 64)
    clip = decode(path, Window(Span(0.5, 10.0), size=upright), 0.3)
    source = np.array([6.0, 3.5, 1.0])  # the middle of the red patch, in coded pixels
    x, y = clip.geometry @ source
    pixel = clip.frames[0, 0, :, int(y), int(x)].astype(int)
    assert pixel[0] - pixel[1:].max() > 80
    corner = {0: (6, 4), 90: (60, 6), 180: (90, 60), 270: (4, 90)}[rotation]
    assert np.hypot(x - corner[0], y - corner[1]) < 3


def test_another_size_is_scaled_to_cover_and_cut_around_the_centre(tmp_path):
    path = media.numbered(tmp_path / "a.mp4", frames=10, size=(64, 128))
    clip = decode(path, Window(Span(0.2, 10.0), size=(32, 32)), 0.1)
    np.testing.assert_allclose(clip.geometry, [[0.5, 0.0, -16.0], [0.0, 0.5, 0.0]])
    full = decode(path, Window(Span(0.2, 10.0), size=(64, 128)), 0.1).frames[0, 0].astype(float)
    halved = full.reshape(3, 32, 2, 64, 2).mean(axis=(2, 4))[:, :, 16:48]
    assert np.abs(clip.frames[0, 0] - halved).mean() < 6


def test_colours_follow_the_tagged_matrix(tmp_path):
    """BT.709 red read as BT.601 would come out with 30 levels less."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        red = np.zeros((64, 64, 3), np.uint8)
        red[..., 0] = 255
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(red).reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.colorspace, frame.color_range = number, 1, 1
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    clip = decode(path, Window(Span(0.2, 10.0), size=(64, 64)), 0.1)
    np.testing.assert_allclose(clip.frames[0, 0].mean(axis=(1, 2)), [255, 0, 0], atol=6)


def test_sentences_are_cues_and_context_each_once(tmp_path):
    path = media.numbered(tmp_path / "a.mp4", frames=25)
    vtt = b"WEBVTT\n\n00:00:00.200 --> 00:00:00.900\nthe ball falls\n"
    context = [
        {"text": "the ball falls", "start": 0.2, "end": 0.9},
        {"text": "earlier", "start": -4.0, "end": -2.0},
        {"text": "not a time", "start": None, "end": 3.0},
        "not a row",
    ]
    clip = EncodedClip("clip", "test", path.read_bytes(), vtt, {"context": context})
    window = Window(Span(0.2, 10.0), text=True, size=SIZE)
    found = PyAVDecoder().decode(clip, window, np.array([0.5])).sentences
    assert [(s.text, s.start, s.end) for s in found] == [("earlier", -4.0, -2.0), ("the ball falls", 0.2, 0.9)]
    without = Window(Span(0.2, 10.0), size=SIZE)
    assert PyAVDecoder().decode(clip, without, np.array([0.5])).sentences == ()


@pytest.mark.parametrize(
    ("name", "fragmented"), [("a.mp4", False), ("a.mp4", True), ("b.mkv", False), ("c.webm", False)]
)
def test_the_duration_comes_from_the_description_or_the_streams(tmp_path, name, fragmented):
    codec = "libvpx" if name.endswith("webm") else "libx264"
    path = media.numbered(tmp_path / name, frames=75, video_codec=codec, fragmented=fragmented)
    decoder = PyAVDecoder()
    assert decoder.duration(encoded(path)) == pytest.approx(3.0, abs=0.05)
    assert decoder.duration(encoded(path, duration=2.5)) == 2.5


def test_the_duration_of_a_matroska_file_that_begins_late_counts_from_its_beginning(tmp_path):
    path = media.numbered(tmp_path / "a.mkv", frames=75, audio_codec="pcm_s16le")
    late = tmp_path / "late.mkv"
    with av.open(str(path)) as source, av.open(str(late), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                shift = round(3.2 / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    assert PyAVDecoder().duration(encoded(late)) == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty file"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not a known container"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(100), "unreadable"),
    ],
)
def test_what_is_no_video_is_refused_with_a_cause(data, cause):
    clip = EncodedClip("clip", "test", data)
    with pytest.raises(MediaError) as caught:
        PyAVDecoder().decode(clip, Window(Span(1, 4)), np.array([0.5]))
    assert caught.value.cause == cause


def test_damaged_files_fail_with_a_cause_or_give_a_whole_clip(tmp_path):
    source = media.numbered(tmp_path / "a.mp4", frames=75, audio_codec="aac")
    window = Window(Span(3.0, 8.0), Span(3.0, 16000), size=SIZE)
    causes = set()
    for number, keep in enumerate((0.05, 0.3, 0.6, 0.9)):
        for path in (
            media.truncated(tmp_path / f"t{number}.mp4", source, keep),
            media.damaged(tmp_path / f"d{number}.mp4", source, keep - 0.05, keep),
        ):
            try:
                clip = decode(path, window, 1.5)
                assert clip.frames.shape == (1, 24, 3, *SIZE)
            except MediaError as error:
                causes.add(error.cause)
    assert causes  # a truncated mp4 has no index
    assert all(cause and "\n" not in cause for cause in causes)
