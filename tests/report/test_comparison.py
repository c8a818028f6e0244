"""Runs side by side: what is read, what is refused, and what may be said of a difference."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmssl.errors import UserError
from mmssl.evaluation.per_clip import PerClip
from mmssl.metrics.statistics import paired_difference
from mmssl.report.comparison import compare
from mmssl.report.comparison_page import comparison_page
from mmssl.report.comparison_table import markdown, table_lines
from mmssl.report.conditions import unequal
from mmssl.report.runs import find_results, read_result, read_results, scores_of, short_names
from pipelines.cli import main
from pipelines.evaluate import write_results

N = 60


def hits(rate, seeds=5, seed=0, n=N):
    return (np.random.default_rng(seed).random((seeds, n)) < rate).astype(float)


def write_action(folder, pretrained, keys=None, clips=True, **changes):
    """A results.json as `evaluate action` writes it, with its sidecar."""
    keys = keys or tuple(f"clip{n:03d}" for n in range(N))
    tables = {"linear/pretrained": pretrained, "linear/random_init": hits(0.3, len(pretrained), 9)}

    def told(table):
        by_seed = table.mean(axis=1)
        return {"mean": by_seed.mean(), "std": by_seed.std(), "seeds": by_seed.tolist(), "clip_accuracy": 0.5}

    results = {
        "evaluation": "action",
        "protocol": {"linear": "action-linear-v1"},
        "encoder": "video",
        "size": [96, 96],
        "views": 1,
        "clips": N,
        "classes": ["a", "b"],
        "seeds": len(pretrained),
        "shards": "corpus/test.tar",
        "chance": 0.5,
        "linear": {row.split("/")[1]: told(table) for row, table in tables.items()}
        | {"difference": {"mean": 0.1, "low": 0.0, "high": 0.2, "verdict": "above"}},
        "encoders": str(folder),
    } | changes
    per_clip = PerClip(keys, tuple(f"source{n // 2}" for n in range(N)), tables) if clips else None
    write_results(folder / "evaluation" / "action", results, per_clip)
    return folder


def test_a_difference_is_that_of_the_statistics_and_has_its_word(tmp_path):
    low, high = hits(0.4), hits(0.9, seed=1)
    runs = [write_action(tmp_path / name, table) for name, table in (("low", low), ("high", high))]
    made = compare(read_results(runs))
    assert made.names == ["low", "high"]
    found = made.difference("linear/pretrained", 1)
    wanted = paired_difference(high, low, np.array([f"source{n // 2}" for n in range(N)]))
    assert (found.mean, *found.interval) == pytest.approx((wanted.mean, wanted.low, wanted.high))
    assert (found.said, found.judged) == ("above", True)
    assert made.shared == {"linear/random_init"}, "equal clip by clip: one line for all runs"
    assert made.sentences() == [made.sentence(found)]
    assert made.sentences()[0].endswith(": above")
    lines = table_lines(made)
    assert [line[:2] for line in lines] == [
        ("linear: pretrained", "low"),
        ("linear: pretrained", "high"),
        ("linear: random init", "all runs"),
        ("chance", "all runs"),
    ]
    assert lines[0][4], "an interval over seeds and clips stands beside the mean"


def test_clips_in_another_order_are_paired_by_their_keys(tmp_path):
    table = hits(0.5)
    order = np.random.default_rng(3).permutation(N)
    keys = tuple(f"clip{n:03d}" for n in range(N))
    one = write_action(tmp_path / "one", table)
    other = write_action(tmp_path / "other", table[:, order], keys=tuple(keys[n] for n in order))
    made = compare(read_results([one, other]))
    found = made.difference("linear/pretrained", 1)
    assert found is None or (found.mean, found.interval) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": {"linear": "action-linear-v2"}}, r"protocol.linear: a action-linear-v1; b action-linear-v2"),
        ({"shards": "other/test.tar"}, "shards: a corpus/test.tar; b other/test.tar"),
        ({"views": 3}, "views: a 1; b 3"),
        ({"size": [64, 64]}, "size: a 96, 96; b 64, 64"),
        ({"classes": ["a", "c"]}, "classes: a a, b; b a, c"),
        ({"seconds": 4.0}, r"seconds: a \(none\); b 4.0"),
    ],
)
def test_numbers_of_different_conditions_are_refused_or_named(change, said, tmp_path):
    runs = [write_action(tmp_path / "a", hits(0.4)), write_action(tmp_path / "b", hits(0.9, seed=1), **change)]
    with pytest.raises(UserError, match=f"(?s)do not stand side by side.*{said}.*--anyway"):
        compare(read_results(runs))
    made = compare(read_results(runs), anyway=True)
    assert not any(d.judged for d in made.differences)
    assert "different" in made.difference("linear/pretrained", 1).said
    assert "**These numbers were taken under different conditions:**" in markdown(made)
    assert "do not stand side by side" in comparison_page(made)


def test_other_clips_are_refused_even_under_the_same_name(tmp_path):
    keys = tuple(f"clip{n:03d}" for n in range(1, N + 1))
    runs = [write_action(tmp_path / "a", hits(0.4)), write_action(tmp_path / "b", hits(0.4), keys=keys)]
    with pytest.raises(UserError, match="clips: a 1 of their own; b 1 of their own"):
        compare(read_results(runs))


def test_an_encoder_or_a_decoder_may_differ_and_is_told(tmp_path):
    runs = [write_action(tmp_path / "a", hits(0.4)), write_action(tmp_path / "b", hits(0.4), encoder="image")]
    found = unequal(read_results(runs))
    assert [(one.what, one.refused) for one in found] == [("encoder", False)]
    assert "encoder: a video; b image" in markdown(compare(read_results(runs)))


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({"pretrained": hits(0.2, 3)}, {"pretrained": hits(0.9, 3, 1)}, "not judged: 3 seeds, the rule asks for 5"),
        ({"pretrained": hits(0.2)}, {"pretrained": hits(0.9, seed=1), "clips": False}, "no per-clip scores .* of b"),
        ({"pretrained": hits(0.2)}, {"pretrained": hits(0.9, 6, 1)}, "cannot be paired by seed and clip"),
    ],
)
def test_nothing_is_said_where_the_rule_does_not_allow(first, second, why, tmp_path):
    a, b = write_action(tmp_path / "a", **first), write_action(tmp_path / "b", **second)
    found = compare(read_results([a, b])).difference("linear/pretrained", 1)
    assert not found.judged
    import re

    assert re.search(why, found.said)


def test_rows_with_several_metrics_are_read(tmp_path):
    """The layout of localization and propagation: the interval tells which number is the primary one."""
    localization = {
        "protocol": "localization-v1",
        "rows": {
            "model": {
                "peak_in_box": 0.7,
                "ciou": 0.2,
                "n": 40,
                "interval": {"peak_in_box": {"mean": 0.7, "low": 0.6, "high": 0.8}, "ciou": {"low": 0.1, "high": 0.3}},
            },
            "shuffled_sound": None,
        },
        "model_minus": {"centre_disc": {"mean": 0.3, "low": 0.2, "high": 0.4}},
    }
    [score] = scores_of(localization)
    assert (score.row, score.metric, score.mean, score.interval, score.n) == (
        "model",
        "peak_in_box",
        0.7,
        (0.6, 0.8),
        40,
    )
    assert score.further == {"ciou": 0.2}
    rows = {"model": {"j": 0.5, "j_and_f": 0.6, "f": 0.7, "interval": {"mean": 0.6, "low": 0.5, "high": 0.7}}}
    [score] = scores_of({"rows": rows, "settings": {"memory": {"mean": 3}}})
    assert (score.metric, score.mean, score.interval) == ("j_and_f", 0.6, (0.5, 0.7))
    nested = {
        "retrieval": {"pretrained": {"r@1": {"mean": 0.4, "std": 0.1, "seeds": [0.3, 0.5]}, "r@5": {"mean": 0.6}}}
    }
    [score] = scores_of(nested)
    assert (score.row, score.metric, score.seeds, score.further) == (
        "retrieval/pretrained",
        "r@1",
        (0.3, 0.5),
        {"r@5": 0.6},
    )


def test_rows_of_every_layout_are_found():
    image = {
        "linear": {
            "rows": {"pretrained": {"mean": 0.5, "std": 0.1, "seeds": [0.4, 0.6], "top_5": 0.9}},
            "pretrained_minus": {"pixels": {"mean": 0.3, "low": 0.1, "high": 0.4}},
        }
    }
    [score] = scores_of(image)
    assert (score.row, score.mean, score.further) == ("linear/pretrained", 0.5, {"top_5": 0.9})
    segmentation = {"rows": {"pretrained": {"mean_iou": 0.5, "std": 0.1, "seeds": [0.4, 0.6], "class_iou": {"a": 0.2}}}}
    [score] = scores_of(segmentation)
    assert (score.metric, score.mean, score.std, score.seeds) == ("mean_iou", 0.5, 0.1, (0.4, 0.6))
    directions = {
        "sound_to_picture": {
            "pretrained": {"r_at_1": 0.2, "queries": 512, "interval": {"r_at_1": {"low": 0.1, "high": 0.3}}},
            "random_init": {"r_at_1": 0.1, "std": {"r_at_1": 0.02}, "seeds": [{"r_at_1": 0.08}, {"r_at_1": 0.12}]},
            "pretrained_minus_random_init": {"r_at_1": {"mean": 0.1, "low": 0.0, "high": 0.2}},
        }
    }
    first, second = scores_of({"directions": directions})
    assert (first.row, first.interval, first.further) == ("sound_to_picture/pretrained", (0.1, 0.3), {})
    assert (second.std, second.seeds) == (0.02, (0.08, 0.12))
    presence = {
        "presence": {"clips": {"seen": 40}, "rows": {"model": {"silent": {"auc": 0.9, "low": 0.8, "high": 1.0}}}}
    }
    [score] = scores_of(presence)
    assert (score.row, score.metric, score.interval) == ("presence/model/silent", "auc", (0.8, 1.0))
    listed = {"linear": {"pretrained": {"mean": 0.5, "std": 0.1, "seeds": [0.5], "interval": [0.4, 0.6]}}}
    [score] = scores_of(listed)
    assert score.interval == (0.4, 0.6)


def test_shards_written_in_two_ways_are_the_same_shards(tmp_path, monkeypatch):
    (tmp_path / "test-000000.tar").write_bytes(b"\0" * 10240)
    monkeypatch.chdir(tmp_path)
    for name, spec in (("a", "test-000000.tar"), ("b", str(tmp_path / "test-{000000..000000}.tar"))):
        write_action(tmp_path / name, hits(0.4), shards=spec)
    assert unequal(read_results([tmp_path / "a", tmp_path / "b"])) == []


def test_faults_name_the_way_out(tmp_path):
    run = write_action(tmp_path / "run", hits(0.5))
    with pytest.raises(UserError, match="needs two or more"):
        read_results([run])
    with pytest.raises(UserError, match=r"nothing' holds no results.json.*run `mmssl evaluate"):
        read_results([run, tmp_path / "nothing"])
    with pytest.raises(UserError, match=r"not evaluated by 'actoin' \(there: action\); did you mean 'action'"):
        find_results([run], "actoin")
    write_results(run / "evaluation" / "knn", json.loads((run / "evaluation/action/results.json").read_text()))
    with pytest.raises(UserError, match=r"all have action, knn.*--evaluation"):
        read_results([run, run])
    (tmp_path / "results.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="holds no scores"):
        read_result(tmp_path / "results.json")
    (run / "evaluation/action/scores.npz").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be read"):
        read_results([run, run], "action")


def test_names_of_runs_are_as_short_as_they_can_be(tmp_path):
    assert short_names([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ["a/run", "b/run"]
    assert short_names([tmp_path, tmp_path]) == [f"{tmp_path.name} (1)", f"{tmp_path.name} (2)"]


def test_the_command_writes_table_page_and_json(tmp_path, capsys):
    runs = [
        write_action(tmp_path / name, hits(rate, seed=n)) for n, (name, rate) in enumerate((("a", 0.2), ("b", 0.9)))
    ]
    main(["evaluate", "compare", *map(str, runs), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert "linear: pretrained: b minus a" in shown
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["compare.json", "compare.md", "index.html"]
    stored = json.loads((tmp_path / "out" / "compare.json").read_text())
    [judged] = [d for d in stored["differences"] if d["row"] == "linear/pretrained"]
    assert judged["said"] == "above"
    assert judged["low"] > 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<svg" in page
    assert "chance 50.0 %" in page


def test_hostile_names_make_no_element(tmp_path):
    evil = '<img src=x onerror="alert(1)">|'
    runs = [write_action(tmp_path / "a", hits(0.2)), write_action(tmp_path / "b", hits(0.9), encoder=evil)]
    made = compare(read_results(runs))
    assert "<img" not in comparison_page(made)
    assert "\\|" in markdown(made)


def test_a_new_evaluation_leaves_no_sidecar_of_an_old_one(tmp_path):
    run = write_action(tmp_path / "run", hits(0.5))
    assert (run / "evaluation/action/scores.npz").is_file()
    write_action(run, hits(0.5), clips=False)
    assert not (run / "evaluation/action/scores.npz").is_file()


def test_per_clip_scores_come_back_as_they_were(tmp_path):
    table = hits(0.5)
    table[:, 3] = np.nan
    one = PerClip(tuple(f"k{n}" for n in range(N)), ("s",) * N, {"linear/pretrained": table})
    one.save(tmp_path / "scores.npz")
    again = PerClip.load(tmp_path / "scores.npz")
    np.testing.assert_array_equal(again.values["linear/pretrained"], table)
    assert (again.keys, again.groups) == (one.keys, one.groups)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.npz"]
    with pytest.raises(ValueError, match="2 keys"):
        PerClip(("a", "a"), ("s", "s"), {})
