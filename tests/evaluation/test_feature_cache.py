import json
import os
import threading
import warnings

import numpy as np
import pytest
import torch

from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.evaluation import features as module
from mmssl.evaluation.action import evaluate_action
from mmssl.evaluation.feature_cache import FeatureCache, is_lasting, open_cache, shards_digest, table_key
from mmssl.evaluation.features import FeatureTable, extract, extract_all
from mmssl.nn.encoders import Build, Encoders
from pipelines.embed import run as embed
from pipelines.evaluate import action
from tests.corpora import write_tar
from tests.evaluation.oracle import SIZE, PairsOnly, encode, planted_run, planted_shards

QUICK = {"picture": Span(0.4, 5), "size": 48, "workers": 0, "batch_size": 16}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return planted_run(folder / "run"), planted_shards(folder / "shards", 12)


@pytest.fixture
def passes(monkeypatch):
    """The decoder's calls of each pass over shards, and how many encoders it ran."""
    made = []
    real = module._run

    def counted(parts, *rest):
        tables, lasting = real(parts, *rest)
        made.append((tables[0].about["decoder_calls"], len(parts)))
        return tables, lasting

    monkeypatch.setattr(module, "_run", counted)
    return made


def test_a_second_evaluation_decodes_nothing_and_says_so(world, passes, tmp_path, capsys):
    run, shards = world
    first = action(run, shards, out=tmp_path / "out", seconds=0.4, rate=5, size=48, seeds=2, workers=0)
    assert passes == [(12, 4)], "one pass for the trained encoder, the random ones (here alike), motion and colours"
    assert first["features"] == {"clip_features": 60, "from_cache": 0}
    again = action(run, shards, out=tmp_path / "out", seconds=0.4, rate=5, size=48, seeds=2, workers=0)
    assert len(passes) == 1
    assert again["features"] == {"clip_features": 60, "from_cache": 60}
    assert again["linear"] == first["linear"]
    assert again["decoder_calls"] == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["features"]["from_cache"] == 60
    assert "60 of 60 clip features came from the cache" in " ".join(capsys.readouterr().out.split())
    assert len(list((run / "evaluation" / "features").glob("*.npz"))) == 4


def test_of_several_bundles_only_the_missing_one_is_run(world, passes, tmp_path):
    run, shards = world
    cache = FeatureCache(tmp_path)
    bundles = [Encoders.from_pretrained(run), Encoders.from_pretrained(run, random_init=True)]
    alone = extract(bundles[1], shards, cache=cache, **QUICK)
    both = extract_all(bundles, shards, cache=cache, **QUICK)
    assert [encoders for _, encoders in passes] == [1, 1]
    assert [table.about["clips_from_cache"] for table in both] == [0, 12]
    np.testing.assert_array_equal(both[1].features, alone.features)
    np.testing.assert_array_equal(both[0].features, extract(bundles[0], shards, **QUICK).features)
    assert both[1].keys == both[0].keys
    assert both[1].metas == both[0].metas
    extract_all([bundles[0], Encoders.from_pretrained(run)], shards, cache=FeatureCache(tmp_path / "new"), **QUICK)
    assert passes[-1] == (12, 1), "one encoder in two bundles is run once"


def test_the_key_is_of_the_encoder_alone_and_of_all_that_its_features_depend_on(world, tmp_path):
    run, shards = world
    bundle = Encoders.from_pretrained(run)
    window = Window(Span(0.4, 5), size=(48, 48))

    def key(bundle=bundle, shards=shards, window=window, name="video", decoder="pyav", **more):
        return table_key(bundle[name], bundle.builds[name], shards_digest(shards), window, decoder, **more)

    base = key()
    other = Encoders.from_pretrained(run)
    with torch.no_grad():
        other["image"].gain.fill_(7.0)
    other.save(tmp_path / "other", {"another": PairsOnly()})
    assert key(Encoders.from_pretrained(tmp_path / "other")) == base, "another encoder and other heads change nothing"
    with torch.no_grad():
        other["video"].gain.fill_(7.0)
    changed = {
        "weights": key(other),
        "another encoder": key(name="image"),
        "size": key(window=Window(Span(0.4, 5), size=(32, 48))),
        "span": key(window=Window(Span(0.4, 10), size=(48, 48))),
        "views": key(window=Window(Span(0.4, 5), size=(48, 48), views=2)),
        "motion": key(window=Window(Span(0.4, 5), size=(48, 48), motion=True)),
        "decoder": key(decoder="torchcodec"),
        "precision": key(precision="bfloat16"),
        "shards": key(shards=planted_shards(tmp_path / "fewer", 6)),
        "labels": key(shards=planted_shards(tmp_path / "labels", 12, label="x")),
    }
    assert len({base, *changed.values()}) == 1 + len(changed)


