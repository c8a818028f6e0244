"""The corpus on disk: real files on one clock, a manifest with the truth, resumable, refused where it does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from mmssl.data.soundstage import PRESETS, generate, render_clip
from mmssl.errors import UserError

QUICK = PRESETS["quick"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("soundstage") / "corpus"
    told: list[tuple[int, int]] = []
    summary = generate(
        out, 4, 2, "quick", processes=2, dense_truth=True, on_progress=lambda done, total: told.append((done, total))
    )
    assert (summary.clips, summary.rendered) == (4, 4)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    return out


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_manifest_names_files_that_are_there(corpus: Path) -> None:
    rows = lines(corpus)
    assert [row["key"] for row in rows] == [f"quick-s2-train-{index:06d}" for index in range(4)]
    for index, row in enumerate(rows):
        assert (corpus / row["path"]).is_file()
        assert (corpus / row["subtitles"]).read_text().startswith("WEBVTT")
        truth = render_clip("quick", 2, "train", index).truth
        assert row["truth"] == json.loads(json.dumps(truth))
        assert row["label"] == truth["action"]
        assert row["split"] == "train"
        assert len(row["truth"]["boxes"]) == len(row["truth"]["box_times"]) == QUICK.frames
    assert not list(corpus.rglob("*.partial"))


def test_clip_alone_is_the_clip_of_the_batch(corpus: Path) -> None:
    """Decoded, the file shows and sounds what `render_clip` gives, but for the coding losses."""
    clip = render_clip("quick", 2, "train", 2)
    with av.open(str(corpus / "videos" / f"{clip.key}.mp4")) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)])
    with av.open(str(corpus / "videos" / f"{clip.key}.mp4")) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(int) - clip.frames).mean() < 12
    length = min(len(sound), len(clip.sound))
    rest = np.square(sound[:length] - clip.sound[:length]).sum() / np.square(clip.sound[:length]).sum()
    assert rest < 0.05


def test_streams_have_the_right_clock(corpus: Path) -> None:
    row = lines(corpus)[0]
    with av.open(str(corpus / row["path"])) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height) == (QUICK.size, QUICK.size)
        assert (audio.rate, audio.layout.name) == (QUICK.sample_rate, "mono")
        assert not video.codec_context.has_b_frames
        times, first_sound, keys = [], None, 0
        for packet in container.demux(video, audio):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    times.append(frame.time)
                    keys += frame.key_frame
                elif first_sound is None:
                    first_sound = frame.time
    np.testing.assert_allclose(times, row["truth"]["box_times"], atol=1e-3)
    assert first_sound == pytest.approx(0.0, abs=1e-3)
    assert keys >= QUICK.frames / 12


def test_dense_truth_is_that_of_the_clip(corpus: Path) -> None:
    clip = render_clip("quick", 2, "train", 1, dense=True)
    assert clip.dense is not None
    with np.load(corpus / "truth" / f"{clip.key}.npz") as stored:
        np.testing.assert_array_equal(stored["instances"], clip.dense.instances)
        np.testing.assert_allclose(stored["depth"], clip.dense.depth, rtol=2e-3)
        np.testing.assert_allclose(stored["flow"], clip.dense.flow, rtol=2e-3, atol=2e-2)
        np.testing.assert_allclose(stored["normals"] / 127, clip.dense.normals, atol=0.01)
        assert stored["camera_position"].shape == (QUICK.frames, 3)
        assert stored["camera_rotation"].shape == (QUICK.frames, 3, 3)


def test_second_run_renders_only_what_is_missing(corpus: Path) -> None:
    lost = corpus / "videos" / "quick-s2-train-000001.mp4"
    kept = corpus / "videos" / "quick-s2-train-000002.mp4"
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    (corpus / "manifest.jsonl").unlink()
    summary = generate(corpus, 5, 2, "quick", processes=1)
    assert (summary.clips, summary.rendered) == (5, 2)
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp
    assert len(lines(corpus)) == 5
    assert generate(corpus, 3, 2, "quick", processes=1).rendered == 0
    assert len(lines(corpus)) == 5


def test_another_split_joins_the_corpus(corpus: Path) -> None:
    summary = generate(corpus, 1, 2, "quick", split="test", processes=1)
    assert summary.rendered == 1
    rows = lines(corpus)
    assert {row["split"] for row in rows} == {"train", "test"}
    assert len({row["key"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"seed": 3}, "holds a Soundstage corpus of seed 2, asked for 3; give another folder"),
        ({"preset": "demo"}, "holds a Soundstage corpus of preset 'quick', asked for 'demo'"),
        ({"preset": "dmeo"}, "unknown Soundstage preset 'dmeo'; did you mean 'demo'?"),
        ({"split": "trian"}, "unknown Soundstage split 'trian'; did you mean 'train'?"),
        ({"clips": 0}, "--clips must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(corpus: Path, changed: dict, text: str) -> None:
    before = sorted(path.name for path in corpus.rglob("*"))
    wanted = {"clips": 1, "seed": 2, "preset": "quick", "split": "train"} | changed
    with pytest.raises(UserError) as refused:
        generate(corpus, processes=1, **wanted)
    assert text in str(refused.value)
    assert sorted(path.name for path in corpus.rglob("*")) == before


def test_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match="is not empty and holds no Soundstage corpus; give a new folder"):
        generate(tmp_path, 1, 0, "quick")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]
