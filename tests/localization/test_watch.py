"""Clips as browsers play them: in step with their sound, on one clock with the maps, the maps in register."""

from __future__ import annotations

import av
import numpy as np
import pytest

from mmssl.localization.draw import clip_of_file, draw_clip
from mmssl.localization.maps import ClipMaps
from mmssl.localization.movie import browser_media, frame_times, pictures, playable_suffix, sound_blocks, waveform
from mmssl.localization.overlay import Overlay
from mmssl.localization.watch import peak_track, seen_area
from mmssl.nn.encoders import Encoders
from tests import media
from tests.evaluation.oracle import planted_clip, planted_run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    run = planted_run(tmp_path_factory.mktemp("run"))
    return Encoders.from_pretrained(run), Encoders.load_head(run, "av_localization")


#: name of the file -> (options of `flash_and_click`, whether browsers play it as it is)
FILES = {
    "plain.mp4": ({"b_frames": 2}, True),
    "fragmented.mp4": ({"fragmented": True}, True),
    "variable.mp4": ({"variable_rate": True, "fps": 15}, True),
    "late_sound.mp4": ({"audio_start": 0.6}, True),
    "short_sound.mp4": ({"audio_seconds": 1.4}, True),
    "no_sound.mp4": ({"audio_codec": None}, True),
    "plain.webm": ({"video_codec": "libvpx", "audio_codec": "libopus", "audio_rate": 48000}, True),
    "offset.mp4": ({"start": 1.5}, False),
    "plain.mkv": ({"b_frames": 2}, False),
    "hole.mkv": ({"audio_codec": "pcm_s16le", "sound_gap": (0.4, 0.9)}, False),
    "transport.ts": ({"start": 1.4}, False),
    "odd_rate.avi": ({"video_codec": "mpeg4", "audio_codec": "pcm_s16le", "audio_rate": 11127, "fps": 10}, False),
    "surround.mkv": ({"channels": 6, "audio_rate": 48000, "variable_rate": True}, False),
    "old.mpg": ({"video_codec": "mpeg1video", "audio_codec": "mp2", "start": 0.5}, False),
}


@pytest.mark.parametrize("name", FILES)
def test_flash_and_click_stay_together_in_what_browsers_play(name, tmp_path):
    options, as_it_is = FILES[name]
    data = media.flash_and_click(tmp_path / name, at=(0.2, 1.2), seconds=2.0, **options).read_bytes()
    path = browser_media(data, tmp_path / "shown")
    found = media.measure(path)
    assert (path.read_bytes() == data) == as_it_is
    assert (playable_suffix(data) is not None) == as_it_is
    assert playable_suffix(path.read_bytes()) == path.suffix, "what was encoded is playable itself"
    assert found.flashes == pytest.approx((0.2, 1.2), abs=0.07), "on the clip's own clock"
    heard = [t for t in (0.2, 1.2) if t >= options.get("audio_start", 0.0) and options.get("audio_codec", "aac")]
    assert found.clicks == pytest.approx(heard, abs=0.03)
    np.testing.assert_allclose(frame_times(path.read_bytes()), found.frame_times, atol=2e-3)
    if heard:
        loud = np.flatnonzero(waveform(data, 2.0, 200) > 64) / 100
        assert {round(float(t), 1) for t in loud} <= {0.2, 1.2}


def test_the_overlay_keeps_the_sound_in_step_over_a_hole(tmp_path):
    path = media.flash_and_click(
        tmp_path / "hole.mkv", at=(0.2, 1.6), seconds=2.0, audio_codec="pcm_s16le", sound_gap=(0.4, 1.2)
    )
    maps = ClipMaps(np.array([0.0, 1.0]), np.zeros((2, 4, 4), np.float32), np.eye(2, 3), (64, 96), 2.0)
    Overlay(path.read_bytes(), maps).write_mp4(tmp_path / "over.mp4")
    found = media.measure(tmp_path / "over.mp4")
    assert found.clicks == pytest.approx((0.2, 1.6), abs=0.03)
    assert found.flashes == pytest.approx((0.2, 1.6), abs=0.07)


def test_sound_blocks_are_whole_and_counted_from_the_clock_s_zero(tmp_path):
    path = media.flash_and_click(tmp_path / "late.mp4", at=(1.2,), seconds=2.0, audio_start=0.6, audio_rate=16000)
    blocks = list(sound_blocks(path.read_bytes()))
    assert blocks[0][0] / 16000 == pytest.approx(0.6, abs=0.07)
    assert all(wave.shape == (1, 1024) for _, _, wave in blocks[:-1])
    assert [a[0] + 1024 for a in blocks[:-1]] == [b[0] for b in blocks[1:]]


