"""Cutting a source: one clock for picture and sound whatever the container, and clips as the settings say."""

from __future__ import annotations

import io
import json

import av
import numpy as np
import pytest

from mmssl.data.corpora.source import Segment, Source, key_of
from mmssl.data.media import MediaError
from mmssl.data.shards.cutter import cut_source
from mmssl.data.shards.settings import BuildSettings
from tests import media

SMALL = BuildSettings(short_side=64)
WHOLE = (Segment(),)
SOUND_TOLERANCE = 0.005


def cut(path, settings=SMALL, segments=WHOLE, present=()):
    clips = []
    report = cut_source(Source(path, path.name, key_of(path.name), segments), settings, clips.append, present)
    return clips, report


def describe(clip):
    return json.loads(clip.members["json"])


def pictures(clip):
    with av.open(io.BytesIO(clip.members["mp4"])) as container:
        return [frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)]


CONTAINERS = {
    "aac.mp4": {},
    "b-frames-and-late-start.mp4": {"b_frames": 3, "start": 0.7},
    "sound-starts-late.mp4": {"audio_start": 0.3},
    "sound-starts-early.mkv": {"audio_start": 0.0, "start": 0.5},
    "fragmented.mp4": {"fragmented": True},
    "aac.mkv": {},
    "opus.webm": {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "audio_rate": 48000},
    "opus.mkv": {"audio_codec": "libopus", "audio_rate": 48000, "start": 1.5},
    "variable.mkv": {"variable_rate": True, "start": 1.5},
    "variable.mp4": {"variable_rate": True, "b_frames": 2},
    "mp3.avi": {"video_codec": "mpeg4", "audio_codec": "mp3"},
    "stereo.ts": {"start": 1.4, "channels": 2},
    "mp2.mpg": {"video_codec": "mpeg1video", "audio_codec": "mp2"},
    "surround.mp4": {"channels": 6, "audio_rate": 48000},
    "sound-gap.mkv": {"sound_gap": (1.2, 1.9)},
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("frame_rate", [12.5, None])
def test_one_clock(tmp_path, name, frame_rate):
    """A flash and a click at one instant stay within half a frame and 5 ms of each other (law 7)."""
    at = (0.48, 1.12, 2.4)
    path = media.flash_and_click(tmp_path / name, at=at, fps=25, **CONTAINERS[name])
    clips, report = cut(path, BuildSettings(short_side=64, frame_rate=frame_rate))
    source, clip = media.measure(path), media.measure(clips[0].members["mp4"])
    meta = describe(clips[0])
    assert len(clips) == 1
    assert report.failures == ()
    assert len(clip.flashes) == len(clip.clicks) == 3
    assert clip.frame_times[0] == 0.0
    assert clip.first_sample == 0.0
    # the file itself: its frames are 40 ms, and an instant may fall between two
    own = np.abs(np.subtract(source.flashes, source.clicks))
    half = 0.5 / (frame_rate or 25)
    assert np.all(np.abs(np.subtract(clip.flashes, clip.clicks)) <= own + half + SOUND_TOLERANCE)
    # and the clip's clock against the file's
    zero = media.measure(path).clicks[0] - clip.clicks[0]
    assert np.allclose(np.subtract(source.clicks, clip.clicks), zero, atol=0.001)
    with av.open(str(path)) as container:
        shown_zero = max(container.start_time / 1e6, 0)
    assert zero == pytest.approx(shown_zero + meta["start"], abs=0.002)


def test_constant_rate_takes_the_frame_shown_in_the_middle_of_each_interval(tmp_path):
    path = media.numbered(tmp_path / "n.mkv", frames=75, fps=25)
    (clip,), _ = cut(path)
    assert [media.number_of(picture) for picture in pictures(clip)] == list(range(0, 75, 2))
    path = media.numbered(tmp_path / "slow.mp4", frames=10, fps=5)
    (clip,), _ = cut(path, BuildSettings(short_side=64, frame_rate=10))
    assert [media.number_of(picture) for picture in pictures(clip)] == [i // 2 for i in range(20)]


@pytest.mark.parametrize(
    ("fps", "every", "rate"),
    [
        (25, 2, 12.5),
        (30, 2, 15),
        (24, 2, 12),
        (30000 / 1001, 2, 15000 / 1001),
        (50, 4, 12.5),
        (60, 5, 12),
        (12.5, 1, 12.5),
    ],
)
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_constant_rate_is_shared_out_evenly(tmp_path, fps, every, rate, container):
    """No clip moves on by 2, 2, 3, 2 and 3 frames of its source; the rate of the clip says how many it has."""
    path = media.numbered(tmp_path / f"n.{container}", frames=100, fps=fps, size=(32, 64))
    clips, _ = cut(path, BuildSettings(short_side=32, clip_seconds=1.3, min_seconds=0.5))
    for clip in clips:
        steps = np.diff([media.number_of(picture) for picture in pictures(clip)])
        assert set(steps) == {every}
        assert describe(clip)["frame_rate"] == pytest.approx(rate)
        assert np.allclose(np.diff(media.measure(clip.members["mp4"]).frame_times), 1 / rate, atol=2e-4)
    assert len(clips) >= 1


def test_exactly_the_wanted_rate_and_other_sources_are_as_they_were(tmp_path):
    path = media.numbered(tmp_path / "n.mp4", frames=60, fps=30, size=(32, 64))
    (clip,), _ = cut(path, BuildSettings(short_side=32, even_rate=False))
    assert describe(clip)["frame_rate"] == 12.5
    assert set(np.diff([media.number_of(picture) for picture in pictures(clip)])) == {2, 3}
    for name, options in {"slow": {"fps": 10}, "variable": {"fps": 30, "variable_rate": True}}.items():
        path = media.numbered(tmp_path / f"{name}.mp4", frames=60, size=(32, 64), **options)
        (clip,), _ = cut(path, BuildSettings(short_side=32))
        assert describe(clip)["frame_rate"] == 12.5, name


def test_own_rate_keeps_every_frame_at_its_time(tmp_path):
    path = media.numbered(tmp_path / "n.mkv", frames=50, fps=25, variable_rate=True)
    (clip,), _ = cut(path, BuildSettings(short_side=64, frame_rate=None))
    times = media.measure(clip.members["mp4"]).frame_times
    assert [media.number_of(picture) for picture in pictures(clip)] == list(range(50))
    assert np.allclose(times, media.measure(path).frame_times, atol=0.001)
    assert describe(clip)["frames"] == 50


def test_long_source_becomes_many_clips_that_follow_each_other(tmp_path):
    path = media.numbered(tmp_path / "n.mp4", frames=600, fps=25, size=(32, 64), audio_codec="aac")
    clips, report = cut(path, BuildSettings(short_side=32, clip_seconds=4.0, frame_rate=5, min_seconds=2))
    metas = [describe(clip) for clip in clips]
    assert [clip.key for clip in clips] == [f"n-{i:04d}" for i in range(6)]
    assert [meta["start"] for meta in metas] == [0.0, 4.0, 8.0, 12.0, 16.0, 20.0]
    numbers = [media.number_of(picture) for clip in clips for picture in pictures(clip)]
    assert numbers == [i * 5 + 2 for i in range(120)], "no frame twice, none left out"
    assert [media.measure(clip.members["mp4"]).samples >= 64000 for clip in clips] == [True] * 6
    assert report.rests == 0


def test_stride_rest_and_shortest(tmp_path):
    path = media.numbered(tmp_path / "n.mp4", frames=125, fps=25, size=(32, 64))
    settings = BuildSettings(short_side=32, clip_seconds=2.0, stride=1.0, min_seconds=1.5)
    clips, report = cut(path, settings)
    assert [describe(clip)["start"] for clip in clips] == [0.0, 1.0, 2.0, 3.0]
    assert report.rests == 1
    clips, report = cut(path, BuildSettings(short_side=32, min_seconds=6.0))
    assert clips == []
    assert [(f.cause, f.start) for f in report.failures] == [("too short", 0.0)]


def test_whole_file_is_one_clip_with_the_plain_key(tmp_path):
    path = media.numbered(tmp_path / "a b.mp4", frames=38, fps=12.5, audio_codec="aac")
    (clip,), _ = cut(path, BuildSettings(short_side=64, clip_seconds=None))
    assert (clip.key, clip.duration, describe(clip)["frames"]) == ("a_b", 3.04, 38)


def test_segments_of_one_file_are_cut_where_they_lie(tmp_path):
    path = media.numbered(tmp_path / "n.mp4", frames=1000, fps=12.5, size=(32, 64), gop=50)
    segments = (
        Segment(60.0, 62.0, key="second", label="b"),
        Segment(40.0, 41.0, key="first", label="a", split="test"),
        Segment(300.0, 310.0, key="never"),
    )
    clips, report = cut(path, BuildSettings(short_side=32), segments)
    assert [clip.key for clip in clips] == ["first", "second"]
    assert [media.number_of(pictures(clip)[0]) for clip in clips] == [500, 750]
    assert [describe(clip)["frames"] for clip in clips] == [13, 25]
    assert [(clip.label, clip.split) for clip in clips] == [("a", "test"), ("b", None)]
    assert [(f.cause, f.start) for f in report.failures] == [("segment outside the file", 300.0)]


def test_keys_that_are_present_are_passed_over(tmp_path):
    path = media.numbered(tmp_path / "n.mp4", frames=75, fps=25, size=(32, 64))
    settings = BuildSettings(short_side=32, clip_seconds=1.0)
    clips, report = cut(path, settings, present={"n-0000", "n-0002"})
    assert [clip.key for clip in clips] == ["n-0001"]
    assert (report.clips, report.present) == (1, 2)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_is_applied_and_recorded(tmp_path, turn):
    path = media.flash_and_click(tmp_path / "r.mp4", seconds=1.0, at=(), rotation=turn, size=(64, 128))
    (clip,), _ = cut(path)
    picture = pictures(clip)[3].astype(int)
    meta = describe(clip)
    assert meta["rotation"] == turn
    assert picture.shape[:2] == ((128, 64) if turn in (90, 270) else (64, 128))
    corners = {90: picture[2:10, -6:-2], 180: picture[-6:-2, -10:-2], 270: picture[-10:-2, 2:6]}
    red = corners[turn].mean(axis=(0, 1))
    assert red[0] > red[1:].max() + 60, "the red patch at top left of the coded picture"
    x, y = np.array(meta["affine"]) @ [8, 4, 1]
    assert picture[int(y), int(x), 0] > 130, "the matrix leads from source pixels to clip pixels"


def test_sizes(tmp_path):
    path = media.flash_and_click(tmp_path / "s.mp4", seconds=1.0, at=(), size=(120, 200))
    expected = {
        (96, 160): BuildSettings(short_side=96),
        (120, 200): BuildSettings(short_side=240),
        (64, 64): BuildSettings(size=(64, 64), fit="stretch"),
        (80, 60): BuildSettings(size=(80, 60), fit="crop"),
    }
    for size, settings in expected.items():
        (clip,), _ = cut(path, settings)
        assert pictures(clip)[0].shape[:2] == size
    (clip,), _ = cut(path, BuildSettings(size=(60, 60), fit="crop"))
    assert describe(clip)["affine"] == [[0.5, 0.0, -20.0], [0.0, 0.5, 0.0]]


def test_form_of_the_clip(tmp_path):
    path = media.flash_and_click(tmp_path / "c.mp4", seconds=4.0, channels=6, audio_rate=44100, b_frames=3)
    (clip,), _ = cut(path, BuildSettings(short_side=64, gop=10))
    with av.open(io.BytesIO(clip.members["mp4"])) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert not video.codec_context.has_b_frames
        assert (video.codec_context.colorspace, video.codec_context.color_range) == (6, 1)
        assert (audio.codec_context.sample_rate, audio.codec_context.channels) == (16000, 1)
        frames = list(container.decode(video))
    assert [i for i, frame in enumerate(frames) if frame.key_frame] == [0, 10, 20, 30, 40]
    assert clip.has_audio
    assert -40 < describe(clip)["loudness"] < -20


def test_source_without_sound(tmp_path):
    path = media.flash_and_click(tmp_path / "s.mp4", audio_codec=None)
    (clip,), _ = cut(path)
    with av.open(io.BytesIO(clip.members["mp4"])) as container:
        assert not container.streams.audio
    assert (clip.has_audio, describe(clip)["loudness"]) == (False, None)


def test_sound_that_ends_early(tmp_path):
    """A clip with no sound at all gets no silent track; one with some keeps it, silent where there is none."""
    path = media.flash_and_click(tmp_path / "s.mkv", seconds=4.0, audio_seconds=1.0, at=(0.4,))
    clips, _ = cut(path, BuildSettings(short_side=64, clip_seconds=2.0))
    assert [clip.has_audio for clip in clips] == [True, False]
    assert describe(clips[0])["sound_share"] == pytest.approx(0.5, abs=0.03)


def test_embedded_and_sidecar_subtitles_are_on_the_clock_of_the_clip(tmp_path):
    cues = [(0.5, 1.5, "hello"), (1.9, 2.5, "across"), (3.0, 3.4, "last")]
    (tmp_path / "side.srt").write_text(
        "\n\n".join(f"{i}\n00:00:0{a:.3f} --> 00:00:0{b:.3f}\n{t}" for i, (a, b, t) in enumerate(cues, 1))
    )
    embedded = media.flash_and_click(tmp_path / "e.mp4", seconds=4.0, subtitles=cues)
    late = media.flash_and_click(tmp_path / "l.mkv", seconds=4.0, subtitles=cues, start=2.0)
    beside = media.flash_and_click(tmp_path / "side.ts", seconds=4.0, start=2.0)
    for path, subtitles in ((embedded, None), (late, None), (beside, tmp_path / "side.srt")):
        clips, _ = cut(path, BuildSettings(short_side=64, clip_seconds=2.0), (Segment(subtitles=subtitles),))
        offset = describe(clips[0])["start"]
        assert clips[0].members["vtt"].decode().count("-->") == 2
        assert "across" in clips[1].members["vtt"].decode()
        context = describe(clips[1])["context"]
        assert [text for _, _, text in context] == ["hello", "across", "last"]
        begins = [begin for begin, _, _ in context]
        assert begins == pytest.approx([-1.5 - offset, -0.1 - offset, 1.0 - offset], abs=0.002)
        assert clips[1].n_sentences == 2


def test_subtitles_that_cannot_be_read_cost_the_subtitles_only(tmp_path):
    path = media.flash_and_click(tmp_path / "s.mp4", seconds=1.0)
    (tmp_path / "bad.srt").write_bytes(bytes(range(256)) * 8)
    clips, report = cut(path, SMALL, (Segment(subtitles=tmp_path / "bad.srt"),))
    assert len(clips) == 1
    assert [failure.cause for failure in report.failures] == ["subtitles"]


def test_truth_files(tmp_path):
    path = media.flash_and_click(tmp_path / "s.mp4", seconds=1.0)
    (tmp_path / "t.json").write_text('{"action": "roll"}')
    (tmp_path / "t.npz").write_bytes(b"arrays")
    for truth, expected, member in [
        ({"a": [1]}, {"a": [1]}, None),
        (tmp_path / "t.json", {"action": "roll"}, None),
        (tmp_path / "t.npz", {"member": "truth.npz"}, b"arrays"),
    ]:
        (clip,), _ = cut(path, SMALL, (Segment(truth=truth, extra={"note": 1}),))
        assert describe(clip)["truth"] == expected
        assert describe(clip)["extra"] == {"note": 1}
        assert clip.members.get("truth.npz") == member


def test_truncated_file_gives_what_it_has_and_says_so(tmp_path):
    whole = media.flash_and_click(tmp_path / "w.mkv", seconds=12.0, at=())
    path = media.truncated(tmp_path / "t.mkv", whole, keep=0.5)
    clips, report = cut(path, BuildSettings(short_side=64, clip_seconds=2.0))
    assert 2 <= len(clips) <= 4
    assert [failure.cause for failure in report.failures] == ["ends early"]


def test_damaged_windows_are_left_out(tmp_path):
    whole = media.numbered(tmp_path / "w.mp4", frames=300, fps=25, size=(64, 96), gop=25)
    path = media.damaged(tmp_path / "d.mp4", whole, 0.4, 0.5)
    clips, report = cut(path, BuildSettings(short_side=64, clip_seconds=2.0))
    assert 2 <= len(clips) < 6
    assert {failure.cause for failure in report.failures} == {"damaged"}
    for clip in clips:
        first = round(describe(clip)["start"] * 25)
        assert [media.number_of(p) for p in pictures(clip)] == [first + 2 * i for i in range(25)]


def unusable(tmp_path, kind):
    path = tmp_path / "x.mp4"
    if kind == "text":
        path.write_text("I am a text file " * 50)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "playlist":
        path.write_text("#EXTM3U\n#EXTINF:3,\nother.mp4\n")
    elif kind == "no end":
        media.truncated(path, media.flash_and_click(tmp_path / "w.mp4"), 0.6)
    elif kind == "sound only":
        media.flash_and_click(tmp_path / "w.mp4", seconds=1.0)
        with av.open(str(tmp_path / "w.mp4")) as source, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(source.streams.audio[0]):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("text", "not a known container"),
        ("playlist", "not a known container"),
        ("empty", "empty file"),
        ("no end", "unreadable"),
        ("sound only", "no video stream"),
        ("missing", "missing"),
    ],
)
def test_what_cannot_be_used_has_a_cause(tmp_path, kind, cause):
    with pytest.raises(MediaError) as error:
        cut(unusable(tmp_path, kind))
    assert error.value.cause == cause


def test_limits(tmp_path):
    path = media.flash_and_click(tmp_path / "s.mp4", seconds=4.0)
    for settings, cause in [
        (BuildSettings(max_pixels=1000), "picture too large"),
        (BuildSettings(max_hours=0.001), "too long"),
    ]:
        with pytest.raises(MediaError) as error:
            cut(path, settings)
        assert error.value.cause == cause


def test_metadata_that_is_not_utf8(tmp_path):
    path = media.flash_and_click(tmp_path / "s.mkv", seconds=1.0, metadata={"title": "Xberall"})
    data = path.read_bytes()
    assert data.count(b"Xberall") == 1
    path.write_bytes(data.replace(b"Xberall", b"\xdcberall"))
    assert len(cut(path)[0]) == 1
