import json

import numpy as np
import pytest

from mmssl.errors import UserError
from mmssl.localization.evaluate import evaluate_localization
from mmssl.metrics.localization import success_auc
from mmssl.nn.encoders import Encoders
from pipelines.localize import run
from tests.evaluation.oracle import planted_run, planted_shards


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return planted_run(folder / "run"), planted_shards(folder / "shards", 20)


@pytest.fixture(scope="module")
def results(world):
    run_folder, shards = world
    bundle, head = Encoders.from_pretrained(run_folder), Encoders.load_head(run_folder, "av_localization")
    scores = evaluate_localization(bundle, head, shards, size=48, workers=0, batch_size=8)
    return scores, scores.as_dict()


def test_a_planted_map_scores_everything_and_the_wrong_sound_nothing(results):
    _, found = results
    assert found["peak_in_box"] == 1.0
    assert found["shuffled_sound"] == 0.0, "the other square sounds in every clip of the other kind"
    assert found["clips"] == found["n"] == 20


def test_trivial_maps_score_what_they_must(results):
    scores, found = results
    area = (12 / 48) ** 2
    assert found["silenced_sound"] == pytest.approx(area, abs=0.01), "a constant map points everywhere"
    assert found["whole_frame"] == pytest.approx(area, abs=0.01)
    assert found["centre_prior"] == 0.0, "no square covers the centre"
    assert found["motion_saliency"] < 0.5, "both squares stand still"
    assert found["rows"]["whole_frame"]["iou_fixed"] == pytest.approx(area, abs=0.01)
    assert found["rows"]["ceiling"]["ciou"] == 0.0, "boxes of 6 % can never reach 0.5 under a half-area mask"
    assert (scores.ciou["model"] <= scores.ceiling + 1e-6).all()
    # As published, a map that is zero in more than half of its places is cut at zero: the whole picture.
    assert found["rows"]["model"]["mean_ciou"] == pytest.approx(area, abs=0.01)
    assert found["rows"]["model"]["iou_fixed"] > 0.6


def test_intervals_and_differences_are_paired(results):
    _, found = results
    difference = found["model_minus"]["shuffled_sound"]
    assert (difference["low"], difference["high"], difference["verdict"]) == (1.0, 1.0, "above")
    inside = found["rows"]["random_map"]["interval"]["peak_in_box"]
    assert inside["low"] <= found["random_map"] <= inside["high"]
    auc = found["rows"]["model"]["interval"]["auc"]
    assert auc["mean"] == pytest.approx(found["auc"])


def test_the_auc_of_each_sample_averages_to_the_auc():
    from mmssl.localization.scores import auc_of_each

    values = np.random.default_rng(0).random(50)
    assert auc_of_each(values).mean() == pytest.approx(success_auc(values))


def test_several_frames_a_clip_and_workers(world):
    run_folder, shards = world
    bundle, head = Encoders.from_pretrained(run_folder), Encoders.load_head(run_folder, "av_localization")
    found = evaluate_localization(bundle, head, shards, size=48, frames=3, workers=2, batch_size=16).as_dict()
    assert (found["n"], found["clips"]) == (60, 20)
    assert found["judged"] == "3 frames evenly spread over the clip"
    assert found["peak_in_box"] == 1.0


def test_a_cut_picture_carries_its_boxes(world):
    """The model sees the middle quarter of each picture; squares that are cut off are not judged."""
    run_folder, shards = world
    bundle, head = Encoders.from_pretrained(run_folder), Encoders.load_head(run_folder, "av_localization")
    found = evaluate_localization(bundle, head, shards, size=(12, 48), workers=0).as_dict()
    assert 0 < found["n"] < 20
    assert found["peak_in_box"] > 0.9


def test_the_program_draws_and_scores(world, tmp_path, capsys):
    run_folder, shards = world
    results = run(run_folder, tmp_path / "out", shards=shards, size=48, limit=2, workers=0, rate=5)
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored == json.loads(json.dumps(results))
    assert stored["peak_in_box"] == 1.0
    assert [one["hit"] for one in stored["drawn"]] == [1.0, 1.0]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "clip000.mp4",
        "clip000.npz",
        "clip000.png",
        "clip001.mp4",
        "clip001.npz",
        "clip001.png",
        "index.html",
        "media",
        "results.json",
        "scores.npz",
    ]
    shown = " ".join(capsys.readouterr().out.split())
    assert "Sound localization, localization-v2" in shown
    assert "ceiling" in shown
    assert f"sha256 of the boxes {stored['annotations']['boxes_sha256']}" in shown
    page = (tmp_path / "out" / "index.html").read_text()
    assert "media/clip000.mp4" in page
    assert "peak in box" in page
    assert sorted(p.name for p in (tmp_path / "out" / "media").iterdir()) == ["clip000.mp4", "clip001.mp4"]


def test_clips_that_cannot_be_judged_are_counted_or_refused(world, tmp_path):
    run_folder, _ = world
    bundle, head = Encoders.from_pretrained(run_folder), Encoders.load_head(run_folder, "av_localization")
    nothing = planted_shards(tmp_path / "none", 2, truth=None)
    with pytest.raises(UserError, match=r"no clip of .* can be judged \(2 without boxes\)"):
        evaluate_localization(bundle, head, nothing, size=48, workers=0)
    pairs = Encoders.load_head(run_folder, "pairs_only")
    with pytest.raises(UserError, match="the head PairsOnly has no map over the picture"):
        evaluate_localization(bundle, pairs, nothing, size=48, workers=0)


def test_faults_name_the_way_out(world, tmp_path):
    run_folder, shards = world
    with pytest.raises(UserError, match="give either --shards or --video"):
        run(run_folder, tmp_path / "out")
    with pytest.raises(UserError, match=r"no exported head 'av_localisation' .*did you mean 'av_localization'"):
        run(run_folder, tmp_path / "out", shards=shards, head="av_localisation")
    with pytest.raises(UserError, match=r"video '.*nothing.mp4' cannot be read"):
        run(run_folder, tmp_path / "out", video=tmp_path / "nothing.mp4")
    assert not (tmp_path / "out").exists()
