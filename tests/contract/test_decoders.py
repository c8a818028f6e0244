"""Every decoder on every kind of medium, against what the media say of themselves (`tests/media_zoo.py`).

Whether the right frame is shown, and when the sound sounds, is told from the frames' bar codes and the sweep's pitch
alone. Only the last decimals of colour are compared with the PyAV decoder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mmssl.clip import Clip, EncodedClip, Span, Window
from mmssl.data.decode.base import Decoder
from mmssl.data.decode.external import ExternalDecoder, self_contained
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.media import MediaError
from tests import media, media_zoo
from tests.contract.ways import WAYS, decoder_of
from tests.media_zoo import MEDIA, Written

RATE = 16000
PICTURE, SOUND = Span(0.8, 7.3), Span(0.8, RATE)
SHARES = (0.8, 0.15, 0.5)  # of the duration: where the views lie; the second and third lie before the first
LEVELS = 3  # between two conversions to RGB at the source's size, for all but one value in 1,000
LEVELS_SCALED = 10  # swscale scales YUV on a fast path that is up to 6 levels off; another library's RGB is scaled here
COLOUR = 4.0  # levels between the mean colours of a tenth of the picture and the truth, codec and all
# Neither torchcodec nor decord may need PyAV for the pictures of these.
PLAIN = (
    "mp4",
    "fragmented mp4",
    "mkv",
    "webm, VP9 and Opus",
    "HEVC",
    "variable frame rate in mp4",
    "B-frames in mp4",
    "one group of 260 pictures",
    "picture begins later",
    "begins at 3.2 s in mkv",
    "turned by 90",
    "pixels of 4:3",
    "BT.709, full range",
)
PLAIN_TO_TORCHCODEC = (
    "mpeg transport stream",
    "avi, MPEG-4 and PCM",
    "HEVC of 10 bits, BT.709, B-frames",
    "AV1 in mp4",
    "open groups of pictures",
    "begins before zero, B-frames",
)
# What decord cannot do. A newer one that can is worth knowing of.
BEYOND_DECORD = (
    "AV1 in mp4",
    "begins before zero",
    "open groups of pictures",
    "webm, VP8 with a hidden frame",
    "mpeg transport stream",
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Callable[[str], Written]:
    """Media by name, each encoded once."""

    @cache
    def written(name: str) -> Written:
        return media_zoo.write(MEDIA[name], tmp_path_factory.mktemp("medium"))

    return written


def test_an_encoder_leaves_the_scheduling_of_the_tests_alone(tmp_path):
    before = os.sched_getscheduler(0)
    media_zoo.write(MEDIA["AV1 in mp4"], tmp_path)
    assert os.sched_getscheduler(0) == before


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.fixture(params=MEDIA)
def medium(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def decoded(zoo) -> Callable[..., Clip]:
    """A medium decoded in one way, each once: three views of 0.8 s, at the source's own size unless told otherwise."""

    @cache
    def clip(way_name: str, name: str, size: tuple[int, int] | None = None) -> Clip:
        way = WAYS[way_name]
        decoder = decoder_of(way)
        encoded = way.prepare(EncodedClip("clip", "test", zoo(name).data))
        window = Window(PICTURE, SOUND, size=size or MEDIA[name].shown_size, views=len(SHARES))
        duration = decoder.duration(encoded)
        return decoder.decode(encoded, window, np.array(SHARES) * duration)

    return lambda way, name, size=None: clip(next(k for k, w in WAYS.items() if w is way), name, size)


def as_coded(clip: Clip, written: Written, view: int) -> list[np.ndarray]:
    """The [h, w, 3] pictures of a view, turned back."""
    return [np.rot90(frame.transpose(1, 2, 0), written.medium.turns) for frame in clip.frames[view]]


def test_the_frame_on_screen_is_shown_with_its_time_and_colours(zoo, decoded, way, medium):
    written, clip = zoo(medium), decoded(way, medium)
    assert clip.has_picture == bool(written.medium.frames)
    if not clip.has_picture:
        assert not clip.frames.any()
        return
    for view in range(len(SHARES)):
        expected = [written.number_at(time) for time in clip.wanted_times[view]]
        pictures = as_coded(clip, written, view)
        assert [media_zoo.number_of(picture) for picture in pictures] == expected
        np.testing.assert_allclose(clip.frame_times[view], written.times[expected], atol=1e-6)
        assert max(media_zoo.colour_error(picture) for picture in pictures) < COLOUR
    assert len({media_zoo.number_of(p) for view in range(len(SHARES)) for p in as_coded(clip, written, view)}) > 6