def test_shards_go_by_their_content_and_not_by_their_place(tmp_path):
    moved = planted_shards(tmp_path / "a", 6)
    digest = shards_digest(moved)
    (tmp_path / "a").rename(tmp_path / "b")
    assert shards_digest(str(tmp_path / "b")) == digest
    tar = tmp_path / "b" / "clips-000000.tar"
    data = tar.read_bytes()
    tar.write_bytes(data.replace(b"red left", b"red LEFT"))  # of one length: index and size stay
    os.utime(tar, ns=(0, 5))
    assert shards_digest(str(tmp_path / "b")) != digest


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "flipped", "another key"])
def test_a_damaged_file_is_made_again_with_a_word(world, passes, tmp_path, damage):
    run, shards = world
    cache, bundle = FeatureCache(tmp_path), Encoders.from_pretrained(run)
    first = extract(bundle, shards, cache=cache, **QUICK)
    (file,) = tmp_path.glob("*.npz")
    data = file.read_bytes()
    at = data.index(b"features.npy") + 300
    if damage == "another key":
        extract(Encoders.from_pretrained(run, random_init=True), shards, cache=cache, **QUICK)
        (rest,) = set(tmp_path.glob("*.npz")) - {file}
        rest.replace(file)
    else:
        broken = {
            "cut": data[: len(data) // 2],
            "other": b"no archive",
            "empty": b"",
            "flipped": data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :],
        }
        file.write_bytes(broken[damage])
    count = len(passes)
    with pytest.warns(UserWarning, match=rf"features '.*{file.name}'.* made again"):
        again = extract(bundle, shards, cache=cache, **QUICK)
    assert len(passes) == count + 1
    np.testing.assert_array_equal(again.features, first.features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract(bundle, shards, cache=cache, **QUICK).about["clips_from_cache"] == 12


def test_writers_at_once_leave_whole_files(tmp_path):
    def table(value):
        values = np.full((50, 1, 200), value, dtype=np.float32)
        return FeatureTable(tuple(f"k{i}" for i in range(50)), values, (None,) * 50, ({},) * 50, {"left_out": {}})

    caches = [FeatureCache(tmp_path), FeatureCache(tmp_path)]
    caches[0].put("key", table(0))

    def write(number):
        for _ in range(15):
            caches[number].put("key", table(number))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while any(writer.is_alive() for writer in writers):
            found = caches[0].get("key")
            assert found is not None
            assert found.features.min() == found.features.max()
    assert [path.name for path in tmp_path.iterdir()] == ["key.npz"]


def test_a_folder_that_cannot_be_written_costs_a_warning_and_no_features(world, tmp_path, monkeypatch):
    run, shards = world
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="features are not kept in"):
        table = extract(Encoders.from_pretrained(run), shards, cache=FeatureCache(tmp_path / "file" / "in"), **QUICK)
    assert len(table) == 12
    monkeypatch.setenv("MMSSL_CACHE", str(tmp_path / "cache"))
    assert open_cache(tmp_path / "file" / "features").folder == tmp_path / "cache" / "features"
    assert open_cache(tmp_path / "run" / "evaluation").folder == tmp_path / "run" / "evaluation"
    assert open_cache(tmp_path / "file", given=tmp_path / "own").folder == tmp_path / "own"


