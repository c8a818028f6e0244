"""Boxes of several annotators, the hash of boxes, and how sure a map is, in the scores of a model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmssl.errors import UserError
from mmssl.localization.consensus import annotators_of, boxes_by_annotator, judged_truth
from mmssl.localization.evaluate import evaluate_localization
from mmssl.localization.provenance import annotations_of, boxes_hash
from mmssl.localization.scores import confidence, row_of
from mmssl.metrics.localization import consensus_truth, union_truth
from mmssl.nn.encoders import Encoders
from tests.corpora import write_tar
from tests.evaluation.oracle import planted_clip, planted_run

LEFT, RIGHT, ALL = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)
STILL = {"duration": 2.0, "start": 0.0}
NO_CUT = (np.eye(2, 3), (64, 64))


def clip(boxes, annotators=None, **more):
    truth = {"boxes": [list(box) for box in boxes]} | ({} if annotators is None else {"annotators": annotators})
    return STILL | {"truth": truth} | more


def test_several_annotators_make_a_consensus_and_one_makes_a_union():
    mask, count = judged_truth(clip([LEFT, LEFT, ALL], ["a", "b", "c"]), 1.0, "k", *NO_CUT)
    assert count == 3
    np.testing.assert_array_equal(mask, consensus_truth([LEFT, LEFT, ALL]))
    assert (mask[0, 0], mask[0, 200]) == (1.0, 0.5)
    for annotators in (None, ["a", "a"]):
        mask, count = judged_truth(clip([LEFT, RIGHT], annotators), 1.0, "k", *NO_CUT)
        assert count == 1
        np.testing.assert_array_equal(mask, union_truth([LEFT, RIGHT]))


def test_overlapping_boxes_of_one_annotator_are_no_agreement():
    mask, count = judged_truth(clip([LEFT, LEFT, RIGHT], ["a", "a", "b"]), 1.0, "k", *NO_CUT)
    assert count == 2
    assert (mask == 0.5).all()


def test_who_drew_nothing_in_the_cut_frame_still_counts():
    cut = np.array([[1.0, 0.0, -32.0], [0.0, 1.0, 0.0]])  # the model sees the middle half of a picture 128 wide
    mask, count = judged_truth(clip([(0.0, 0.0, 0.2, 1.0), (0.25, 0.0, 0.5, 1.0)], ["a", "b"]), 1.0, "k", cut, (64, 64))
    assert (count, mask.max()) == (2, 0.5)
    assert judged_truth(clip([(0.0, 0.0, 0.2, 1.0)], ["a"]), 1.0, "k", cut, (64, 64)) is None


def test_annotators_of_a_manifest_are_read_and_must_fit():
    meta = STILL | {"extra": {"bbox": json.dumps([LEFT, RIGHT]), "annotators": '["a", "b"]'}}
    assert annotators_of(meta) == ["a", "b"]
    assert boxes_by_annotator(meta, 1.0) == [[LEFT], [RIGHT]]
    assert boxes_by_annotator(meta, 9.0) == [], "they hold around the middle"
    with pytest.raises(UserError, match=r"clip 'k': 2 boxes need as many annotators, found \['a'\]"):
        annotators_of(clip([LEFT, RIGHT], ["a"]), "k")


def test_the_annotation_file_is_found_in_the_clip_or_beside_the_shards(tmp_path):
    named = {"file": "boxes.json", "sha256": "ab" * 32}
    metas = {"x": clip([LEFT], annotations=named), "y": clip([RIGHT])}
    found = annotations_of(metas)
    assert found["files"] == [named]
    assert found["clips"] == 2
    assert annotations_of({"x": clip([LEFT]) | {"extra": {"annotations": named}}})["files"] == [named]
    plain = {"x": clip([LEFT])}
    assert annotations_of(plain, [tmp_path / "a.tar"])["files"] == []
    (tmp_path / "build.json").write_text(json.dumps({"annotations": named}))
    assert annotations_of(plain, [tmp_path / "a.tar"])["files"] == [named]


def test_the_hash_of_the_boxes_is_of_the_boxes_alone():
    one, two = clip([LEFT]), clip([RIGHT])
    assert boxes_hash({"x": one, "y": two}) == boxes_hash({"y": two, "x": one | {"label": "other"}})
    assert boxes_hash({"x": one}) != boxes_hash({"x": two})
    assert boxes_hash({"x": one}) != boxes_hash({"x": clip([LEFT], ["a"])})


def test_how_sure_a_map_is_and_its_average_precision():
    maps = np.zeros((2, 4, 4))
    maps[0, :2, :2] = 2.0
    whole = np.full((2, 224, 224), 3.0)
    assert confidence(whole).tolist() == [3.0, 3.0]
    assert 1.2 < confidence(maps)[0] < 2.0
    random = np.random.default_rng(0)
    ciou, sure = random.random(60), random.random(60)
    row = row_of(ciou, ciou, ciou, np.arange(60), sure)
    right = ciou >= 0.5
    # scikit-learn's recall counts right finds; ours the clips with a box, all of which could have been found.
    assert row["ap_ciou"] == pytest.approx(average_precision_score(right, sure) * right.mean())
    assert row["ap_published"] > row["ap_ciou"]
    assert row_of(ciou, ciou, ciou, np.arange(60), np.ones(60))["ap_published"] is None
    assert row_of(ciou, ciou, ciou, np.arange(60), np.ones(60))["ap_ciou"] == pytest.approx(right.mean() ** 2)
    assert "ap_ciou" not in row_of(ciou, ciou, ciou, np.arange(60))


def test_a_model_is_judged_against_the_consensus_and_faults_name_clip_and_source(tmp_path):
    run = planted_run(tmp_path / "run")
    bundle, head = Encoders.from_pretrained(run), Encoders.load_head(run, "av_localization")

    def shards(name, change):
        samples = []
        for number in range(4):
            data, meta = planted_clip(number)
            change(meta["truth"])
            samples.append((f"clip{number}", {"mp4": data, "json": json.dumps(meta).encode()}))
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "a-000000.tar", samples)
        return str(tmp_path / name)

    def three(truth):
        box = truth["boxes"][0]
        truth.pop("box_times")
        truth.update(boxes=[box, box, list(ALL)], annotators=["a", "b", "c"])

    found = evaluate_localization(bundle, head, shards("three", three), size=48, workers=0).as_dict()
    assert found["truth"] == "consensus of 3 annotators"
    assert found["peak_in_box"] == 1.0
    assert found["rows"]["whole_frame"]["mean_ciou"] == pytest.approx(1.0), "all of it was drawn by somebody"
    assert found["average_precision"] == found["rows"]["model"]["ap_ciou"]
    assert found["rows"]["model"]["ap_peak"] == 1.0
    assert len(found["annotations"]["boxes_sha256"]) == 64

    def outside(truth):
        truth["boxes"] = [[0.5, 0.5, 1.5, 0.9]] * len(truth["boxes"])

    with pytest.raises(UserError, match=r"clip 'clip0': the box .* is not in fractions .*cut from 'film000_take0.mp4'"):
        evaluate_localization(bundle, head, shards("outside", outside), size=48, workers=0)
