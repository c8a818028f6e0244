"""metrics.jsonl read back: cut lines, broken lines, curves by step."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.errors import UserError
from mmssl.report.history import (
    counters,
    curve,
    monitored,
    read_metrics,
    running_mean,
    score_curve,
    tasks,
    thin,
    warnings,
)
from tests.report.examples import metrics


def test_rows_come_back_as_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = metrics(200)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + "\n")
    assert read_metrics(path) == rows


@pytest.mark.parametrize("cut", ['{"event": "step", "st', '{"event": "step"}garbage', "[1, 2", "\u00e4"])
def test_a_cut_last_line_is_left_out(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"event": "step", "step": 1}\n' + cut.encode()[:-1])
    assert read_metrics(path) == [{"event": "step", "step": 1}]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step":\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: not a JSON object .*remove that line"):
        read_metrics(path)
    path.write_text("[1]\n{}\n")
    with pytest.raises(UserError, match="line 1: not a JSON object"):
        read_metrics(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.jsonl: no such file; give the metrics\.jsonl of a run"):
        read_metrics(tmp_path / "nothing.jsonl")


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_curve_is_sorted_the_later_row_of_a_step_counts_and_what_is_no_number_is_left_out():
    rows = [{"event": "step", "step": s, "loss": v} for s, v in [(20, 2.0), (10, 1.0), (20, 3.0), (30, math.nan)]]
    rows += [
        {"event": "step", "step": 40, "loss": "x"},
        {"event": "step", "step": 50},
        {"event": "other", "step": 60, "loss": 1},
    ]
    rows += [{"event": "step", "step": 70, "loss": True}, {"event": "step", "step": None, "loss": 1.0}]
    found = curve(rows, "step", "loss")
    assert found.steps.tolist() == [10, 20]
    assert found.values.tolist() == [1.0, 3.0]


def test_tasks_scores_and_monitor_are_found():
    rows = metrics(300)
    assert tasks(rows) == ["av_localization", "av_sync", "order_prediction", "rotation", "subtitle_matching"]
    scored = score_curve(rows, "av_sync")
    assert scored is not None
    assert (scored.score_name, scored.floor, scored.ceiling) == ("accuracy", 0.5, 1.0)
    assert scored.curve.steps.tolist() == [100, 200, 300]
    assert score_curve(rows, "absent") is None
    watched = monitored(rows)
    assert {"std", "effective_rank", "gradient/video", "gradient/audio", "gradient/image"} <= set(watched)
    assert [c.name for c in watched["gradient/audio"]] == ["av_sync", "rotation"]
    assert watched["gradient/audio"][0].values.tolist() == [0.15, 0.15, 0.15]
    assert len(scored.ablated.steps) == 3
    assert np.abs(scored.ablated.values - 0.5).max() < 0.05
    assert [c.name for c in watched["std"]] == ["video", "audio", "image"]


def test_warnings_and_counts_are_found():
    rows = metrics(300)
    assert warnings(rows) == [(100, "audio: effective rank 6.1 of 128")]
    assert counters(rows) == {"samples": 9600, "decoder_calls": 9600, "failed: truncated file": 2}
    nested = [{"event": "end", "counters": {"a": 1}}, {"event": "end", "counters": {"b": {"c": 2, "d": "x"}}}]
    assert counters(nested) == {"b: c": 2}
    assert counters([]) == {}


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.integers(1, 9).filter(lambda n: n % 2))
def test_running_mean_is_the_mean_of_the_neighbours(values, window):
    got = running_mean(np.array(values), window)
    half = window // 2
    want = [float(np.mean(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]
    if window == 1 or len(values) < 3:
        want = values
    np.testing.assert_allclose(got, want, atol=1e-9)


def test_thinning_keeps_the_ends_the_mean_and_at_most_so_many_points():
    steps = np.arange(1000.0)
    x, y = thin(steps, steps * 2, 100)
    assert len(x) == len(y) == 100
    assert (x[0], x[-1]) == (0, 999)
    assert y.mean() == pytest.approx((steps * 2).mean())
    assert thin(steps, steps, 1000)[0] is steps