@pytest.fixture
def out(tmp_path):
    """Where films are drawn into: not where they lie."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def planted_film(path, rotation=0, size=(48, 80), **options):
    """The red square of the planted world sounds, in the middle square of a wide upright picture."""
    height, width = size
    upright = np.full((height, width, 3), 110, np.uint8)
    left = (width - height) // 2
    upright[6:18, left + 28 : left + 40] = (230, 20, 20)
    upright[24:36, left + 4 : left + 16] = (20, 20, 230)
    coded = np.rot90(upright, rotation // 90)
    wave = (0.5 * np.sin(2 * np.pi * 400 * np.arange(32000) / 16000)).astype(np.float32)
    times = np.arange(20) / 10 + options.pop("start", 0.0)
    return media.write(
        path, times, [coded] * 20, wave, size=coded.shape[:2], fps=10, audio_rate=16000, rotation=rotation, **options
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wide.mp4", {}),
        ("turned90.mp4", {"rotation": 90}),
        ("turned180.mp4", {"rotation": 180}),
        ("turned270.mp4", {"rotation": 270}),
        ("tall.mkv", {"size": (48, 50)}),
        ("late.ts", {"start": 1.4, "audio_start": 1.4}),
    ],
)
def test_the_peak_lies_on_the_square_that_sounds(model, name, options, tmp_path, out):
    clip = clip_of_file(planted_film(tmp_path / name, **options))
    drawn = draw_clip(*model, clip, out, size=48, watch=True)
    seen = drawn.watched
    middle = len(seen.times) // 2
    x, y = seen.peaks[middle]
    frames = list(pictures(seen.media.read_bytes(), short_side=16))
    picture = frames[len(frames) // 2][1].astype(int)
    pixel = picture[int(y * picture.shape[0]), int(x * picture.shape[1])]
    assert pixel[0] > pixel[2] + 100, f"red is at the peak, not {pixel.tolist()}"
    x0, y0, x1, y1 = seen.area
    assert 0 <= x0 < x1 <= 1.001, seen.area
    assert (y0, y1) == pytest.approx((0, 1), abs=0.03)
    assert x1 - x0 == pytest.approx(48 / options.get("size", (48, 80))[1], abs=0.03)
    assert 0 <= seen.times[0] < 0.2
    assert seen.times[-1] < seen.duration <= 2.2
    hot = seen.heat[middle]
    assert hot.max() > 240


def test_the_npz_is_read_with_numpy_alone_and_says_all(model, tmp_path, out):
    drawn = draw_clip(*model, clip_of_file(planted_film(tmp_path / "wide.mp4")), out, size=48, rate=5, watch=True)
    with np.load(drawn.watched.npz, allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    assert str(stored["format"]) == "mmssl-maps-v1"
    assert (str(stored["key"]), str(stored["source"])) == ("wide", "wide.mp4")
    count = len(stored["times"])
    assert np.diff(stored["times"]) == pytest.approx(0.2)
    assert stored["maps"].shape == (count, 12, 12)
    assert stored["maps"].dtype == np.float32
    np.testing.assert_allclose(stored["confidence"], stored["maps"].max(axis=(1, 2)))
    np.testing.assert_allclose(stored["peaks"], drawn.watched.peaks)
    # From the source's pixels to the model's: the middle of the picture is the middle of what the model saw.
    np.testing.assert_allclose(stored["geometry"] @ [40, 24, 1], [24, 24], atol=0.6)
    assert stored["area"] == pytest.approx(drawn.watched.area)
    assert stored["size"].tolist() == [48, 48]
    assert sorted(p.name for p in out.iterdir()) == ["media", "wide.mp4", "wide.npz", "wide.png"]


def test_true_boxes_come_with_their_times(model, tmp_path):
    data, meta = planted_clip(0)
    from mmssl.clip import EncodedClip

    meta["truth"]["boxes"] = [box if n < 10 else None for n, box in enumerate(meta["truth"]["boxes"])]
    drawn = draw_clip(*model, EncodedClip("a", "a.mp4", data, meta=meta), tmp_path, size=48, watch=True)
    ((begin, end, boxes),) = drawn.watched.boxes
    assert (begin, end) == pytest.approx((0.0, 1.0), abs=0.11)
    assert boxes[0] == pytest.approx(meta["truth"]["boxes"][0])


def test_the_track_is_in_fractions_of_the_whole_picture():
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0, 0, 0] = 1.0
    wide = ClipMaps(np.arange(2.0), maps, np.array([[1.0, 0.0, -24.0], [0.0, 1.0, 0.0]]), (48, 48), 2.0)
    assert seen_area(wide) == pytest.approx((0.25, 0.0, 0.75, 1.0))
    track = peak_track(wide)
    assert track[0] == pytest.approx((0.25 + 0.5 * 0.0625, 0.0625), abs=0.08), "equal maxima reach to the border"
    assert track[1] == pytest.approx((0.5, 0.5)), "a constant map has its peak in the middle"


def test_sound_that_begins_after_the_first_stretch_is_heard(model, tmp_path, out, monkeypatch):
    monkeypatch.setattr("mmssl.localization.maps.ROWS", 2)
    clip = clip_of_file(planted_film(tmp_path / "late.mp4", audio_start=1.1))
    drawn = draw_clip(*model, clip, out, size=48, watch=True)
    assert drawn.watched.confidence[0] == 0, "nothing sounds yet"
    assert drawn.watched.confidence[-1] > 0


def test_a_stream_that_changes_its_size_keeps_that_of_its_first_frame(tmp_path):
    files = []
    for size in ((48, 64), (96, 128)):
        path = tmp_path / f"{size[0]}.ts"
        media.numbered(path, frames=10, size=size, fps=10)
        files.append(path.read_bytes())
    sizes = {picture.shape for _, picture in pictures(b"".join(files), short_side=16)}
    assert sizes == {(48, 64, 3)}
    with av.open(str(browser_media(b"".join(files), tmp_path / "out"))) as container:
        assert container.streams.video[0].codec_context.height == 48
