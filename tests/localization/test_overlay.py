import av
import numpy as np
import pytest
from PIL import Image

from mmssl.errors import UserError
from mmssl.localization.draw import clip_of_file, clips_of, draw_clip
from mmssl.localization.maps import ClipMaps, clip_maps
from mmssl.localization.overlay import Overlay, blend, heat_colours, normalise, spread
from mmssl.metrics.localization import peak_in_box
from mmssl.nn.encoders import Encoders
from tests.evaluation.oracle import RATE, SECONDS, SIZE, SQUARE, encode, planted_clip, planted_run, planted_shards


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    run = planted_run(tmp_path_factory.mktemp("run"))
    return Encoders.from_pretrained(run), Encoders.load_head(run, "av_localization")


def still(maps, size=(48, 48), geometry=None):
    return ClipMaps(np.arange(len(maps)) * 0.5, maps, np.eye(2, 3) if geometry is None else geometry, size, 2.0)


def test_a_map_lies_over_the_part_that_the_model_saw():
    heat = np.zeros((12, 12), np.float32)
    heat[2, 9] = 1.0
    laid = spread(heat, still(heat[None]), (288, 288))
    y, x = np.unravel_index(laid.argmax(), laid.shape)
    assert (y / 288, x / 288) == pytest.approx((2.5 / 12, 9.5 / 12), abs=0.01)
    # A picture twice as wide: the model saw its middle half.
    half = still(heat[None], geometry=np.array([[1.0, 0.0, -24.0], [0.0, 1.0, 0.0]]))
    laid = spread(np.ones((12, 12), np.float32), half, (100, 200))
    assert laid[:, :49].max() == laid[:, 151:].max() == 0
    np.testing.assert_allclose(laid[:, 51:149], 1.0, atol=1e-5)


def test_the_ring_is_where_the_scores_take_the_peak_to_be():
    """Two warm cells: the smooth heat is hottest between them, the score's peak is the middle of the hotter one."""
    heat = np.zeros((12, 12), np.float32)
    heat[5, 2], heat[5, 3] = 0.95, 1.0
    maps = still(heat[None], size=(96, 96))
    tops = [np.unravel_index(spread(heat, maps, (96, 96), mode).argmax(), (96, 96)) for mode in ("bicubic", "bilinear")]
    assert tops[0][1] < 27 <= tops[1][1] <= 28
    truth = np.zeros((1, 96, 96))
    truth[0, 40:48, 16:27] = 1.0
    assert peak_in_box(heat[None].astype(np.float64), truth)[0] == 0.0
    drawn = Overlay(b"", maps).draw(np.full((96, 96, 3), 128, np.uint8), 0.0)
    ring = np.argwhere((drawn == (120, 255, 255)).all(axis=2)).mean(axis=0)
    assert ring == pytest.approx(tops[1], abs=0.5)


def test_cold_places_keep_the_picture_and_hot_ones_take_the_colour():
    picture = np.full((2, 1, 3), 100, np.uint8)
    drawn = blend(picture, np.array([[0.0], [1.0]], np.float32), heat_colours())
    assert drawn[0, 0].tolist() == [100, 100, 100]
    assert abs(drawn[1, 0].astype(int) - (0.75 * heat_colours()[255] + 25)).max() <= 1


def test_lightness_of_the_colours_rises_evenly():
    lightness = heat_colours().astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > -1).all()
    assert lightness[-1] - lightness[0] > 200


def test_heat_is_normalised_over_the_clip():
    maps = np.zeros((3, 4, 4), np.float32)
    maps[1, 0, 0], maps[2, 1, 1] = 1.0, 0.5
    assert normalise(maps)[[0, 1, 2]].max(axis=(1, 2)).tolist() == [0.0, 1.0, 0.5]
    assert normalise(np.ones((2, 3, 3), np.float32)).max() == 0


def test_maps_between_two_times_are_in_proportion():
    maps = still(np.stack([np.zeros((2, 2)), np.ones((2, 2))]).astype(np.float32))
    assert maps.at(0.25)[0, 0] == pytest.approx(0.5)
    assert maps.at(-1.0)[0, 0] == 0.0
    assert maps.at(9.0)[0, 0] == 1.0


