import json

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.metrics.localization import (
    centre_disc,
    ciou,
    ciou_ceiling,
    consensus_truth,
    fixed_threshold_iou,
    median_mask,
    peak_in_box,
    published_ciou,
    resize_map,
    success_auc,
    success_rate,
    union_truth,
    whole_frame,
)
from tests.requirements import real_data


def test_a_map_that_is_the_truth_of_half_the_picture_scores_one():
    truth = union_truth([[0.0, 0.0, 0.5, 1.0]])
    assert published_ciou(truth[None], truth[None]).tolist() == [1.0]
    assert fixed_threshold_iou(truth[None], truth[None]).tolist() == [1.0]
    assert peak_in_box(truth[None], truth[None]).tolist() == [1.0]


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 220))
def test_no_half_area_mask_passes_the_ceiling_and_the_oracle_reaches_it(columns):
    truth = np.zeros((224, 224))
    truth[:, :columns] = 1
    oracle = np.tile(-np.arange(224.0), (224, 1))  # the true columns first, then the rest
    ceiling = float(ciou_ceiling(truth[None])[0])
    f = columns / 224
    assert ceiling == pytest.approx(min(2 * f, 0.5 / f))
    assert published_ciou(oracle[None], truth[None])[0] == pytest.approx(ceiling, abs=0.01)
    random = np.random.default_rng(columns).random((224, 224))
    assert published_ciou(random[None], truth[None])[0] <= ceiling


def test_the_whole_frame_scores_the_true_area():
    truth = union_truth([[0.25, 0.25, 0.75, 0.75]])
    assert published_ciou(whole_frame()[None], truth[None])[0] == pytest.approx(0.25)
    assert fixed_threshold_iou(whole_frame()[None], truth[None])[0] == pytest.approx(0.25)
    assert peak_in_box(whole_frame()[None], truth[None])[0] == pytest.approx(0.25)


def test_the_centre_disc_covers_half_of_the_picture():
    mask = median_mask(centre_disc())
    assert mask.mean() == pytest.approx(0.5, abs=1e-3)
    assert mask[112, 112]
    assert not mask[0, 0]
    assert peak_in_box(centre_disc()[None], union_truth([[0.4, 0.4, 0.6, 0.6]])[None])[0] == 1.0
    assert peak_in_box(centre_disc()[None], union_truth([[0.6, 0.4, 0.8, 0.6]])[None])[0] == 0.0


def test_random_maps_score_the_area_by_their_peak():
    rng = np.random.default_rng(0)
    truth = np.repeat(union_truth([[0.0, 0.0, 0.5, 0.4]])[None], 400, axis=0)
    assert peak_in_box(rng.random((400, 12, 12)), truth).mean() == pytest.approx(0.2, abs=0.06)


def test_consensus_asks_for_two_annotators():
    truth = consensus_truth([[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.25, 1.0], [0.0, 0.0, 0.25, 1.0]])
    assert truth[0, 0] == 1.0
    assert truth[0, 100] == 0.5
    assert truth[0, 200] == 0.0
    # By the formula: found 56*1 + 56*.5 of the same sum, nothing wrong.
    mask = np.zeros((224, 224), bool)
    mask[:, :112] = True
    assert ciou(mask, truth) == 1.0
    mask[:, :140] = True
    assert ciou(mask, truth) == pytest.approx(84 / (84 + 28))


def test_union_counts_an_overlap_once():
    truth = union_truth([[0.0, 0.0, 0.5, 1.0], [0.25, 0.0, 0.75, 1.0]])
    assert truth.mean() == pytest.approx(0.75)


def test_auc_is_the_trapezoid_of_21_thresholds():
    values = np.random.default_rng(0).random(300)
    x = [0.05 * i for i in range(21)]
    y = [float(np.mean(values >= t)) for t in x]
    assert success_auc(values) == pytest.approx(sklearn.metrics.auc(x, y))
    assert success_rate(values) == pytest.approx(y[10])
    assert success_auc(np.ones(3)) == pytest.approx(1.0)


def test_resizing_keeps_a_peak_at_its_cell_centre():
    cells = np.zeros((12, 12))
    cells[3, 8] = 1.0
    y, x = np.unravel_index(resize_map(cells).argmax(), (224, 224))
    assert (y + 0.5) / 224 == pytest.approx(3.5 / 12, abs=0.5 / 224)
    assert (x + 0.5) / 224 == pytest.approx(8.5 / 12, abs=0.5 / 224)


def test_trivial_maps_score_on_vgg_sound_sources_what_was_worked_out():
    entries = json.loads((real_data() / "B" / "vggss_boxes.json").read_text())
    disc, everywhere = median_mask(centre_disc()), median_mask(whole_frame())
    rows = {"disc": [], "whole": [], "ceiling": []}
    for entry in entries:
        truth = union_truth(entry["bbox"])
        rows["disc"].append(ciou(disc, truth))
        rows["whole"].append(ciou(everywhere, truth))
        rows["ceiling"].append(float(ciou_ceiling(truth[None])[0]))
    scores = {name: (100 * success_rate(values), 100 * success_auc(values)) for name, values in rows.items()}
    assert len(entries) == 5158
    assert scores["disc"] == pytest.approx((34.0, 37.4), abs=0.2)
    assert scores["ceiling"] == pytest.approx((50.6, 49.5), abs=0.2)
    assert scores["whole"] == pytest.approx((22.0, 31.3), abs=0.2)
