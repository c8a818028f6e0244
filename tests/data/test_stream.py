"""The stream: batches, passes, mixes, positions, holes and what a user can get wrong."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.data import Source, Stream
from mmssl.data import budget as budget_module
from mmssl.errors import UserError
from mmssl.nn.tokenizer import Tokenizer
from mmssl.randomness import sample_seed
from tests import media
from tests.corpora import sample, write_corpus, write_tar

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), text=True, size=(32, 32))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [7, 5, 6])


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> str:
    return write_corpus(tmp_path_factory.mktemp("other"), [3], prefix="other")


def take(stream: Stream, count: int) -> list[tuple[Batch, Truth]]:
    with stream:
        return list(itertools.islice(stream, count))


def test_a_batch_is_complete_and_truth_is_apart(corpus):
    tokenizer = Tokenizer.train(["sentence number one of the corpus"], vocabulary=60, length=12)
    (batch, truth), *_ = take(Stream(corpus, WINDOW, 6, workers=0, tokenizer=tokenizer, max_sentences=3), 1)
    assert batch.frames.shape == (6, 1, 4, 3, 32, 32)
    assert batch.frames.dtype == torch.uint8
    assert batch.audio.shape == (6, 1, 8000)
    assert batch.token_ids.shape == (6, 3, 12)
    assert batch.has_picture.all()
    assert batch.has_audio.all()
    assert batch.has_text.all()
    assert batch.weight.tolist() == [1.0] * 6
    assert batch.sentences[0][0].text.startswith("sentence number")
    assert batch.sentence_mask.sum(dim=1).tolist() == [1] * 6
    assert batch.seeds.tolist() == [sample_seed(0, 0, "data", key) for key in batch.keys]
    assert ((batch.anchors >= 0) & (batch.anchors < 2.0)).all()
    assert batch.counters["decoder_calls"] == 6
    assert truth.keys == batch.keys
    assert {label.rstrip("0123456789") for label in truth.labels} == {"class"}
    assert truth.metas[0]["key"] == truth.keys[0]
    assert not hasattr(batch, "labels")


def test_one_pass_sees_every_sample_once_in_index_order(corpus):
    with Stream(corpus, WINDOW, 8, workers=0, shuffle=False, repeat=False, anchor="centre") as stream:
        assert len(stream) == 3
        for _ in range(2):  # a second pass begins anew
            batches = list(stream)
            keys = [k for b, _ in batches for k, w in zip(b.keys, b.weight.tolist(), strict=True) if w > 0]
            assert keys == [f"clip{i:04d}" for i in range(18)]
            last, truth = batches[-1]
            assert last.weight.tolist() == [1.0] * 2 + [0.0] * 6
            assert last.keys[2:] == ("",) * 6
            assert truth.labels[2:] == (None,) * 6
            assert all(torch.equal(last.frames[i], last.frames[0]) for i in range(2, 8))
            assert last.anchors[0, 0] == 1.0
    assert stream.counters["samples"] == 36


def test_a_source_may_be_held_to_some_keys(corpus):
    keys = frozenset({"clip0001", "clip0004", "clip0013"})  # none in the second of three shards
    stream = Stream([Source("data", corpus, keys=keys)], WINDOW, 2, workers=0, shuffle=False, repeat=False)
    assert stream.plan.samples == 3
    with stream:
        assert [key for batch, _ in stream for key in batch.keys if key] == sorted(keys)
    drawn = take(Stream([Source("data", corpus, keys=keys)], WINDOW, 3, workers=0, seed=1), 4)
    assert all(set(batch.keys) == keys for batch, _ in drawn)
    with pytest.raises(UserError, match="none of the 1 wanted samples is in the source 'data'"):
        Stream([Source("data", corpus, keys=frozenset({"other"}))], WINDOW, 1, workers=0)


def test_views_lie_evenly_when_asked(corpus):
    window = Window(Span(0.4, 5), size=(32, 32), views=4)
    (batch, _), *_ = take(Stream(corpus, window, 2, workers=0, anchor="even"), 1)
    np.testing.assert_allclose(batch.anchors[0], [0.25, 0.75, 1.25, 1.75])


def test_an_epoch_sees_every_sample_and_its_rest_opens_the_next(corpus):
    batches = take(Stream(corpus, WINDOW, 4, workers=0, seed=3), 9)
    keys = [key for batch, _ in batches for key in batch.keys]
    assert Counter(keys[:18]) == Counter(keys[18:]) == Counter(f"clip{i:04d}" for i in range(18))
    assert keys[:18] != keys[18:]
    straddling = batches[4][0]  # rows 16 and 17 are of epoch 0, the other two of epoch 1
    epochs = [0, 0, 1, 1]
    assert straddling.seeds.tolist() == [
        sample_seed(3, e, "data", k) for e, k in zip(epochs, straddling.keys, strict=True)
    ]


def test_a_mix_keeps_quotas_epochs_and_an_even_interleaving(corpus, other):
    sources = [Source("big", corpus, 6), Source("small", other, 2)]
    stream = Stream(sources, WINDOW, 8, workers=0)
    batches = take(stream, 6)
    for batch, _ in batches:
        assert Counter(batch.sources) == {"big": 6, "small": 2}
        assert Counter(batch.sources[:4]) == {"big": 3, "small": 1}  # each of two ranks has its share
    small = [k for b, _ in batches for k, s in zip(b.keys, b.sources, strict=True) if s == "small"]
    assert [len(set(small[i : i + 3])) for i in range(0, 12, 3)] == [3] * 4
    state = stream.state_dict()
    assert [(s["name"], s["epoch"], s["next"]) for s in state["sources"]] == [("big", 2, 0), ("small", 4, 0)]
    assert stream.epoch == 2


def test_a_source_smaller_than_its_quota_gives_several_epochs_to_a_batch(other):
    (batch, _), *_ = take(Stream(other, WINDOW, 8, workers=0), 1)
    assert Counter(Counter(batch.keys).values()) == {3: 2, 2: 1}
    assert len(set(batch.seeds.tolist())) == 8


def test_the_plan_says_what_will_be_read(corpus):
    plan = Stream(corpus, WINDOW, 4, world=2, rank=0).plan
    assert (plan.samples, plan.shards, plan.batches_per_epoch) == (18, 3, 4.5)
    assert str(plan) == (
        "data: 18 samples in 3 shards, 4 of each batch, an epoch every 4.5 batches\n"
        "global batch of 4 clips on 2 ranks, 2 clips each; an anchor meets 3 others in it\n"
        "decoder: pyav (as asked for)"
    )
    assert "an epoch every 4.5 batches, 2.00 epochs in 9 batches" in plan.describe(9)
    assert plan.epochs(9) == {"data": 2.0}


def test_coverage_and_counters_by_source(corpus, other, tmp_path):
    bad = damaged_corpus(tmp_path, 3, {1: "text"})
    sources = [Source("big", corpus, 5), Source("small", bad, 1)]
    parts = [Stream(sources, WINDOW, 6, workers=0, world=2, rank=rank) for rank in (0, 1)]
    assert parts[0].coverage == {"big": 0.0, "small": 0.0}
    for part in parts:
        take(part, 4)
        assert part.coverage == pytest.approx({"big": 2 / 18, "small": 1 / 3})
        assert (part.counters["passes of big"], part.counters["passes of small"]) == (1, 1)
    together = sum((part.counters for part in parts), Counter())
    assert (together["samples of big"], together["samples of small"]) == (20, 4)
    assert together["failed of big"] == 0
    assert together["failed of small"] == together["failed: not a known container"] > 0


def test_coverage_of_samples_drawn_with_replacement_counts_each_once(corpus):
    stream = Stream(corpus, WINDOW, 6, workers=0, order="resampled", shuffle_shards=2)
    keys = [key for batch, _ in take(stream, 2) for key in batch.keys]
    assert stream.coverage == {"data": len(set(keys)) / 18}
    assert len(set(keys)) < 12
    take(stream, 1)
    assert stream.coverage == {"data": 0.0}
    assert "drawn with replacement, a nominal epoch every 3.0 batches" in str(stream.plan)


def test_sources_may_differ_in_order_and_a_position_of_another_order_is_refused(corpus, other):
    sources = [Source("big", corpus, 2), Source("small", other, 2, order="resampled")]
    stream = Stream(sources, WINDOW, 4)
    assert [source.order for source in stream.plan.sources] == ["epochs", "resampled"]
    swapped = Stream([sources[0], Source("small", other, 2)], WINDOW, 4)
    with pytest.raises(UserError, match=r"of the order 'resampled' of the source 'small', this run has 'epochs'"):
        swapped.load_state_dict(stream.state_dict())


def test_a_shard_that_is_cut_short_is_said_in_the_plan_and_counted(tmp_path):
    spec = write_corpus(tmp_path, [3, 3])
    whole = (tmp_path / "train-000001.tar").read_bytes()
    (tmp_path / "train-000001.tar").write_bytes(whole[: whole.rindex(b"clip0005.mp4") + 800])
    stream = Stream(spec, WINDOW, 5, workers=0)
    assert "1 shard is cut short:" in str(stream.plan)
    assert "train-000001.tar" in str(stream.plan)
    assert stream.counters["shards cut short"] == 1
    (batch, _), *_ = take(stream, 1)
    assert set(batch.keys) == {f"clip{n:04d}" for n in range(5)}
    assert batch.weight.all()


def test_keys_that_are_no_unicode_are_read_as_any(tmp_path):
    _, members = sample(tmp_path, "clip", 0)
    strange = b"caf\xe9".decode(errors="surrogateescape")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for extension, data in members.items():
            info = tarfile.TarInfo(f"{strange}.{extension}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    for workers in (0, 1):
        (batch, _), *_ = take(Stream(str(tmp_path / "a.tar"), WINDOW, 1, workers=workers), 1)
        assert batch.keys == (strange,)
        assert batch.weight.all()


def test_foreign_tars_are_indexed_with_progress_before_the_plan(tmp_path):
    spec = write_corpus(tmp_path, [1] * 6)
    told = []
    stream = Stream(spec, WINDOW, 6, workers=0, progress=lambda *numbers: told.append(numbers))
    assert told == [(n, 6) for n in range(1, 7)]
    assert stream.plan.samples == 6


def test_a_position_survives_json_and_does_not_depend_on_batch_size(corpus):
    keys = [key for batch, _ in take(Stream(corpus, WINDOW, 4, workers=0), 12) for key in batch.keys]
    first = Stream(corpus, WINDOW, 4, workers=0)
    take(first, 5)
    state = json.loads(json.dumps(first.state_dict()))
    assert state["batches"] == 5
    second = Stream(corpus, WINDOW, 2, workers=0)
    second.load_state_dict(state)
    assert second.epoch == 1
    assert [key for batch, _ in take(second, 6) for key in batch.keys] == keys[20:32]


def test_iterating_again_goes_on_where_the_loop_stopped(corpus):
    keys = [key for batch, _ in take(Stream(corpus, WINDOW, 4, workers=0), 6) for key in batch.keys]
    found = []
    with Stream(corpus, WINDOW, 4, workers=0) as stream:
        for _ in range(3):
            for batch, _ in itertools.islice(stream, 2):
                found += batch.keys
    assert found == keys


def test_a_position_of_other_data_is_refused(corpus, other, tmp_path):
    state = Stream(corpus, WINDOW, 4).state_dict()
    with pytest.raises(UserError, match="is of seed 0, this run has 1; resume with the same"):
        Stream(corpus, WINDOW, 4, seed=1).load_state_dict(state)
    with pytest.raises(UserError, match="is of shuffle_shards 8, this run has 2"):
        Stream(corpus, WINDOW, 4, shuffle_shards=2).load_state_dict(state)
    with pytest.raises(UserError, match=r"the source 'data' has changed: 18 samples when .* 3 now"):
        Stream(other, WINDOW, 4).load_state_dict(state)
    with pytest.raises(UserError, match="is of the sources data, this run has clips"):
        Stream([Source("clips", corpus)], WINDOW, 4).load_state_dict(state)
    with pytest.raises(UserError, match="has the format None"):
        Stream(corpus, WINDOW, 4).load_state_dict({})
    same_lengths = write_corpus(tmp_path / "x", [18])
    with pytest.raises(UserError, match="or other keys, or another order"):
        Stream(same_lengths, WINDOW, 4).load_state_dict(state)


def damaged_corpus(folder: Path, count: int, bad: dict[int, str]) -> str:
    """A shard in which some samples cannot be read, each in its own way."""
    samples = []
    for number in range(count):
        key, members = sample(folder, f"clip{number:04d}", number)
        match bad.get(number):
            case "cut":
                members["mp4"] = members["mp4"][:2000]
            case "empty":
                members["mp4"] = b""
            case "text":
                members["mp4"] = b"this is no video at all"
            case "json":
                members["json"] = b"{"
        samples.append((key, members))
    return str(write_tar(folder / "damaged-000000.tar", samples))


def test_a_sample_that_fails_is_a_hole_counted_by_cause(tmp_path):
    spec = damaged_corpus(tmp_path, 12, {1: "cut", 4: "empty", 5: "json", 9: "text"})
    bad = {"clip0001", "clip0004", "clip0005", "clip0009"}
    stream = Stream(spec, WINDOW, 4, workers=0)
    for batch, truth in take(stream, 3):
        holes = [row for row, key in enumerate(batch.keys) if key in bad]
        assert [row for row, w in enumerate(batch.weight.tolist()) if w == 0] == holes
        spare = next(row for row in range(4) if row not in holes)
        for row in holes:
            assert torch.equal(batch.frames[row], batch.frames[spare])
            assert torch.equal(batch.audio[row], batch.audio[spare])
            assert batch.sentences[row] == batch.sentences[spare]
            assert truth.labels[row] is None
        assert batch.counters["decoder_calls"] == 4 - len(holes)
    failed = {name: count for name, count in stream.counters.items() if name.startswith("failed: ")}
    assert failed == {
        "failed: unreadable": 1,
        "failed: empty file": 1,
        "failed: bad json": 1,
        "failed: not a known container": 1,
    }
    assert stream.counters["samples"] == 12


def test_a_batch_without_any_valid_row_is_zeros_and_masks(tmp_path):
    spec = damaged_corpus(tmp_path, 2, {0: "cut", 1: "text"})
    (batch, truth), *_ = take(Stream(spec, WINDOW, 2, workers=0), 1)
    assert batch.weight.tolist() == [0.0, 0.0]
    assert not batch.frames.any()
    assert not batch.audio.any()
    for mask in (batch.has_picture, batch.has_audio, batch.has_text, batch.sentence_mask, batch.token_mask):
        assert not mask.any()
    assert truth.metas == ({}, {})
    assert set(batch.keys) == {"clip0000", "clip0001"}


def test_too_many_failures_stop_the_run_with_causes_and_examples(tmp_path, monkeypatch):
    spec = damaged_corpus(tmp_path, 5, {n: "text" for n in range(1, 5)})
    with pytest.raises(UserError) as caught:  # 50 of the last 1000 may fail, the 51st stops it
        take(Stream(spec, WINDOW, 5, workers=0), 20)
    message = str(caught.value)
    assert "51 of the last" in message
    assert "not a known container: 51" in message
    assert message.count("clip000") == 3
    monkeypatch.setattr(budget_module, "BUDGET_RUN", 4)
    all_bad = damaged_corpus(tmp_path, 5, dict.fromkeys(range(5), "text"))
    with pytest.raises(UserError, match="4 of the last 4 samples could not be read"):
        take(Stream(all_bad, WINDOW, 5, workers=0), 1)


def test_a_shard_that_vanishes_is_holes_and_not_a_crash(tmp_path):
    spec = write_corpus(tmp_path, [4, 4])
    stream = Stream(spec, WINDOW, 8, workers=0)
    (tmp_path / "train-000001.tar").unlink()
    (batch, _), *_ = take(stream, 1)
    assert batch.weight.sum() == 4
    assert stream.counters["failed: shard unreadable"] == 4


def test_sound_is_masked_per_clip(tmp_path):
    samples = [sample(tmp_path, f"clip{n:04d}", n, audio_codec="aac" if n % 2 else None) for n in range(4)]
    spec = str(write_tar(tmp_path / "mixed.tar", samples))
    (batch, _), *_ = take(Stream(spec, WINDOW, 4, workers=0, shuffle=False), 1)
    assert batch.has_audio.tolist() == [False, True, False, True]
    assert batch.weight.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"batch_size": 6, "world": 4, "rank": 0},
            "batch_size 6 does not divide by 4 ranks; the nearest that does is 8",
        ),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"world": 2, "rank": 2}, "rank 2 is not one of 2 ranks"),
        ({"decoder": "pyaw"}, "no decoder 'pyaw' .*did you mean 'pyav'"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"shuffle_shards": 0}, "shuffle_shards must be at least 1"),
        ({"order": "resample"}, "no order 'resample' of the source 'data' .*did you mean 'resampled'"),
        ({"order": "resampled", "shuffle": False}, "is resampled, which has no order to keep"),
        ({"order": "resampled", "repeat": False}, "drawn with replacement make no pass"),
    ],
)
def test_what_a_user_gets_wrong_is_named(corpus, settings, message):
    with pytest.raises(UserError, match=message):
        Stream(corpus, WINDOW, settings.pop("batch_size", 4), **settings)


def test_shards_may_be_paths_and_lists_and_a_source_stands_alone(tmp_path):
    tars = [write_tar(tmp_path / f"{name}.tar", [sample(tmp_path, name, n)]) for n, name in enumerate("ab")]
    for given in ([str(tar) for tar in tars], tars, tmp_path, Source("data", str(tmp_path))):
        with Stream(given, WINDOW, 2, workers=0, repeat=False, shuffle=False) as stream:
            assert [batch.keys for batch, _ in stream] == [("a", "b")]
    with pytest.raises(UserError, match="not Source, str"):
        Stream([Source("a", str(tars[0])), str(tars[1])], WINDOW, 2)


def test_one_pass_is_one_however_large_the_batch(tmp_path):
    tar = write_tar(tmp_path / "a.tar", [sample(tmp_path, name, n) for n, name in enumerate("ab")])
    with Stream(str(tar), WINDOW, 4, workers=0, repeat=False) as stream:
        assert [batch.weight.sum() for batch, _ in stream] == [2]
        assert stream.counters["passes of data"] == 1


def test_a_caption_without_times_is_a_sentence_over_the_clip(tmp_path):
    """Where there are no subtitles; webdataset's tools call it txt."""
    told = {"txt": "two  dogs\nbark".encode("utf-16")}
    cues = {"srt": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n"}
    bare = {"mp4": media.flash_and_click(tmp_path / "a.mp4", seconds=2.0).read_bytes()}
    tar = write_tar(tmp_path / "a.tar", [("a", bare | told), ("b", bare | told | cues), ("c", bare | {"txt": b" "})])
    window = Window(Span(0.5, 5), text=True, size=(32, 32))
    with Stream(str(tar), window, 3, workers=1, repeat=False, shuffle=False) as stream:
        ((batch, _),) = list(stream)
    (caption,), (cue,), none = batch.sentences
    assert (caption.text, caption.start, caption.end) == ("two dogs bark", 0.0, pytest.approx(2.0, abs=0.05))
    assert cue.text == "hello"
    assert none == ()
    assert batch.has_text.tolist() == [True, True, False]


def test_mixes_that_do_not_add_up_are_named(corpus, other):
    with pytest.raises(UserError, match=r"\(a: 3, b: 2\) must be positive and sum to the batch size 4"):
        Stream([Source("a", corpus, 3), Source("b", other, 2)], WINDOW, 4)
    with pytest.raises(UserError, match="two sources share a name"):
        Stream([Source("a", corpus, 2), Source("a", other, 2)], WINDOW, 4)
    with pytest.raises(UserError, match="no source of data"):
        Stream([], WINDOW, 4)


def test_missing_and_empty_corpora_are_named(tmp_path):
    with pytest.raises(UserError, match=r"'.*gone-000000.tar' does not exist"):
        Stream(str(tmp_path / "gone-000000.tar"), WINDOW, 4)
    write_tar(tmp_path / "empty.tar", [])
    with pytest.raises(UserError, match=r"empty.tar' holds no sample"):
        Stream(str(tmp_path / "empty.tar"), WINDOW, 4)


def test_a_fault_of_the_program_is_never_a_hole(corpus, monkeypatch):
    from mmssl.data.decode.pyav import PyAVDecoder

    def broken(*_: object) -> None:
        raise TypeError("a fault of the program")

    monkeypatch.setattr(PyAVDecoder, "decode", broken)
    with pytest.raises(TypeError, match="a fault of the program"):
        take(Stream(corpus, WINDOW, 4, workers=0), 1)
