"""Both ways to webdataset: our stream in its pipelines, our shards in its reader."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
import webdataset as wds

from mmssl.clip import Span, Window
from mmssl.data import Stream, as_webdataset
from mmssl.data.shards import BuildSettings, build
from mmssl.data.shards.index import expand_shards, read_index, read_members
from mmssl.errors import UserError
from tests.corpora import sample, write_corpus, write_tar
from tests.media import flash_and_click

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), text=True, size=(32, 32))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [3, 4])


def stream(spec: str, window: Window = WINDOW) -> Stream:
    return Stream(spec, window, 4, workers=0, seed=2)


def test_a_pipeline_of_webdataset_takes_the_stream_over(corpus):
    with stream(corpus) as given:
        pipeline = wds.DataPipeline(
            as_webdataset(given), wds.to_tuple("frames", "audio", "cls", "__key__"), wds.batched(4)
        )
        found = list(itertools.islice(pipeline, 3))
    with stream(corpus) as given:
        expected = list(itertools.islice(given, 3))
    for (frames, audio, labels, keys), (batch, truth) in zip(found, expected, strict=True):
        assert torch.equal(frames, batch.frames)
        assert torch.equal(audio, batch.audio)
        assert tuple(labels) == truth.labels
        assert tuple(keys) == batch.keys


def test_the_fluent_form_too_and_a_sample_says_all_that_is_known(corpus):
    with stream(corpus) as given:
        one = next(iter(wds.FluidWrapper(as_webdataset(given)).map(lambda sample: sample)))
    assert one["__url__"].endswith(".tar")
    assert one["__source__"] == "data"
    assert one["txt"].startswith("sentence number")
    assert one["json"]["key"] == one["__key__"]
    assert one["frames"].untyped_storage().nbytes() == one["frames"].numel()  # keeps no batch alive
    with stream(corpus) as given:
        batches = wds.FluidWrapper(as_webdataset(given)).to_tuple("frames", "cls").batched(2)
        assert next(iter(batches))[0].shape == (2, 1, 4, 3, 32, 32)


def test_sentences_are_in_the_order_of_time(tmp_path):
    """A batch has those nearest to the anchor first."""
    times = [(n, f"00:00:{n // 2:02},{n % 2 * 500:03}", f"00:00:{n // 2:02},{n % 2 * 500 + 400:03}") for n in range(12)]
    cues = "".join(f"{n + 1}\n{start} --> {end}\nw{n}\n\n" for n, start, end in times)
    members = {"mp4": flash_and_click(tmp_path / "a.mp4", seconds=6.0).read_bytes(), "srt": cues.encode()}
    write_tar(tmp_path / "a.tar", [("a", members)])
    with Stream(str(tmp_path / "a.tar"), WINDOW, 1, workers=0, anchor="centre", max_sentences=5) as given:
        said = next(iter(as_webdataset(given)))["txt"].split("\n")
    assert said == sorted(said, key=lambda word: int(word[1:]))
    assert len(said) == 5
    assert "w6" in said


def test_what_was_not_asked_for_is_no_field_and_holes_are_left_out(tmp_path):
    key, members = sample(tmp_path, "bad", 0)
    damaged = write_tar(
        tmp_path / "one.tar", [(key, members | {"mp4": members["mp4"][:900]}), sample(tmp_path, "good", 1)]
    )
    with Stream(str(damaged), Window(Span(0.8, 5), size=(32, 32)), 2, workers=0, repeat=False) as given:
        (one,) = list(as_webdataset(given))
    assert one["__key__"] == "good"
    assert "audio" not in one
    assert given.counters["failed of data"] == 1


def test_a_loader_with_workers_of_its_own_is_refused(corpus):
    with stream(corpus) as given:
        loader = torch.utils.data.DataLoader(as_webdataset(given), batch_size=None, num_workers=1)
        with pytest.raises(UserError, match="give the DataLoader num_workers=0"):
            next(iter(loader))


def test_plain_webdataset_reads_built_shards(tmp_path):
    (tmp_path / "videos").mkdir()
    for number in range(3):
        flash_and_click(
            tmp_path / "videos" / f"clip {number}.mp4", seconds=2.0, at=(0.5,), fps=12.5, size=(32, 32), seed=number
        )
        (tmp_path / "videos" / f"clip {number}.srt").write_text("1\n00:00:00,200 --> 00:00:01,000\nhello\n")
    build(tmp_path / "videos", tmp_path / "out", BuildSettings(samples_per_shard=2, processes=1))
    ours = {
        entry.key: read_members(path, entry)
        for path in expand_shards(str(tmp_path / "out"))
        for entry in read_index(path).samples
    }
    urls = [str(path) for path in expand_shards(str(tmp_path / "out"))]
    theirs = {one["__key__"]: one for one in wds.WebDataset(urls, shardshuffle=False)}
    assert len(ours) == 3
    assert theirs.keys() == ours.keys()
    for key, members in ours.items():
        assert {name: data for name, data in theirs[key].items() if not name.startswith("__")} == members
        assert members.keys() >= {"mp4", "vtt", "json"}
        assert json.loads(members["json"])["key"] == key
