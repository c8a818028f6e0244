"""Dense truth from a corpus through real shards to a batch: at the right frame, at the right pixel, only when asked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmssl.clip import Span, Window
from mmssl.data import Stream
from mmssl.data.dense_truth import BadTruth, cut_truth, load_arrays, source_frames
from mmssl.data.shards.builder import build
from mmssl.data.shards.index import read_index, read_members
from mmssl.data.shards.settings import BuildSettings
from mmssl.data.soundstage.encode import encode_mp4
from mmssl.errors import UserError

RATE, FRAMES, HEIGHT, WIDTH, SIDE = 25, 75, 96, 128, 32
STEP = (1, 1)  # pixels a frame, x and y


def write_film(folder: Path, name: str, dense: bool = True) -> None:
    """A bright square that wanders over a dark ground and jumps; its mask and its movement are the dense truth."""
    frames = np.full((FRAMES, HEIGHT, WIDTH, 3), 20, np.uint8)
    instances = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    flow = np.zeros((FRAMES, HEIGHT, WIDTH, 2), np.float16)
    for n in range(FRAMES):
        left = 8 + STEP[0] * (n % 25) + 40 * (n // 25 % 2)
        top = 16 + STEP[1] * (n % 25)
        place = (n, slice(top, top + SIDE), slice(left, left + SIDE))
        frames[place], instances[place], flow[place] = 220, 3, np.array(STEP) * RATE
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(exist_ok=True)
    sound = np.zeros(round(FRAMES / RATE * 16000), np.float32)
    (folder / "videos" / f"{name}.mp4").write_bytes(encode_mp4(frames, sound, RATE, 16000))
    if dense:
        np.savez_compressed(
            folder / "truth" / f"{name}.npz",
            instances=instances,
            flow=flow,
            depth=np.where(instances > 0, 1.5, 4.0).astype(np.float16),
            normals=np.broadcast_to(np.array([0, 0, -127], np.int8), (*instances.shape, 3)),
            camera_position=np.arange(FRAMES)[:, None] * np.array([1.0, 0.0, 0.0]),
            camera_rotation=np.broadcast_to(np.eye(3), (FRAMES, 3, 3)),
        )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_film(folder, "one")
    write_film(folder, "bare", dense=False)
    return folder


@pytest.fixture(scope="module")
def usual(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return shards(corpus, tmp_path_factory.mktemp("shards"))


def shards(corpus: Path, out: Path, **settings: Any) -> str:
    plain: dict[str, Any] = {"processes": 1, "dense_truth": True, "short_side": 96, "crf": 12}
    build(corpus, out, BuildSettings(**(plain | settings)))
    return str(out)


def rows(where: str, window: Window, **how: Any) -> Any:
    """One batch in the order of the index, with its truth."""
    settings: dict[str, Any] = {"workers": 0, "shuffle": False, "repeat": False, "anchor": "even"}
    count = sum(len(read_index(path)) for path in Path(where).glob("*.tar"))
    with Stream(where, window, count, **(settings | how)) as stream:
        return next(iter(stream))


BUILDS: dict[str, dict[str, Any]] = {
    "as it is": {"frame_rate": 25.0},
    "half the frame rate": {},
    "another rate": {"frame_rate": 10.0},
    "time stamps of the source": {"frame_rate": None},
    "cut into clips": {"clip_seconds": 1.0},
    "smaller": {"short_side": 64},
    "cropped": {"size": (64, 64), "fit": "crop"},
    "stretched": {"size": (64, 96), "fit": "stretch"},
}


@pytest.mark.parametrize("name", BUILDS)
def test_truth_lies_where_and_when_the_picture_shows_it(corpus: Path, tmp_path: Path, name: str) -> None:
    where = shards(corpus, tmp_path / "s", **BUILDS[name])
    for size in ((48, 64), (40, 40)):
        agrees(where, name, Window(Span(0.8, 10), size=size, truth=("flow", "instances", "depth", "pose"), views=2))


def agrees(where: str, name: str, window: Window) -> None:
    batch, truth = rows(where, window)
    has = [row for row, key in enumerate(batch.keys) if "one" in key]
    assert has
    assert len(has) < len(batch)
    for row in has:
        bright = batch.frames[row].float().mean(dim=2) > 120  # [V, T, H, W]
        mask, known = truth.dense["instances"].values[row] == 3, truth.dense["instances"].known[row]
        assert known.all()
        assert (bright == mask)[known].float().mean() > 0.97  # all but the square's blurred edge
        inside = mask & bright
        assert inside.flatten(2).any(dim=2).all()
        flow = truth.dense["flow"].values[row]
        wanted = torch.tensor(whole_map(batch, BUILDS[name]) * np.array(STEP) * RATE, dtype=torch.float32)
        assert torch.allclose(flow.movedim(2, -1)[mask], wanted, rtol=0.02)
        assert not flow.movedim(2, -1)[~mask].any()
        assert torch.equal(truth.dense["depth"].values[row] == 1.5, mask)
        # The camera of the truth moves a unit a frame: its place tells which frame of the source was taken.
        source = truth.dense["pose"].values[row][..., 0, 3]
        start = float(truth.metas[row]["start"])
        shown = batch.frame_times[row] + start
        assert ((source / RATE - shown).abs() <= 0.05 + 1e-6).all()
    for row in set(range(len(batch))) - set(has):
        assert all(not dense.known[row].any() for dense in truth.dense.values())
        assert all(not dense.values[row].any() for dense in truth.dense.values())


def whole_map(batch: Any, settings: dict[str, Any]) -> np.ndarray:
    """Scales (x, y) from source pixels to frame pixels, from the sizes alone, but for sides made even."""
    height, width = batch.frames.shape[-2:]
    if settings.get("fit") == "stretch":
        clip = settings["size"]
        first = np.array([clip[1] / WIDTH, clip[0] / HEIGHT])
    else:
        clip = settings.get("size", (96, 128) if settings.get("short_side", 96) == 96 else (64, 85.33))
        first = np.full(2, max(clip[0] / HEIGHT, clip[1] / WIDTH))
    scales: np.ndarray = first * max(height / clip[0], width / clip[1])
    return scales


def test_workers_give_the_same(usual: str) -> None:
    window = Window(picture=Span(0.8, 10), size=(48, 64), truth=("flow", "normals"))
    (_, here), (_, there) = rows(usual, window), rows(usual, window, workers=1)
    assert sorted(here.dense) == ["flow", "normals"]
    for name, dense in here.dense.items():
        assert torch.equal(dense.values, there.dense[name].values)
        assert torch.equal(dense.known, there.dense[name].known)
    normals = here.dense["normals"]
    assert normals.values.dtype == torch.float32
    assert torch.equal(normals.values[:, :, :, 2][normals.known].unique(), torch.tensor([-1.0]))


def test_a_batch_has_none_and_is_the_same_with_and_without(usual: str) -> None:
    window = Window(picture=Span(0.8, 10), size=(48, 64))
    asked = Window(picture=Span(0.8, 10), size=(48, 64), truth=("flow",))
    (plain, nothing), (batch, truth) = rows(usual, window), rows(usual, asked)
    assert not nothing.dense
    assert not batch.privileged
    assert torch.equal(plain.frames, batch.frames)
    assert torch.equal(plain.seeds, batch.seeds)
    handed = batch.with_privileged(truth.dense)
    times = handed.times(asked.pictures[0])[:, 2:5]
    values, known = handed.privileged_at("flow", times)
    assert torch.equal(values, truth.dense["flow"].values[:, 0, 2:5])
    assert torch.equal(known, truth.dense["flow"].known[:, 0, 2:5])
    with pytest.raises(ValueError, match="needs_truth"):
        handed.privileged_at("depth", times)


def test_shards_without_it_are_refused_before_the_start(corpus: Path, tmp_path: Path) -> None:
    where = shards(corpus, tmp_path / "s", dense_truth=False)
    with pytest.raises(UserError, match="dense_truth: true"):
        Stream(where, Window(picture=Span(0.8, 10), truth=("flow",)), 2)
    Stream(where, Window(picture=Span(0.8, 10)), 2).close()


def test_a_corpus_without_it_is_refused(tmp_path: Path) -> None:
    write_film(tmp_path / "c", "bare", dense=False)
    with pytest.raises(UserError, match="dense_truth"):
        shards(tmp_path / "c", tmp_path / "s")


def test_a_manifest_may_name_the_file(tmp_path: Path) -> None:
    write_film(tmp_path / "c", "one")
    (tmp_path / "c" / "truth" / "one.npz").rename(tmp_path / "c" / "other.npz")
    (tmp_path / "c" / "manifest.csv").write_text("path,start,end,dense_truth\nvideos/one.mp4,1.0,2.0,other.npz\n")
    where = shards(tmp_path / "c" / "manifest.csv", tmp_path / "s")
    (path,) = Path(where).glob("*.tar")
    (entry,) = read_index(path).samples
    arrays = load_arrays(read_members(path, entry)["truth.npz"])
    assert int(arrays["first_frame"]) == 24
    assert len(arrays["flow"]) < 30  # not all 75 frames of the source
    batch, truth = rows(where, Window(picture=Span(0.8, 10), size=(96, 128), truth=("instances",)))
    bright = batch.frames[0].float().mean(dim=2) > 120
    assert (bright == (truth.dense["instances"].values[0] == 3)).float().mean() > 0.97


def test_old_builds_go_on_without_the_setting() -> None:
    assert "dense_truth" not in BuildSettings().content()
    assert BuildSettings(dense_truth=True).content()["dense_truth"] is True


def test_a_clip_frame_shows_what_the_build_put_there() -> None:
    meta = {"start": 2.0, "frame_rate": 12.5, "original": {"frame_rate": 25.0}}
    # The middle of the first frame, 2.04 s, is where source frame 51 begins: a tie goes to the earlier one.
    assert source_frames(meta, np.array([0.0, 0.08])).tolist() == [50, 52]
    with pytest.raises(BadTruth, match="frame rate"):
        source_frames({**meta, "frame_rate": 0}, np.zeros(1))
    with pytest.raises(BadTruth, match="number"):
        source_frames({"frame_rate": 12.5}, np.zeros(1))


# ------------------------------------------------------------------------------------------------ members of any kind


def packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def forged(header: str, data: bytes = b"") -> bytes:
    """An archive of one array with a header of our making."""
    text = header.encode() + b" " * (118 - len(header)) + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("flow.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return file.getvalue()


def damaged(method: int) -> bytes:
    """An archive whose directory is whole and whose packed array is not."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("flow.npy", np.random.default_rng(0).bytes(4000))
    data = bytearray(file.getvalue())
    data[60:2000] = b"\xff" * 1940
    return bytes(data)


