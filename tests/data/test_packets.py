"""Packet tables: what is decoded by one is what the demuxer gives, and one that does not hold costs nothing."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.decode import by_packets
from mmssl.data.decode.by_packets import OpenDecoders
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.media import MediaError
from mmssl.data.packets import DISPOSABLE, KEY, BadTable, PacketTable, StreamTable
from mmssl.data.packets_make import NoTable, checked_table, make_table
from tests import media

SIZE = (64, 96)
ZOO = {
    "plain": ("a.mp4", {"audio_codec": "aac", "audio_rate": 16000}),
    "b_frames": ("b.mp4", {"b_frames": 3, "gop": 25, "audio_codec": "aac"}),
    "variable_rate": ("c.mp4", {"variable_rate": True, "audio_codec": "aac", "audio_rate": 48000}),
    "fragmented": ("d.mp4", {"fragmented": True, "audio_codec": "aac"}),
    "late": ("e.mp4", {"start": 1.7, "audio_codec": "aac"}),
    "long_gop": ("f.mp4", {"gop": 250, "b_frames": 2}),
    "matroska": ("g.mkv", {"b_frames": 2, "audio_codec": "libopus", "audio_rate": 48000}),
    "webm": ("h.webm", {"video_codec": "libvpx", "audio_codec": "libopus", "audio_rate": 48000}),
    "six_channels": ("i.mp4", {"audio_codec": "aac", "channels": 6, "audio_rate": 48000}),
}


@pytest.fixture(scope="module", params=list(ZOO))
def clip(request, tmp_path_factory):
    name, options = ZOO[request.param]
    path = media.flash_and_click(tmp_path_factory.mktemp("zoo") / name, seconds=4.0, at=(1.0, 2.5), **options)
    return path.read_bytes()


def decode(data: bytes, table: bytes | None, window: Window, *anchors: float, pixels="rgb", only_table=False):
    encoded = EncodedClip("clip", "test", data, packets=table)
    return PyAVDecoder(pixels).decode(encoded, window, np.array(anchors), only_table=only_table)


def onset(sound: np.ndarray) -> int:
    return int(np.flatnonzero(np.abs(sound) > 0.2)[0])


def same(a, b) -> None:
    assert np.array_equal(a.frames, b.frames)
    assert np.array_equal(a.frame_times, b.frame_times)
    assert (a.has_picture, a.has_audio, a.duration) == (b.has_picture, b.has_audio, b.duration)
    assert np.array_equal(a.geometry, b.geometry)


@pytest.mark.parametrize("pixels", ["rgb", "yuv"])
def test_the_table_gives_the_pictures_of_the_demuxer(clip, pixels):
    table = checked_table(clip)
    window = Window(Span(1.1, 7.3), size=SIZE)
    # several views, the second before the first, and past both ends
    for anchors in ((2.0,), (3.9, 0.4), (0.0, 4.2, 1.3)):
        by_table = decode(clip, table, window, *anchors, pixels=pixels, only_table=True)
        by_demuxer = decode(clip, None, window, *anchors, pixels=pixels)
        same(by_table, by_demuxer)
        assert by_table.colour == by_demuxer.colour
        assert by_table.decoder_calls == 1


def test_the_table_gives_the_sound_of_the_demuxer(clip):
    table = make_table(clip)
    assert table.audio is not None
    window = Window(sound=Span(table.duration, table.audio.facts["rate"]))
    by_table = decode(clip, checked_table(clip), window, 2.0, only_table=True)
    by_demuxer = decode(clip, None, window, 2.0)
    assert np.array_equal(by_table.audio, by_demuxer.audio)
    assert np.abs(by_table.audio).max() > 0.1
    # Resampled, from the middle: the click is where it was.
    window = Window(sound=Span(1.0, 16000))
    by_table, by_demuxer = (decode(clip, t, window, 2.5).audio[0] for t in (checked_table(clip), None))
    assert abs(onset(by_table) - onset(by_demuxer)) <= 16  # Matroska has milliseconds


def test_the_bytes_of_a_table_say_what_it_says(clip):
    table = make_table(clip)
    read = PacketTable.from_bytes(table.to_bytes(), len(clip))
    for a, b in ((table.video, read.video), (table.audio, read.audio)):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.codec, a.extradata, a.time_base, a.facts) == (b.codec, b.extradata, b.time_base, b.facts)
            for name in ("offset", "size", "pts", "flags"):
                assert np.array_equal(getattr(a, name), getattr(b, name))
    assert (read.zero, read.duration) == (table.zero, table.duration)


def test_packets_lie_where_the_table_says(clip):
    table = make_table(clip)
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        packets = [bytes(p) for p in container.demux(stream) if p.size]
    held = [clip[at : at + n] for at, n in zip(table.video.offset, table.video.size, strict=True)]
    assert held == packets


def test_pictures_that_nobody_needs_are_not_decoded(tmp_path):
    data = media.numbered(tmp_path / "a.mp4", frames=100, fps=25.0, gop=50, b_frames=3, size=SIZE).read_bytes()
    table = make_table(data)
    assert (table.video.flags & DISPOSABLE).any()
    assert table.video.flags[0] & KEY
    window = Window(Span(0.04, 25.0), size=SIZE)
    by_table = decode(data, table.to_bytes(), window, 1.9, only_table=True)
    same(by_table, decode(data, None, window, 1.9))
    shown_until = int((table.video.pts <= 1.9 / table.video.time_base[0] * table.video.time_base[1]).sum())
    assert by_table.decoded_pictures < 0.75 * shown_until


@settings(max_examples=60, deadline=None)
@given(where=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.one_of(st.none(), st.integers(0, 10**6)))
def test_a_damaged_table_is_refused_or_the_demuxer_steps_in(small, where, value, cut):
    data, table = small
    spoilt = bytearray(table)
    spoilt[where % len(table)] = value
    spoilt = bytes(spoilt[: len(table) if cut is None else cut % (len(table) + 1)])
    clip = decode(data, spoilt, Window(Span(0.5, 5.0), size=(32, 48)), 0.5)
    assert clip.frames.shape == (1, 2, 3, 32, 48)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "a.mp4"
    data = media.numbered(path, frames=25, fps=25.0, size=(32, 80), audio_codec="aac").read_bytes()
    return data, checked_table(data)


def test_a_table_of_other_media_is_not_used(small, tmp_path):
    data, table = small
    with pytest.raises(BadTable, match="the table is of"):
        PacketTable.from_bytes(table, len(data) - 1)
    other = media.numbered(tmp_path / "b.mp4", frames=50, fps=25.0, size=(32, 80)).read_bytes()
    window = Window(Span(0.5, 5.0), size=(32, 80))
    found = decode(other, table, window, 0.5)
    same(found, decode(other, None, window, 0.5))
    assert found.fallback == "pyav: packet table", "said and counted, not silent"
    assert decode(data, table, window, 0.5).fallback == ""


def test_packets_of_garbage_fall_back_to_the_demuxer_and_leave_the_decoder_fit(small):
    data, table = small
    decoder, window, anchors = PyAVDecoder(), Window(Span(0.5, 5.0), size=(32, 80)), np.array([0.5])
    made = PacketTable.from_bytes(table, len(data))
    wrong = replace(made, video=replace(made.video, offset=made.video.offset[::-1].copy(), size=made.video.size[::-1]))
    expected = decoder.decode(EncodedClip("a", "", data, packets=table), window, anchors)
    found = decoder.decode(EncodedClip("a", "", data, packets=wrong.to_bytes()), window, anchors)
    assert found.has_picture
    again = decoder.decode(EncodedClip("a", "", data, packets=table), window, anchors)
    same(again, expected)


@pytest.fixture(scope="module")
def sounding(tmp_path_factory):
    path = tmp_path_factory.mktemp("sounding") / "a.mp4"
    return media.flash_and_click(path, seconds=4.0, at=(1.0, 2.5), audio_codec="aac", audio_rate=16000).read_bytes()


@pytest.mark.parametrize("packet", [3, 32, 40])
def test_sound_packets_handed_over_as_one_are_decoded_as_if_one_by_one(sounding, monkeypatch, packet):
    """Whole, and with a packet in their midst that the decoder refuses: those around it are what they were."""
    table = make_table(sounding)
    window = Window(sound=Span(4.0, table.audio.facts["rate"]))
    whole, damaged = table.to_bytes(), bytearray(sounding)
    at, size = int(table.audio.offset[packet]), int(table.audio.size[packet])
    damaged[at : at + size] = b"\xff" * size
    found = {}
    for joined in (("aac",), ()):
        monkeypatch.setattr("mmssl.data.decode.by_packets._TELLS_THE_END", joined)
        found[joined] = decode(sounding, whole, window, 2.0, only_table=True).audio
        with pytest.raises(av.FFmpegError):
            decode(bytes(damaged), whole, window, 2.0, only_table=True)
        assert np.array_equal(decode(sounding, whole, window, 2.0, only_table=True).audio, found[joined])
    assert np.array_equal(found[("aac",)], found[()])
    assert np.abs(found[()]).max() > 0.1


def test_a_decoder_that_gives_less_than_a_frame_for_each_packet_is_asked_one_by_one(sounding, monkeypatch):
    """A codec without ends (a part of the packets comes back) is noticed, and the decoder settled again."""
    table = make_table(sounding)
    window = Window(sound=Span(2.0, table.audio.facts["rate"]))
    right = decode(sounding, table.to_bytes(), window, 2.0, only_table=True).audio
    asked = []

    def fewer(decode, media, stream, numbers):
        asked.append(numbers)
        return by_packets_joined(decode, media, stream, numbers)[: len(numbers) - (len(asked) == 2)]

    by_packets_joined = by_packets._joined
    monkeypatch.setattr("mmssl.data.decode.by_packets._joined", fewer)
    assert np.array_equal(decode(sounding, table.to_bytes(), window, 2.0, only_table=True).audio, right)
    assert len(asked) == 2


@pytest.mark.parametrize("held", [1, SIZE[0] * SIZE[1] * 5, 1 << 30])
def test_pictures_are_the_same_however_many_wait(clip, monkeypatch, held):
    window = Window(Span(3.0, 7.0), size=SIZE, motion=True)
    table = make_table(clip).to_bytes()
    right = decode(clip, table, window, 2.0, 0.7, only_table=True)
    monkeypatch.setattr("mmssl.data.decode.fitting.HELD", held)
    found = decode(clip, table, window, 2.0, 0.7, only_table=True)
    same(found, right)
    assert found.decoded_pictures == right.decoded_pictures
    assert np.array_equal(found.motion, right.motion)


def test_a_join_that_fails_leaves_no_decoder_behind_that_garbage_has_set(sounding, monkeypatch):
    """A flush does not undo the channels that garbage has named: what follows is decoded by a new one."""
    table = make_table(sounding)
    window = Window(sound=Span(2.0, table.audio.facts["rate"]))
    asked = []
    original = OpenDecoders.of

    def of(self, stream, fresh=False, motion=False):
        asked.append(fresh)
        return original(self, stream, fresh, motion)

    monkeypatch.setattr(OpenDecoders, "of", of)
    monkeypatch.setattr("mmssl.data.decode.by_packets._joined", lambda *_: [])
    decode(sounding, table.to_bytes(), window, 2.0, only_table=True)
    assert asked[-1] is True


@pytest.mark.parametrize(
    ("stream", "codec"), [("audio", "h264"), ("audio", "subrip"), ("video", "ass"), ("video", "aac")]
)
def test_a_table_that_names_a_decoder_of_another_kind_costs_nothing(sounding, stream, codec):
    made = make_table(sounding)
    lying = replace(made, **{stream: replace(getattr(made, stream), codec=codec)}).to_bytes()
    window = Window(Span(0.5, 8.0), sound=Span(0.5, 16000), size=SIZE)
    found = decode(sounding, lying, window, 1.0)
    same(found, decode(sounding, None, window, 1.0))
    assert found.fallback
    with pytest.raises(MediaError, match="is no decoder of"):
        decode(sounding, lying, window, 1.0, only_table=True)


def test_packets_that_lie_over_one_another_are_refused(sounding):
    made = make_table(sounding)
    whole = replace(made.audio, offset=0 * made.audio.offset, size=0 * made.audio.size + len(sounding))
    with pytest.raises(BadTable, match="over another"):
        PacketTable.from_bytes(replace(made, audio=whole).to_bytes(), len(sounding))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_pictures_that_lead_to_a_wanted_key_frame_have_their_references(tmp_path, codec):
    """Open groups of pictures: they come after the key frame in the file and lean on the group before it."""
    path = media.numbered(tmp_path / "a.mkv", frames=60, gop=6, b_frames=2, size=SIZE, video_codec=codec, open_gop=True)
    data = path.read_bytes()
    table = checked_table(data)
    leading = np.diff(PacketTable.from_bytes(table, len(data)).video.pts.astype(int)) < 0
    assert leading.any()
    for anchor in np.arange(0.3, 2.2, 0.1):
        window = Window(Span(0.4, 12.5), size=SIZE)
        same(decode(data, table, window, anchor, only_table=True), decode(data, None, window, anchor))


def test_motion_of_the_last_picture_is_known_by_table_too(tmp_path):
    """MPEG-4's decoder hands pictures that are drained on without their vectors."""
    data = media.numbered(tmp_path / "a.mp4", frames=75, b_frames=2, size=SIZE, video_codec="mpeg4").read_bytes()
    table = checked_table(data)
    for anchor in np.arange(0.3, 2.7, 0.2):
        window = Window(Span(0.5, 8.0), size=SIZE, motion=True)
        by_table, by_demuxer = (decode(data, t, window, anchor) for t in (table, None))
        assert np.array_equal(by_table.motion_known, by_demuxer.motion_known)
        assert np.array_equal(by_table.motion, by_demuxer.motion)
    assert by_table.motion_known.any()


