"""Films of any length: the maps of one whole pass, in bounded memory, of as much as can be read."""

from __future__ import annotations

import tracemalloc

import av
import numpy as np
import pytest
import torch

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.collate import collate_clips
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.errors import UserError
from mmssl.localization import film, maps, watch
from mmssl.localization.draw import clip_of_file, draw_clip
from mmssl.localization.maps import clip_maps, localization_maps, match_maps, sound_seconds
from mmssl.localization.store import MapStore, parts, value_range
from mmssl.nn.encoders import Encoders
from pipelines import localize
from tests import media
from tests.evaluation.oracle import planted_run

SIZE = 48


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return planted_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(run_folder):
    return Encoders.from_pretrained(run_folder), Encoders.load_head(run_folder, "av_localization")


def colourful(path, seconds=6.0, fps=10, size=(48, 80), until=None, **options):
    """A red square that wanders over grey, and a tone that rises from low to high: no two maps are equal."""
    times = media.frame_times(seconds, fps, options.pop("variable_rate", False))

    def pictures():
        for number in range(len(times)):
            picture = np.full((*size, 3), 110, np.uint8)
            left = 16 + (5 * number) % 36
            picture[8:20, left : left + 12] = (230, 20, 20)
            picture[28:40, 76 - left : 88 - left] = (20, 20, 230)
            yield picture

    rate = options.pop("audio_rate", 16000)
    clock = np.arange(round((until or seconds) * rate)) / rate
    wave = (0.5 * np.sin(2 * np.pi * (300 * clock + 1400 / seconds * clock**2))).astype(np.float32)
    if options.get("audio_codec", "aac") is None:
        wave = None
    return media.write(path, times, pictures(), wave, size=size, fps=fps, audio_rate=rate, **options)


def by_one_window(model, path, rate=4.0):
    """The maps by the decoder of the stream, which gets the whole film in one window."""
    encoders, head = model
    clip = EncodedClip("film", str(path), path.read_bytes())
    decoder = PyAVDecoder()
    duration, seconds = decoder.duration(clip), sound_seconds(head)
    picture = Span(duration, rate)
    window = Window(picture, Span(duration + seconds, 16000), size=(SIZE, SIZE))
    batch = collate_clips([decoder.decode(clip, window, np.array([duration / 2]))])
    times = batch.times(picture)
    times = times[:, times[0] < duration]
    return times[0].numpy(), localization_maps(encoders, head, batch, times)[0].numpy()


#: name of the film -> what is special about it
FILMS = {
    "plain.mp4": {"b_frames": 2},
    "fragmented.mp4": {"fragmented": True, "audio_rate": 44100},
    "variable.mp4": {"variable_rate": True, "audio_rate": 44100},
    "hole.mkv": {"audio_codec": "pcm_s16le", "sound_gap": (1.3, 3.4), "audio_rate": 22050},
    "late.mp4": {"audio_start": 2.6},
    "short.mp4": {"until": 2.5, "audio_rate": 48000},
    "transport.ts": {"start": 1.4, "audio_start": 1.4},
    "surround.mkv": {"channels": 6, "audio_rate": 48000},
    "turned.mp4": {"rotation": 90},
    "odd_rate.avi": {"video_codec": "mpeg4", "audio_codec": "pcm_s16le", "audio_rate": 11127},
}


@pytest.mark.parametrize("name", FILMS)
def test_stretches_give_the_maps_of_one_whole_pass(model, name, tmp_path, monkeypatch):
    options = dict(FILMS[name])
    options.pop("start", None)
    path = colourful(tmp_path / name, **options)
    times, wanted = by_one_window(model, path)
    whole = clip_maps(*model, clip_of_file(path), size=(SIZE, SIZE))
    np.testing.assert_array_equal(whole.times, times)
    np.testing.assert_array_equal(whole.maps, wanted)
    monkeypatch.setattr(maps, "ROWS", 5)
    parted = clip_maps(*model, clip_of_file(path), size=(SIZE, SIZE))
    np.testing.assert_array_equal(parted.times, times)
    np.testing.assert_allclose(parted.maps, wanted, atol=1e-5)
    assert len(np.unique(wanted.max(axis=(1, 2)).round(6))) > len(wanted) / 4, "the film is no still"
    assert (parted.faults, parted.duration) == ((), whole.duration)


