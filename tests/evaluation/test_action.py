import json
import re
from dataclasses import replace

import numpy as np
import pytest

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation import EVALUATIONS, attentive
from mmssl.evaluation.action import arrange, evaluate_action, probe
from mmssl.evaluation.features import FeatureTable, extract, extract_all, join
from mmssl.evaluation.probes import PROBES
from mmssl.evaluation.probing import Seen
from mmssl.evaluation.without_network import pixel_bundles
from mmssl.nn.encoders import Encoders
from pipelines.cli import main
from pipelines.evaluate import action
from tests.evaluation.oracle import planted_run, planted_shards

QUICK = {"picture": Span(0.4, 5), "size": 48, "workers": 0, "batch_size": 16}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return planted_run(folder / "run"), planted_shards(folder / "shards", 24)


@pytest.fixture
def short(monkeypatch):
    """Few steps: what is planted is easy."""
    monkeypatch.setattr(attentive, "LEAST_STEPS", 60)


def table(n=60, width=8, planted=True, seed=0, metas=None):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    features = rng.normal(size=(n, 2, width)) * 0.3 + (5 * np.eye(3, width)[labels][:, None] if planted else 0)
    metas = metas or tuple({"split": "test" if i % 5 == 0 else "train", "source": f"s{i // 2}"} for i in range(n))
    keys = tuple(f"k{i}" for i in range(n))
    return FeatureTable(keys, features.astype(np.float32), tuple("abc"[i] for i in labels), metas, {"left_out": {}})


def test_a_planted_action_is_found_by_the_pretrained_encoder_and_not_by_random_init(world):
    run, shards = world
    scores = evaluate_action(run, shards, seeds=2, **QUICK)
    results = scores.as_dict()
    assert results["linear"]["pretrained"]["mean"] == 1.0
    assert results["knn"]["pretrained"]["mean"] == 1.0
    assert results["linear"]["random_init"]["mean"] == 0.5
    assert results["chance"] == 0.5
    assert results["linear"]["difference"]["verdict"] == "above"
    assert "file_facts" not in results["linear"], "all files have one size, length and rate"
    assert results["linear"]["colour_histogram"]["mean"] < 0.8, "red and blue are everywhere as frequent"
    assert results["linear"]["motion_energy"]["mean"] == 0.5, "nothing moves"
    assert results["beside"]["linear"]["motion_energy"]["verdict"] == "above"
    assert results["decoder_calls"] == 24, "pixels come from the encoders' own pass"
    assert results["test_clips"] == 8
    assert np.trace(results["confusion"]) == 2 * 8
    assert EVALUATIONS["action"] is evaluate_action


def test_the_program_writes_results_and_leaves_one_group_out(world, tmp_path, capsys):
    run, shards = world
    results = action(
        run, shards, group=r"_take(\d)", out=tmp_path / "out", seconds=0.4, rate=5, size=48, seeds=2, workers=0
    )
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored == json.loads(json.dumps(results))
    assert stored["folds"] == 4
    assert stored["fold_names"] == ["0", "1", "2", "3"]
    assert np.shape(stored["linear"]["pretrained"]["folds"]["seeds"]) == (4, 2)
    assert stored["test_clips"] == 24
    assert len(stored["linear"]["pretrained"]["seeds"]) == 2
    assert stored["protocol"] == {"linear": "action-linear-v1", "knn": "action-knn-v1"}
    assert stored["decoder"] == "pyav"
    shown = capsys.readouterr().out
    assert "pretrained minus random init" in shown
    assert "24 clips, 2 classes, 24 tested in 4 fold(s)" in " ".join(shown.split())


def test_the_program_sets_other_runs_beside(world, tmp_path, capsys):
    run, shards = world
    options = ["--shards", shards, "--seconds", "0.4", "--rate", "5", "--size", "48", "--seeds", "5", "--workers", "0"]
    main(["evaluate", "action", str(run), *options, "--out", str(tmp_path / "one")])
    blind = Encoders.from_pretrained(run, random_init=True)
    blind.save(tmp_path / "blind" / "encoders")
    beside = ["--compare", str(tmp_path / "one"), "--out", str(tmp_path / "other")]
    main(["evaluate", "action", str(tmp_path / "blind"), *options, *beside])
    assert "linear: pretrained: one minus other +50.0 points" in capsys.readouterr().out
    stored = json.loads((tmp_path / "other" / "compare" / "compare.json").read_text())
    said = {d["row"]: (d["mean"], d["said"]) for d in stored["differences"]}
    assert said["linear/pretrained"] == (0.5, "above")
    assert "linear/random_init" in stored["equal_in_all_runs"]
    with pytest.raises(SystemExit):  # before anything is decoded
        main(["evaluate", "action", str(run), *options, "--compare", str(tmp_path / "nothing")])
    assert "holds no results.json" in capsys.readouterr().err