def test_the_overlay_of_a_planted_clip_shows_the_sounding_square_with_its_sound(model, tmp_path):
    shards = planted_shards(tmp_path / "shards", 1)  # clip 0: red on the left sounds low
    clip = next(clips_of(shards))
    drawn = draw_clip(*model, clip, tmp_path, rate=5, size=SIZE)
    assert (drawn.hit, drawn.kind, drawn.label) == (1.0, "red", "red left")
    picture = np.asarray(Image.open(drawn.png)).astype(int)
    assert picture.shape == (288, 288, 3)
    red, blue = (slice(4 * 6 + 20, (4 + SQUARE) * 6 - 20),) * 2, (slice(100, 140), slice(200, 232))
    assert picture[red][..., 1].mean() > 120, "the red square glows in the colours of the map"
    assert picture[blue].mean(axis=(0, 1)) == pytest.approx((20, 20, 230), abs=14), "the silent one keeps its own"
    corner = picture[4 * 6 + 1, 10 * 6]
    assert corner.min() > 180, "the true box is drawn in white"
    with av.open(str(drawn.mp4)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        times = [float(f.pts * f.time_base) for f in container.decode(video)]
        assert times == pytest.approx([n / RATE for n in range(round(SECONDS * RATE))], abs=1e-3)
        container.seek(0)
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio)])
    assert audio.codec_context.name == "aac"
    assert len(sound) / audio.sample_rate == pytest.approx(SECONDS, abs=0.13)
    strongest = np.abs(np.fft.rfft(sound[2048:26624])).argmax() * audio.sample_rate / 24576
    assert strongest == pytest.approx(400, abs=5)


def test_any_video_file_is_drawn_and_long_ones_in_stretches(model, tmp_path, monkeypatch):
    monkeypatch.setattr("mmssl.localization.maps.ROWS", 3)
    path, out = tmp_path / "film.mp4", tmp_path / "out"
    out.mkdir()
    path.write_bytes(planted_clip(3)[0])
    clip = clip_of_file(path)
    maps = clip_maps(*model, clip, rate=4, size=(SIZE, SIZE))
    assert maps.times[0] == 0.0
    assert maps.times.max() < maps.duration
    assert (np.diff(maps.times) > 0).all()
    assert np.diff(maps.times).max() <= 0.25 + 1e-6, "no gap between two stretches"
    monkeypatch.undo()
    whole = clip_maps(*model, clip, rate=4, size=(SIZE, SIZE))
    np.testing.assert_allclose(maps.at(0.5), whole.at(0.5), atol=1e-5)
    assert draw_clip(*model, clip, out, size=SIZE).hit is None


@pytest.mark.parametrize("folder", ["", "media"])
def test_a_film_is_never_written_over_by_what_is_made_of_it(model, tmp_path, folder):
    path = tmp_path / folder / "film.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(planted_clip(0)[0])
    before = path.read_bytes()
    with pytest.raises(UserError, match="would be written over"):
        draw_clip(*model, clip_of_file(path), tmp_path, size=SIZE, watch=True)
    assert path.read_bytes() == before


def test_a_clip_without_sound_is_refused_and_nothing_stays(model, tmp_path):
    path, out = tmp_path / "silent.mp4", tmp_path / "out"
    out.mkdir()
    path.write_bytes(encode(np.zeros((20, 48, 48, 3), np.uint8), None))
    with pytest.raises(UserError, match="'silent' has no sound"):
        draw_clip(*model, clip_of_file(path), out, size=SIZE)
    assert not list(out.iterdir())


def test_a_failed_drawing_leaves_no_file(tmp_path, monkeypatch):
    media = planted_clip(0)[0]
    overlay = Overlay(media, still(np.zeros((2, 4, 4), np.float32)))
    monkeypatch.setattr(Overlay, "draw", lambda *_: 1 / 0)
    for write in (overlay.write_png, overlay.write_mp4):
        with pytest.raises(ZeroDivisionError):
            write(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