def test_what_the_film_draws_does_not_depend_on_the_stretch(model, tmp_path, monkeypatch):
    path = colourful(tmp_path / "film.mp4", seconds=3.0, fps=5)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = draw_clip(*model, clip_of_file(path), tmp_path / "a", size=SIZE, watch=True)
    for module, name in ((maps, "ROWS"), (watch, "TOGETHER")):
        monkeypatch.setattr(module, name, 3)
    monkeypatch.setattr("mmssl.localization.store.PART_VALUES", 500)
    two = draw_clip(*model, clip_of_file(path), tmp_path / "b", size=SIZE, watch=True)
    np.testing.assert_allclose(one.watched.heat.astype(int), two.watched.heat.astype(int), atol=1)
    np.testing.assert_allclose(one.watched.range, two.watched.range, atol=1e-6)
    np.testing.assert_allclose(one.watched.confidence, two.watched.confidence, atol=1e-6)
    assert one.watched.notes == two.watched.notes == ()
    assert one.watched.media.read_bytes() == path.read_bytes()


class Measured:
    """What a film of some length takes: Python's and numpy's memory at most, rows encoded at once, frames alive."""

    def __init__(self, model, path, out, monkeypatch):
        rows, alive, most = [], [0], [0]

        def matched(encoders, head, frames, waves):
            rows.append(len(frames))
            return match_maps(encoders, head, frames, waves)

        def decoded(*args):
            for frame in real(*args):
                alive[0] += 1
                most[0] = max(most[0], alive[0])
                yield Counted(frame, alive)

        real = film.decoded
        monkeypatch.setattr(maps, "match_maps", matched)
        monkeypatch.setattr(film, "decoded", decoded)
        out.mkdir()
        tracemalloc.start()
        drawn = draw_clip(*model, clip_of_file(path), out, size=SIZE, watch=True)
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        monkeypatch.undo()
        self.rows, self.frames, self.maps = max(rows), most[0], len(drawn.watched.times)


class Counted:
    """A frame that says when it is gone."""

    def __init__(self, frame, alive):
        self._frame, self._alive = frame, alive

    def __getattr__(self, name):
        return getattr(self._frame, name)

    def __del__(self):
        self._alive[0] -= 1


def test_memory_does_not_grow_with_the_film(model, tmp_path, monkeypatch):
    monkeypatch.setattr("mmssl.localization.film.PictureFitter.fit", fitted_counted(film.PictureFitter.fit))
    found = []
    for seconds in (6, 24):
        path = colourful(tmp_path / f"{seconds}.mp4", seconds=float(seconds), fps=2)
        with monkeypatch.context() as patch:
            patch.setattr(maps, "ROWS", 8)
            found.append(Measured(model, path, tmp_path / str(seconds), patch))
    short, long = found
    assert long.maps == 4 * short.maps == 96
    assert short.rows == long.rows == 8
    assert short.frames == long.frames <= 4, "the one on screen, the next, and one of the sound"
    assert long.peak < short.peak + 100_000, "a few numbers a map; the film's pictures alone would be megabytes"
    assert not list((tmp_path / "24").glob(".*")), "nothing is left behind"


def fitted_counted(real):
    """`PictureFitter.fit` of the frame within a `Counted`."""
    return lambda self, frame: real(self, getattr(frame, "_frame", frame))


def test_a_film_whose_end_is_cut_off_is_drawn_as_far_as_it_goes(model, run_folder, tmp_path, capsys):
    source = colourful(tmp_path / "whole.mkv", seconds=8.0, fps=5)
    path = media.truncated(tmp_path / "cut.mkv", source, 0.6)
    results = localize.run(run_folder, tmp_path / "out", video=path, size=SIZE, device="cpu")
    ((cause,),) = [one["faults"] for one in results["drawn"]]
    assert cause.startswith("the file says that it lasts 8.0")
    assert "cut off" in cause
    assert cause in capsys.readouterr().out.replace("\n", " ")
    found = media.measure(tmp_path / "out" / "cut.mp4")
    with np.load(tmp_path / "out" / "cut.npz") as stored:
        times, drawn, duration = stored["times"], stored["maps"], float(stored["duration"])
    assert 3.0 < duration < 7.0
    assert found.frame_times[-1] == pytest.approx(duration, abs=0.3)
    assert times[-1] == pytest.approx(duration, abs=0.3)
    assert times[-1] < duration
    _, wanted = by_one_window(model, source)
    whole = int((times < duration - 0.5).sum())  # the last ones would have heard what is lost
    np.testing.assert_allclose(drawn[:whole], wanted[:whole], atol=1e-5)
    assert "it is cut off" in (tmp_path / "out" / "index.html").read_text()