HOSTILE = {
    "deflate damaged": damaged(zipfile.ZIP_DEFLATED),
    "bzip2 damaged": damaged(zipfile.ZIP_BZIP2),
    "lzma damaged": damaged(zipfile.ZIP_LZMA),
    "no archive": b"not a zip",
    "cut short": packed(flow=np.zeros((2, 4, 4, 2), np.float16))[:-30],
    "pickled": packed(flow=np.array([{"a": 1}], dtype=object)),
    "text": packed(flow=np.array(["a"])),
    "larger than it is": forged("{'descr': '<f2', 'fortran_order': False, 'shape': (9999999, 99999)}", b"\0" * 8),
    "negative": forged("{'descr': '<f2', 'fortran_order': False, 'shape': (-1, 4)}", b"\0" * 8),
    "code for a header": forged("__import__('os').getpid()"),
    "too few axes": packed(flow=np.zeros((4, 4), np.float16)),
    "no frames": packed(flow=np.zeros((0, 4, 4, 2), np.float16)),
    "only other things": packed(depth=np.zeros((75, 4, 4), np.float16)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_truth_that_cannot_be_used_loses_the_truth_and_not_the_clip(
    usual: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmssl.data.worker.read_members", replaced(read_members, HOSTILE[name]))
    window = Window(picture=Span(0.8, 10), size=(48, 64), truth=("flow",))
    with Stream(usual, window, 2, workers=0, shuffle=False, repeat=False) as stream:
        batch, truth = next(iter(stream))
        assert batch.weight.tolist() == [1.0, 1.0]
        assert not truth.dense["flow"].known.any()
        assert sum(n for cause, n in stream.counters.items() if cause.startswith("truth: ")) == 1


def replaced(read: Any, data: bytes) -> Any:
    """Reads members, with another truth where there is one."""

    def read_other(shard: Any, entry: Any, extensions: Any = None) -> dict[str, bytes]:
        found = read(shard, entry, extensions)
        return found | ({"truth.npz": data} if "truth.npz" in found else {})

    return read_other


def test_cutting_keeps_what_a_clip_shows() -> None:
    whole = packed(flow=np.arange(10 * 8, dtype=np.float16).reshape(10, 2, 2, 2), name=np.array(7))
    assert cut_truth(whole, 0, 12) is whole
    part = cut_truth(whole, 3, 4)
    arrays = load_arrays(part)
    assert np.array_equal(arrays["flow"], load_arrays(whole)["flow"][3:7])
    assert (int(arrays["first_frame"]), int(arrays["name"])) == (3, 7)
    again = load_arrays(cut_truth(part, 5, 9))
    assert (int(again["first_frame"]), len(again["flow"])) == (5, 2)
    with pytest.raises(BadTruth, match="reach"):
        cut_truth(part, 8, 2)