def test_all_bundles_share_one_decode_and_workers_change_nothing(world):
    run, shards = world
    bundles = [Encoders.from_pretrained(run), Encoders.from_pretrained(run, random_init=True)]
    both = extract_all(bundles, shards, views=3, **QUICK)
    alone = extract(bundles[0], shards, views=3, **(QUICK | {"workers": 2, "batch_size": 7}))
    assert both[0].about["decoder_calls"] == alone.about["decoder_calls"] == 24
    np.testing.assert_array_equal(both[0].features, alone.features)
    assert both[0].features.shape == (24, 3, 6)
    assert (both[1].features == 0).all()
    assert both[0].labels[:2] == ("red left", "blue left")


@pytest.mark.parametrize(("encoder", "width"), [("image", 6), ("audio", 2)])
def test_features_of_other_modalities(world, encoder, width):
    run, shards = world
    found = extract(Encoders.from_pretrained(run), shards, encoder=encoder, **QUICK)
    assert found.features.shape == (24, 1, width)
    if encoder == "audio":  # clips 0 and 1 sound low, 2 and 3 high
        assert (found.features[:2, 0, 0] > found.features[:2, 0, 1]).all()
        assert (found.features[2:4, 0, 0] < found.features[2:4, 0, 1]).all()


def test_a_table_is_stored_and_read_again(tmp_path):
    one = table()
    one.save(tmp_path / "features.npz")
    again = FeatureTable.load(tmp_path / "features.npz")
    np.testing.assert_array_equal(one.features, again.features)
    assert (again.keys, again.labels, again.metas) == (one.keys, one.labels, one.metas)
    assert [p.name for p in tmp_path.iterdir()] == ["features.npz"]
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"other.npz' cannot be read"):
        FeatureTable.load(tmp_path / "other.npz")


def test_equal_features_are_never_above_and_noise_is_at_chance():
    clips = arrange(table(), [60])
    same = probe(table(), [table(), table()], clips)
    assert same.differences["linear"].mean == 0.0
    assert same.verdicts["linear"] == "not behind"
    noise = table(300, planted=False)
    scores = probe(noise, [table(300, planted=False, seed=1)], arrange(noise, [300]))
    assert abs(scores.as_dict()["linear"]["pretrained"]["mean"] - 1 / 3) < 0.2


def test_test_clips_never_reach_a_fit(monkeypatch):
    """Changing the features of test clips changes no probe: standardisation, strength and weights know train alone."""
    from mmssl.evaluation import linear as module

    fitted = []
    real = module.fit_chosen
    monkeypatch.setattr(module, "fit_chosen", lambda *a, **k: fitted.append(real(*a, **k)) or fitted[-1])
    one = table()
    clips = arrange(one, [60])
    probe(one, [one], clips)
    other = FeatureTable(one.keys, one.features.copy(), one.labels, one.metas, one.about)
    other.features[clips.folds[0].test] += 100.0
    probe(other, [other], clips)
    half = len(fitted) // 2
    for a, b in zip(fitted[:half], fitted[half:], strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)