def test_pictures_that_wait_are_counted_where_decoding_breaks_off(sounding, monkeypatch):
    table = make_table(sounding)
    lying = table.video.offset.copy()
    lying[40] = 0  # no picture lies there: the demuxer decodes all again
    table, counts = replace(table, video=replace(table.video, offset=lying)), []
    for held in (1, 1 << 30):
        monkeypatch.setattr("mmssl.data.decode.fitting.HELD", held)
        window = Window(Span(3.0, 25.0), size=SIZE)
        found = decode(sounding, table.to_bytes(), window, 2.0)
        assert found.fallback
        counts.append(found.decoded_pictures)
    assert counts[0] == counts[1] > decode(sounding, None, window, 2.0).decoded_pictures + 20


def test_how_many_pictures_wait_follows_their_size():
    """A film may grow: what small pictures may wait for is too much of large ones."""
    log = []

    class Fitter:
        def holds(self, frame):
            return max(400 // (frame.width * frame.height), 1)

    class Shown:
        fitter, motion, decoded = Fitter(), None, 0
        wanted = np.arange(8) / 10

        def see(self, frame, time):
            raise AssertionError

        def show(self, frame, places, began, since):
            log.append((len(waiting), frame.pts))

    sizes = [10, 10, 10, 10, 20, 20, 20, 20]
    waiting: list[int] = []

    class Decoder:
        def decode(self, packet):
            waiting.append(packet.pts)
            return [SimpleNamespace(pts=packet.pts, width=sizes[packet.pts], height=sizes[packet.pts])]

    places = np.arange(8)
    stream = StreamTable("x", b"", (1, 10), places * 4, places * 0 + 4, places, (places == 0).astype(np.uint8))
    by_packets.read_pictures(Decoder(), memoryview(bytes(32)), stream, 0.0, Shown())
    # Four of 100 pixels wait for one another, those of 400 for none.
    assert log == [(4, 0), (4, 1), (4, 2), (4, 3), (5, 4), (6, 5), (7, 6), (8, 7)]


def test_a_decoder_kept_open_carries_nothing_from_clip_to_clip(tmp_path):
    window = Window(Span(1.0, 10.0), sound=Span(1.0, 44100), size=SIZE)
    datas = [
        media.flash_and_click(tmp_path / f"{n}.mp4", seconds=2.0, at=(0.3 + n / 5,), seed=n).read_bytes()
        for n in range(3)
    ]
    clips = [EncodedClip(str(n), "", data, packets=checked_table(data)) for n, data in enumerate(datas)]
    kept = PyAVDecoder()
    for clip in (*clips, *reversed(clips)):
        a, b = (d.decode(clip, window, np.array([0.5]), only_table=True) for d in (kept, PyAVDecoder()))
        same(a, b)
        assert onset(a.audio[0]) == onset(b.audio[0])


def test_a_window_without_pictures_has_nothing_of_the_one_before(small):
    data, table = small
    decoder, clip, anchors = PyAVDecoder(), EncodedClip("a", "", data, packets=table), np.array([0.5])
    assert not np.array_equal(
        decoder.decode(clip, Window(Span(0.5, 5.0), size=(16, 40)), anchors).geometry, np.eye(2, 3)
    )
    heard = decoder.decode(clip, Window(sound=Span(0.5, 8000), size=(16, 40)), anchors)
    assert np.array_equal(heard.geometry, np.eye(2, 3))


@pytest.mark.parametrize("skip", [[0, -5, 0], [0, 0, -5], [-1, 0, 0]])
def test_a_table_that_skips_less_than_nothing_is_refused(small, skip):
    data, table = small
    made = PacketTable.from_bytes(table, len(data))
    lying = replace(made, audio=replace(made.audio, facts={**made.audio.facts, "skips": [skip]}))
    with pytest.raises(BadTable, match="facts of the audio"):
        PacketTable.from_bytes(lying.to_bytes(), len(data))


def test_a_table_that_skips_more_than_there_is_loses_only_that(small):
    data, table = small
    made = PacketTable.from_bytes(table, len(data))
    lying = replace(made, audio=replace(made.audio, facts={**made.audio.facts, "skips": [[3, 0, 10**6]]}))
    window = Window(sound=Span(0.5, made.audio.facts["rate"]), size=(32, 80))
    true, found = (decode(data, t, window, 0.25).audio[0] for t in (table, lying.to_bytes()))
    gone = found != true
    assert 0 < gone.sum() <= 1024
    assert not found[gone].any()


def test_decoders_kept_open_are_few(small):
    data, table = small
    made = PacketTable.from_bytes(table, len(data))
    decoders = OpenDecoders()
    for number in range(20):
        decoders.of(replace(made.audio, facts={**made.audio.facts, "rate": 8000 + number}))
    assert len(decoders._open) <= 8


def test_what_no_table_can_describe_is_named(tmp_path):
    stream = media.numbered(tmp_path / "a.ts", frames=50, fps=25.0, size=SIZE).read_bytes()
    with pytest.raises(NoTable, match="do not lie in the file"):
        checked_table(stream)


def test_a_built_shard_has_tables_and_says_why_not(tmp_path):
    from mmssl.data.shards import BuildSettings, build
    from mmssl.data.shards.index import read_index, read_members

    (tmp_path / "videos").mkdir()
    media.flash_and_click(tmp_path / "videos" / "a.mp4", seconds=4.0)
    summary = build(tmp_path / "videos", tmp_path / "shards", BuildSettings(clip_seconds=2.0, processes=1))
    entries = read_index(summary.shards[0]).samples
    assert len(entries) == 2
    for entry in entries:
        members = read_members(summary.shards[0], entry)
        assert "demux" not in json.loads(members["json"])
        table = PacketTable.from_bytes(members["pkt"], len(members["mp4"]))
        assert table.video is not None
        assert table.audio is not None


@pytest.mark.parametrize("with_table", [True, False])
def test_planes_are_those_of_the_codec(clip, with_table):
    """Luma and chroma come through untouched where nothing is scaled."""
    window = Window(Span(1.0, 5.0), size=SIZE)
    found = decode(clip, checked_table(clip) if with_table else None, window, 2.0, pixels="yuv")
    with av.open(io.BytesIO(clip)) as container:
        zero = max((container.start_time or 0) / av.time_base, 0.0)
        frames = {round(f.time - zero, 6): f for f in container.decode(video=0)}
        for planes, began in zip(found.frames[0], found.frame_times[0], strict=True):
            frame = frames[round(began, 6)]
            assert frame.format.name == "yuv420p"
            height, width = SIZE
            expected = [
                np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: height // part, : width // part].ravel()
                for plane, part in zip(frame.planes, (1, 2, 2), strict=True)
            ]
            assert np.array_equal(planes.ravel(), np.concatenate(expected))