def test_a_film_without_its_index_is_refused_with_the_cause(run_folder, tmp_path):
    path = media.truncated(tmp_path / "cut.mp4", colourful(tmp_path / "whole.mp4"), 0.6)
    with pytest.raises(UserError, match=r"nothing could be drawn \('cut': FFmpeg: Invalid data"):
        localize.run(run_folder, tmp_path / "out", video=path, device="cpu")


def test_a_film_with_damage_in_the_middle_goes_on_behind_it(model, tmp_path):
    source = colourful(tmp_path / "whole.mp4", seconds=8.0, fps=5, gop=5)
    path = media.damaged(tmp_path / "hurt.mp4", source, 0.45, 0.5)
    found = clip_maps(*model, clip_of_file(path), size=(SIZE, SIZE))
    assert len(found.times) == 32
    assert any("could not be decoded, the first at" in told for told in found.faults)
    _, wanted = by_one_window(model, source)
    np.testing.assert_allclose(found.maps[:8], wanted[:8], atol=1e-5)
    np.testing.assert_allclose(found.maps[-4:], wanted[-4:], atol=1e-3)
    (tmp_path / "out").mkdir()
    drawn = draw_clip(*model, clip_of_file(path), tmp_path / "out", size=SIZE)
    assert media.measure(drawn.mp4).frame_times[-1] == pytest.approx(7.8, abs=0.21)


def test_a_picture_that_ends_long_before_the_sound_is_told_of(model, tmp_path):
    path = colourful(tmp_path / "still.mkv", seconds=2.0, until=5.0, audio_codec="pcm_s16le")
    found = clip_maps(*model, clip_of_file(path), size=(SIZE, SIZE))
    assert found.duration == pytest.approx(5.0, abs=0.1)
    assert [told[:27] for told in found.faults] == ["the picture ends at 2.00 s,"]


def test_a_film_without_sound_or_without_picture_is_refused(model, tmp_path):
    silent = colourful(tmp_path / "silent.mp4", seconds=1.0, audio_codec=None)
    with pytest.raises(UserError, match="'silent' has no sound"):
        clip_maps(*model, clip_of_file(silent))
    path = tmp_path / "blind.mka"
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(UserError, match="'blind' has no picture"):
        clip_maps(*model, clip_of_file(path))
    with pytest.raises(UserError, match="cannot be read"):
        clip_of_file(tmp_path / "nowhere.mp4")


def test_a_page_that_cannot_hold_all_maps_keeps_the_hottest_and_says_so(model, tmp_path, monkeypatch):
    path = colourful(tmp_path / "film.mp4", fps=5)
    monkeypatch.setattr(watch, "HEAT_BYTES", 10 * 12 * 12)
    monkeypatch.setattr(watch, "FRAMES", 20)
    (tmp_path / "out").mkdir()
    seen = draw_clip(*model, clip_of_file(path), tmp_path / "out", size=SIZE, watch=True).watched
    with np.load(seen.npz) as stored:
        confidence, times = stored["confidence"], stored["times"]
    assert len(times) == 24
    assert len(seen.times) == len(seen.heat) == len(seen.peaks) == 8
    np.testing.assert_array_equal(seen.confidence, confidence.reshape(8, 3).max(axis=1))
    assert seen.heat.max() == 255, "the hottest moment of all is there"
    assert [note.split(":")[0] for note in seen.notes] == [
        "The page steps by 1/25 s", "The page holds 8 of 24 maps",
    ]  # fmt: skip
    assert len(seen.frames) == 0


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_the_range_of_all_maps_is_exact_though_found_in_parts(count, tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(count)
    values = torch.randn(count, 5, 3, generator=generator).numpy()
    values[:: count // 2 + 1] = np.float32(0.25)  # many equal ones
    store = MapStore(tmp_path)
    for begin in range(0, count, 3):
        store.append(values[begin : begin + 3])
    monkeypatch.setattr("mmssl.localization.store.PART_VALUES", 16)
    on_disk = store.array()
    np.testing.assert_array_equal(on_disk, values)
    assert sum(len(on_disk[part]) for part in parts(on_disk)) == count
    for found in (on_disk, -np.abs(values), np.zeros_like(values), values[:, :1, :1].copy(), 1e-40 * values):
        assert value_range(found) == (float(np.median(found)), float(found.max()))
    assert list(tmp_path.iterdir()) == []