def test_what_files_alone_tell_stands_beside():
    metas = tuple(
        {
            "split": "test" if i % 5 == 0 else "train",
            "source": f"s{i}",
            "original": {"width": 100 + 100 * (i % 3), "height": 100, "seconds": 2.0, "frame_rate": 25.0},
        }
        for i in range(60)
    )
    blind = table(planted=False, metas=metas)
    found = probe(blind, [blind], arrange(blind, [60])).as_dict()["linear"]
    assert found["file_facts"]["mean"] == 1.0
    assert found["pretrained"]["mean"] < 0.9


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_answers_for_each_test_clip_by_itself_and_twice_the_same(name, short):
    """What is said of a clip depends on train and on it alone: no statistics of the test clips are used."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    seen = Seen(table(30).features, rng.normal(size=(30, 2, 4, 8)).astype(np.float16))
    others = seen.part(np.arange(30))
    others.features[1:] += 9.0
    others.tokens[1:] *= 3
    settings = {"groups": np.arange(30), "seed": 1, "device": "cpu"}
    found, alone = (PROBES[name](seen, labels, test, 3, **settings) for test in (seen, others))
    np.testing.assert_allclose(found.scores[0], alone.scores[0], atol=1e-9)
    again = PROBES[name](seen, labels, seen, 3, **settings)
    np.testing.assert_array_equal(found.scores, again.scores)
    assert re.fullmatch(rf"action-{name}-v\d", PROBES[name].protocol)


def test_the_same_command_twice_gives_the_same_numbers(world, tmp_path, capsys, short):
    run, shards = world
    command = ["evaluate", "action", str(run), "--shards", shards, "--seconds", "0.4", "--rate", "5", "--size", "48"]
    command += ["--seeds", "2", "--workers", "0", "--probes", "linear", "knn", "retrieval", "attentive"]
    stored = []
    for number in range(2):
        features = ["--features", str(tmp_path / f"features-{number}")]  # else the second would take the first's
        main([*command, *features, "--out", str(tmp_path / str(number))])
        stored.append(json.loads((tmp_path / str(number) / "results.json").read_text()))
        stored[-1].pop("seconds_used")
    assert stored[0] == stored[1]
    found = stored[0]
    assert list(found["protocol"]) == ["linear", "knn", "retrieval", "attentive"]
    for name in found["protocol"]:
        assert found[name]["pretrained"]["mean"] == 1.0
        assert found[name]["difference"]["verdict"] == "above"
        assert set(found["beside"][name]) == {"motion_energy", "colour_histogram"}
    assert found["decoder_calls"] == 24
    assert found["retrieval"]["pretrained"]["recall_at"]["1"] == 1.0
    assert found["retrieval"]["random_init"]["recall_at"]["5"] == pytest.approx(found["retrieval_chance"]["5"])
    assert set(found["chosen"]["attentive"]) == {"learning_rate", "weight_decay"}
    shown = capsys.readouterr().out
    assert "chance, closed form" in shown
    assert "attentive: pretrained minus motion energy" in shown


def test_a_probe_of_tokens_alone_is_still_compared_with_pixels(world, short):
    run, shards = world
    found = evaluate_action(run, shards, seeds=1, probes=["attentive"], tokens=16, **QUICK).as_dict()
    assert found["attentive"]["pretrained"]["mean"] == 1.0
    assert found["attentive"]["motion_energy_by_linear_probe"]["mean"] == 0.5
    assert found["beside"]["attentive"]["motion_energy"]["mean"] == 0.5
    assert (found["confusion_of"], "linear" in found) == ("attentive", False)
    with pytest.raises(UserError, match=r"24 clips x 1 view\(s\) x 64 tokens x .* more than token_gigabytes=1e-05"):
        evaluate_action(run, shards, seeds=1, probes=["attentive"], token_gigabytes=1e-5, **QUICK)
    with pytest.raises(UserError, match="no probe 'atentive'; did you mean 'attentive'"):
        evaluate_action(run, shards, seeds=1, probes=["atentive"], **QUICK)
    with pytest.raises(UserError, match="neither: give other --probes"):
        evaluate_action(run, shards, seeds=1, encoder="audio", probes=["attentive"], **QUICK)


def test_pixels_are_the_same_beside_pictures_and_clips_and_only_encoders_with_maps_have_tokens(world):
    run, shards = world
    found = {}
    for encoder in ("video", "image"):
        bundles = [Encoders.from_pretrained(run), *pixel_bundles(encoder).values()]
        found[encoder] = extract_all(bundles, shards, encoder=encoder, tokens=18, **(QUICK | {"views": 2}))
    for one, other in zip(found["video"][1:], found["image"][1:], strict=True):
        np.testing.assert_array_equal(one.features, other.features)
        assert (one.tokens, other.tokens) == (None, None)
    assert found["video"][0].tokens.shape == (24, 2, 16, 4)  # one map a clip: 4 x 4 places
    assert found["image"][0].tokens.shape == (24, 2, 18, 4)  # two pictures a clip: 2 times of 3 x 3 places
    assert found["video"][1].features[0].any(axis=1).sum() == 0, "nothing moves"


def test_tables_keep_their_tokens(tmp_path):
    one = replace(table(6), tokens=np.arange(6 * 2 * 3 * 4, dtype=np.float16).reshape(6, 2, 3, 4))
    one.save(tmp_path / "features.npz")
    np.testing.assert_array_equal(FeatureTable.load(tmp_path / "features.npz").tokens, one.tokens)
    assert join([one, one]).tokens.shape == (12, 2, 3, 4)
    assert join([one, table(6)]).tokens is None
    with pytest.raises(ValueError, match="tokens must be"):
        replace(one, tokens=one.tokens[:5])


def test_faults_name_the_way_out(world, tmp_path):
    run, shards = world
    with pytest.raises(UserError, match=r"give either --shards .* or both --train and --test"):
        evaluate_action(run, shards, train=shards)
    with pytest.raises(UserError, match="group splits one set of clips"):
        evaluate_action(run, train=shards, test=shards, group="x")
    with pytest.raises(UserError, match="24 clips are in train and in test, the first is 'clip000'"):
        evaluate_action(run, train=shards, test=shards, seeds=1, **QUICK)
    with pytest.raises(UserError, match=re.escape("no encoder 'vidoe' in this bundle")):
        evaluate_action(run, shards, encoder="vidoe", seeds=1, **QUICK)
    with pytest.raises(UserError, match="seeds is 0"):
        evaluate_action(run, shards, seeds=0)
    unlabelled = planted_shards(tmp_path / "unlabelled", 2, label=None)
    with pytest.raises(UserError, match="2 of 2 clips have no label"):
        evaluate_action(run, unlabelled, seeds=1, **QUICK)
    with pytest.raises(UserError, match=r"seconds=0 and rate=8"):
        action(run, shards, seconds=0, rate=8)


def test_joined_tables_keep_what_was_left_out():
    one, two = table(6), table(6, seed=1)
    two = FeatureTable(two.keys, two.features, two.labels, two.metas, {"left_out": {"x": "has no sound"}})
    assert join([one, two]).about["left_out"] == {"x": "has no sound"}
    assert len(join([one, two])) == 12