def test_the_sound_is_where_its_time_stamps_say(zoo, decoded, way, medium):
    written, clip = zoo(medium), decoded(way, medium)
    assert clip.has_audio == bool(written.medium.audio)
    if not clip.has_audio:
        assert not clip.audio.any()
        return
    begin, end = written.sound_span
    heard = 0
    for view in range(len(SHARES)):
        times = clip.audio_start[view] + np.arange(clip.audio.shape[1]) / RATE
        sound, true = clip.audio[view].astype(np.float64), written.sound_at(times)
        inside = (times > begin + 0.1) & (times < end - 0.1)
        if gap := written.medium.gap:
            silent = (times > gap[0] + 0.1) & (times < gap[1] - 0.1)
            assert not sound[silent].any()
            inside &= (times < gap[0] - 0.1) | (times > gap[1] + 0.1)
        before = times < begin - 0.1
        assert np.abs(sound[before]).max(initial=0) < 0.02
        if inside.sum() < RATE // 10:
            continue
        heard += 1
        lags = np.arange(-RATE // 50, RATE // 50 + 1)
        lag = max(lags, key=lambda lag: float(np.roll(sound, -lag)[inside] @ true[inside]))
        assert abs(lag) / RATE <= 0.001
        error = np.roll(sound, -lag)[inside] - true[inside]
        assert 10 * np.log10((true[inside] ** 2).mean() / (error**2).mean()) > written.medium.snr
    assert heard >= 2


def test_the_duration_is_that_of_the_picture_or_else_of_the_sound(zoo, way, medium):
    written = zoo(medium)
    found = decoder_of(way).duration(way.prepare(EncodedClip("clip", "test", written.data)))
    assert found == pytest.approx(written.duration, abs=written.medium.duration_within)


def test_colours_are_those_of_the_pyav_decoder(decoded, way, medium):
    clip, reference = decoded(way, medium), decoded(WAYS["pyav"], medium)
    difference = np.abs(clip.frames.astype(int) - reference.frames)
    assert np.quantile(difference, 0.999) <= (LEVELS if MEDIA[medium].aspect == 1 else LEVELS_SCALED)
    np.testing.assert_allclose(clip.geometry, reference.geometry)
    np.testing.assert_array_equal(clip.wanted_times, reference.wanted_times)


@pytest.mark.parametrize("name", ["mp4", "turned by 90", "pixels of 8:9, turned by 90", "odd size in VP9", "BT.709"])
@pytest.mark.parametrize("size", [(48, 48), (100, 150)], ids=["smaller", "larger"])
def test_another_size_covers_the_window(zoo, decoded, way, name, size):
    clip, reference = decoded(way, name, size), decoded(WAYS["pyav"], name, size)
    assert clip.frames.shape[-2:] == size
    np.testing.assert_allclose(clip.geometry, reference.geometry)
    assert np.quantile(np.abs(clip.frames.astype(int) - reference.frames), 0.999) <= LEVELS_SCALED
    # The geometry is true: where the lower half's first colours lie in the source, they lie in the frame.
    written = zoo(name)
    height, width = written.medium.size
    places = np.array([(x, y, 1.0) for x in (0.3 * width, 0.5 * width, 0.7 * width) for y in (0.7 * height,)])
    for x, y, _ in places:
        u, v = clip.geometry @ (x, y, 1.0)
        if not (2 <= u < size[1] - 2 and 2 <= v < size[0] - 2):
            continue
        true = [np.interp(x / width, (0, 0.5, 1), media_zoo.COLOURS[:, channel]) for channel in range(3)]
        assert np.abs(clip.frames[0, 0, :, int(v), int(u)] - true).max() < 12


@pytest.mark.parametrize("name", ["mp4", "B-frames in mkv", "one group of 260 pictures", "fragmented mp4"])
def test_a_view_is_the_same_alone_and_after_a_later_one(zoo, decoded, way, name):
    together = decoded(way, name)
    decoder = decoder_of(way)
    encoded = way.prepare(EncodedClip("clip", "test", zoo(name).data))
    window = Window(PICTURE, SOUND, size=MEDIA[name].shown_size)
    for view, anchor in enumerate(together.anchors):
        alone = decoder.decode(encoded, window, np.array([anchor]))
        np.testing.assert_array_equal(alone.frames[0], together.frames[view])
        # AAC fills noise bands from a generator whose state depends on where decoding began.
        np.testing.assert_allclose(alone.audio[0], together.audio[view], atol=0.02)


@pytest.mark.parametrize("name", ["mp4", "webm, VP9 and Opus", "variable frame rate in mkv, B-frames"])
def test_past_the_end_the_last_frame_stays_and_the_sound_is_silent(zoo, way, name):
    written = zoo(name)
    longer = written.duration + 1.0
    encoded = way.prepare(EncodedClip("clip", "test", written.data, meta={"duration": longer}))
    window = Window(Span(1.6, 10.0), Span(1.6, RATE), size=MEDIA[name].shown_size)
    clip = decoder_of(way).decode(encoded, window, np.array([longer]))
    numbers = [media_zoo.number_of(picture) for picture in as_coded(clip, written, 0)]
    assert numbers == [written.number_at(time) for time in clip.wanted_times[0]]
    assert numbers[-9:] == [MEDIA[name].frames - 1] * 9
    times = clip.audio_start[0] + np.arange(clip.audio.shape[1]) / RATE
    assert not clip.audio[0][times > written.sound_span[1] + 0.1].any()
    assert np.abs(clip.audio[0]).max() > 0.2


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_are_decoded_by_the_library_itself(decoded, way, name):
    assert decoded(way, name).fallback == ""


@pytest.mark.parametrize("name", PLAIN_TO_TORCHCODEC)
def test_torchcodec_decodes_these_too(decoded, name):
    assert decoded(WAYS["torchcodec"], name).fallback == ""


@pytest.mark.parametrize("name", BEYOND_DECORD)
def test_what_decord_cannot_do_is_left_to_pyav_and_said(zoo, name):
    decoder = decoder_of(WAYS["decord"])
    assert isinstance(decoder, ExternalDecoder)
    clip = decoder.decode(EncodedClip("clip", "test", zoo(name).data), Window(PICTURE, size=(64, 96)), np.array([1.0]))
    assert clip.fallback.startswith("decord: ")
    assert decoder.fallbacks == {clip.fallback.removeprefix("decord: "): 1}


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty file"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not a known container"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a known container"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(100), "unreadable"),
    ],
)
def test_what_is_no_video_is_refused_with_a_cause(way, data, cause):
    with pytest.raises(MediaError) as caught:
        decoder_of(way).decode(EncodedClip("clip", "test", data), Window(Span(1, 4)), np.array([0.5]))
    assert caught.value.cause == cause