def test_clips_that_a_loaded_machine_left_out_are_tried_again():
    assert is_lasting({"failed: damaged": 3, "samples": 9})
    assert not is_lasting({"failed: worker hung": 1})
    assert not is_lasting({"failed: out of memory": 1})


def test_embed_writes_what_numpy_alone_reads(world, tmp_path, capsys):
    run, shards = world
    embed(run, tmp_path / "deep" / "out.npz", shards, seconds=0.4, rate=5, size=48, views=2, workers=0)
    assert "12 clips, 2 view(s), 6 dimensions" in capsys.readouterr().out
    with np.load(tmp_path / "deep" / "out.npz", allow_pickle=False) as stored:
        assert stored["features"].shape == (12, 2, 6)
        assert stored["features"].dtype == np.float32
        assert stored["keys"][0] == "clip000"
        assert stored["labels"][1] == "blue left"
        assert stored["labelled"].all()
        assert json.loads(stored["metas"].tobytes())[0]["source"] == "film000_take0.mp4"
        about = json.loads(stored["about"].tobytes())
    assert (about["format"], about["views"], about["anchor"]) == ("mmssl-features-2", 2, "even")
    table = FeatureTable.load(tmp_path / "deep" / "out.npz")
    np.testing.assert_array_equal(
        table.features, extract(Encoders.from_pretrained(run), shards, views=2, **QUICK).features
    )
    with pytest.raises(UserError, match=r"must end in \.npz"):
        embed(run, tmp_path / "out.txt", shards)


def test_unlabelled_clips_stay_unlabelled(tmp_path):
    table = FeatureTable(("a", "b"), np.zeros((2, 1, 3), np.float32), (None, ""), ({}, {}), {"left_out": {}})
    table.save(tmp_path / "t.npz")
    assert FeatureTable.load(tmp_path / "t.npz").labels == (None, "")


class SeesFlow(torch.nn.Module):
    """Pooled: greatest and least movement to the right and down."""

    modality, width, strides = "flow", 4, ()

    def __init__(self):
        super().__init__()
        self.level_widths = {}
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        from mmssl.nn.features import Features

        assert x.shape[1:] == (2, 3, 48, 48), x.shape
        return Features(pooled=torch.cat([x.amax(dim=(2, 3, 4)), x.amin(dim=(2, 3, 4))], dim=1))


def test_flow_of_the_codec_reaches_a_flow_encoder(tmp_path):
    rng = np.random.default_rng(0)
    back, thing = rng.integers(90, 130, (SIZE, SIZE, 3)), rng.integers(0, 255, (16, 16, 3))
    samples = []
    for number, step in enumerate((2, -2, 0)):
        frames = np.repeat(back[None], 20, axis=0).astype(np.uint8)
        if step:
            for time in range(20):
                left = 4 + (time if step > 0 else 14 - time) % 15 * 2
                frames[time, 16:32, left : left + 16] = thing
        samples.append((f"clip{number}", {"mp4": encode(frames, None), "json": b"{}"}))
    write_tar(tmp_path / "clips.tar", samples)
    bundle = Encoders({"flow": Build(f"{__name__}.SeesFlow")})
    table = extract(bundle, str(tmp_path), encoder="flow", picture=Span(0.4, 10), size=48, workers=0)
    right, left = table.features[0, 0], table.features[1, 0]
    assert right[0] > 10 > abs(right[2]), "2 pixels a frame, 10 frames a second, less the mean of the picture"
    assert left[2] < -10 < -abs(left[0])
    with pytest.raises(UserError, match="movement needs at least two frames"):
        extract(bundle, str(tmp_path), encoder="flow", picture=Span(0.1, 10), size=48, workers=0)


def test_without_a_cache_nothing_is_kept(world, tmp_path):
    run, shards = world
    scores = evaluate_action(run, shards, seeds=1, **QUICK)
    assert scores.about["features"] == {"clip_features": 48, "from_cache": 0}
    assert not list(tmp_path.iterdir())
