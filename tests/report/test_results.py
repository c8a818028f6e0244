"""Content from what training and evaluation leave behind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmssl.errors import UserError
from mmssl.report import ReportContent, action_probe, pretext_rows, read_spectra, write_report
from tests.report.examples import metrics

RESULTS = {
    "evaluation": "action",
    "protocol": {"linear": "action-linear-v1", "knn": "action-knn-v1"},
    "split": "the clips' field `split`",
    "test_clips": 240,
    "classes": ["roll", "spin"],
    "chance": 0.5,
    "majority": 0.6,
    "linear": {
        "pretrained": {"mean": 0.9, "std": 0.01, "seeds": [0.89, 0.91], "clip_accuracy": 0.88},
        "random_init": {"mean": 0.6, "std": 0.02, "seeds": [0.58, 0.62]},
        "file_facts": {"mean": 0.55, "std": 0.0, "seeds": [0.55, 0.55]},
        "difference": {"mean": 0.3, "low": 0.25, "high": 0.35, "verdict": "above"},
    },
    "knn": {
        "pretrained": {"mean": 0.8, "std": 0.0, "seeds": [0.8, 0.8]},
        "random_init": {"mean": 0.5, "std": 0.0, "seeds": [0.5, 0.5]},
        "difference": {"mean": 0.3, "low": 0.2, "high": 0.4, "verdict": "above"},
    },
    "confusion": [[100, 20], [10, 110]],
}


def test_the_last_held_out_scores_become_the_table():
    rows = pretext_rows(metrics(300), {"rotation": "how often turned"})
    assert [r.task for r in rows][:2] == ["av_localization", "av_sync"]
    turned = next(r for r in rows if r.task == "rotation")
    last = [r for r in metrics(300) if r.get("task") == "rotation"][-1]
    assert (turned.score, turned.floor, turned.ceiling) == (last["score"], 0.25, 1.0)
    assert (turned.ablated, turned.samples, turned.asks) == (last["ablated"], 600, "how often turned")
    assert turned.higher_is_better


def test_scores_that_are_missing_make_no_row_and_a_low_ceiling_turns_the_direction():
    row = {
        "event": "heldout",
        "step": 1,
        "task": "t",
        "score_name": "error",
        "score": 2.0,
        "floor": 10.0,
        "ceiling": 0.0,
    }
    (found,) = pretext_rows([row])
    assert not found.higher_is_better
    assert found.samples is None
    assert pretext_rows([row, {**row, "step": 2, "score": None}]) == ()
    assert pretext_rows([{**row, "floor": None}]) == ()


def test_an_action_evaluation_becomes_the_probe(tmp_path):
    probe = action_probe(json.loads(json.dumps(RESULTS)))
    assert (probe.pretrained.mean, probe.pretrained.std, probe.pretrained.seeds) == (0.9, 0.01, (0.89, 0.91))
    assert (probe.random_init.mean, probe.chance, probe.interval, probe.clips) == (0.6, 0.5, (0.25, 0.35), 240)
    assert probe.knn_pretrained is not None
    assert probe.knn_pretrained.mean == 0.8
    assert [(name, s.mean) for name, s in probe.others] == [("linear probe, file facts", 0.55), ("largest class", 0.6)]
    assert probe.protocol == "action-linear-v1, action-knn-v1; the clips' field `split`"
    assert probe.confusion is not None
    assert probe.confusion.tolist() == [[100, 20], [10, 110]]
    text = write_report(tmp_path, ReportContent("t", action=probe)).read_text()
    assert "linear probe, file facts" in text
    assert "roll: 83 % right; spin: 92 % right" in text


def test_spectra_are_read_and_faults_named(tmp_path):
    path = tmp_path / "spectrum.json"
    with pytest.raises(UserError, match=r"spectrum\.json: no such file; give the spectrum\.json of a finished run"):
        read_spectra(path)
    found = {"singular_values": [1.0, 0.5], "samples": 40, "width": 2, "std": 0.9, "effective_rank": 1.9,
             "effective_rank_uncentred": 1.5, "warning": "few"}  # fmt: skip
    path.write_text(json.dumps({"step": 9, "encoders": {"video": found}}))
    (spectrum,) = read_spectra(path, {"video": np.array([1.0, 0.1])})
    assert (spectrum.encoder, spectrum.width, spectrum.samples, spectrum.warning) == ("video", 2, 40, "few")
    assert spectrum.singular_values.tolist() == [1.0, 0.5]
    assert spectrum.random_init is not None
    for broken in ("{", "[]", '{"encoders": {"video": {}}}', '{"encoders": [1]}'):
        path.write_text(broken)
        with pytest.raises(UserError, match=r"spectrum\.json: not a spectrum\.json as training writes it"):
            read_spectra(path)