def test_no_playlist_reaches_another_library(zoo):
    """Its FFmpeg would follow it; so what is handed on must begin as a container that refers to nothing."""
    for name, medium in MEDIA.items():
        assert self_contained(zoo(name).data) == (medium.suffix != ".ts" or zoo(name).data[188] == 0x47)
    for data in (
        b"",
        b"#EXTM3U\n",
        b"#EXTM3U\n" + bytes(400),
        b"ffconcat version 1.0",
        b"<?xml",
        b"v=0\r\n",
        b"G" * 100,
    ):
        assert not self_contained(data)


def clip_or_cause(decoder: Decoder, encoded: EncodedClip, window: Window) -> tuple[Clip | None, str]:
    try:
        return decoder.decode(encoded, window, np.array([1.2])), ""
    except MediaError as error:
        return None, error.cause


def test_damaged_files_fail_with_a_cause_or_give_what_the_pyav_decoder_gives(tmp_path, zoo, way):
    decoder, reference = decoder_of(way), PyAVDecoder()
    window = Window(Span(2.0, 8.0), size=(64, 96))
    whole = 0
    for name in ("mp4", "B-frames in mkv", "webm, VP9 and Opus"):
        source = tmp_path / "source"
        source.write_bytes(zoo(name).data)
        for keep in (0.3, 0.6, 0.9):
            for path in (
                media.truncated(tmp_path / "truncated", source, keep),
                media.damaged(tmp_path / "damaged", source, keep - 0.02, keep),
            ):
                encoded = EncodedClip("clip", "test", Path(path).read_bytes(), meta={"duration": 2.4})
                expected, _ = clip_or_cause(reference, encoded, window)
                clip, its_cause = clip_or_cause(decoder, way.prepare(encoded), window)
                if clip is None:
                    assert its_cause
                    continue
                assert expected is not None
                whole += 1
                np.testing.assert_allclose(clip.frame_times, expected.frame_times, atol=1e-6)
                # Two versions of FFmpeg hide damage each in its own way: no colours are compared.
    assert whole >= 4
