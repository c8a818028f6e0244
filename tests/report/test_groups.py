"""Pretrainings of one method in a comparison: which runs they are, their score, and what is judged of methods."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml

from mmssl.errors import UserError
from mmssl.metrics.statistics import paired_difference
from mmssl.report.comparison import compare
from mmssl.report.comparison_page import comparison_page
from mmssl.report.comparison_table import heads, markdown, notes, table_lines
from mmssl.report.runs import read_results
from pipelines.cli import main
from tests.report.test_comparison import N, hits, write_action

ROW = "linear/pretrained"


def write_run(folder, table, seed=0, steps=100, **changes):
    """A run with its training settings and what `evaluate action` left in it."""
    write_action(folder, table, **changes)
    tasks = {"av_sync": {"class_path": "mmssl.tasks.cross_modal.av_sync.AVSync"}}
    settings = {"run": str(folder), "tasks": tasks, "train": {"steps": steps}, "seed": seed}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def method(folder, name, tables, steps):
    return [write_run(folder / f"{name}-{n}", table, n, steps) for n, table in enumerate(tables)]


def test_runs_that_differ_in_their_seed_alone_are_one_method(tmp_path):
    tables = [hits(0.5, seed=n) for n in range(3)]
    runs = method(tmp_path, "short", tables, 100) + method(tmp_path, "long", [hits(0.9, seed=8)], 500)
    order = [runs[0], runs[3], runs[2], runs[1]]
    made = compare(read_results(order))
    assert made.names == ["short (3 pretrainings)", "long-0"], "in the order of their first runs"
    assert [run.name for run in made.groups[0].runs] == ["short-0", "short-2", "short-1"]
    score, means = made.results[0].score(ROW), [table.mean() for table in tables]
    assert (score.mean, score.std) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
    assert score.seeds == pytest.approx([means[0], means[2], means[1]])
    assert score.interval[0] < score.mean < score.interval[1]
    found = made.difference(ROW, 1)
    assert found.mean == pytest.approx(hits(0.9, seed=8).mean() - np.mean(means))
    assert (found.said, found.judged) == ("above", True)
    assert made.shared == {"linear/random_init"}
    said = " ".join(notes(made))
    assert "short (3 pretrainings): short-0, short-2, short-1." in said
    assert "One pretraining: long-0." in said


def test_equal_pretrainings_have_the_interval_of_one_run(tmp_path):
    a, b = hits(0.5), hits(0.6, seed=1)
    runs = method(tmp_path, "a", [a, a, a], 100) + method(tmp_path, "b", [b, b, b], 500)
    made = compare(read_results(runs))
    single = compare(read_results([runs[0], runs[3]]))
    wanted = paired_difference(b, a, np.array([f"source{n // 2}" for n in range(N)]))
    for one in (made, single):
        found = one.difference(ROW, 1)
        assert (found.mean, *found.interval) == pytest.approx((wanted.mean, wanted.low, wanted.high), abs=1e-12)
    assert made.results[0].score(ROW).interval == pytest.approx(single.results[0].score(ROW).interval)
    assert made.results[0].score(ROW).std == 0.0
    assert single.names == ["a-0", "b-0"]
    assert heads(single)[3] == "std of seeds"
    assert heads(made)[3] == "std of pretrainings"


def test_methods_drawn_alike_are_undecided_where_single_runs_would_be_judged(tmp_path):
    """Pretrainings of both methods score 40 % or 80 %: two of them say anything, all together nothing."""
    easy = np.random.default_rng(0).random((5, N))
    rates = (0.4, 0.8, 0.4, 0.8)
    first = method(tmp_path, "a", [(easy < rate).astype(float) for rate in rates], 100)
    second = method(tmp_path, "b", [(easy < rate).astype(float) for rate in reversed(rates)], 500)
    made = compare(read_results(first + second)).difference(ROW, 1)
    assert made.said == "undecided"
    assert made.mean == pytest.approx(0.0)
    assert made.interval[1] - made.interval[0] > 0.4
    assert compare(read_results([first[0], second[0]])).difference(ROW, 1).said == "above"
    assert compare(read_results([first[1], second[1]])).difference(ROW, 1).said == "behind"


def test_two_pretrainings_have_an_interval_and_no_word(tmp_path):
    runs = method(tmp_path, "a", [hits(0.2, seed=n) for n in range(2)], 100) + method(tmp_path, "b", [hits(0.9)], 500)
    found = compare(read_results(runs)).difference(ROW, 1)
    assert (found.said, found.judged) == ("not judged: a (2 pretrainings), the spread asks for 3", False)
    assert found.interval[0] > 0.5


def test_what_is_no_other_pretraining_is_not_taken_for_one(tmp_path):
    first = write_run(tmp_path / "first", hits(0.5))
    longer = write_run(tmp_path / "longer", hits(0.5, seed=1), seed=1, steps=200)
    picture = write_run(tmp_path / "picture", hits(0.5, seed=2), seed=2, encoder="image")
    resumed = write_run(tmp_path / "resumed", hits(0.5, seed=3), seed=3)
    settings = yaml.safe_load((resumed / "config.yaml").read_text()) | {"run": "elsewhere"}
    moved = resumed / "config.resumed-at-50.yaml"
    moved.write_text(yaml.safe_dump(settings | {"train": {"steps": 300}}))
    foreign = write_action(tmp_path / "foreign", hits(0.5, seed=4))
    broken = write_run(tmp_path / "broken", hits(0.5, seed=5), seed=5)
    (broken / "config.yaml").write_text("a: [")
    made = compare(read_results([first, longer, picture, resumed, foreign, broken]))
    assert made.names == ["first", "longer", "picture", "resumed", "foreign", "broken"]
    moved.write_text(yaml.safe_dump(settings))  # resumed under another path alone
    assert compare(read_results([first, longer, resumed])).names == ["first and 1 more (2 pretrainings)", "longer"]


def test_a_seed_twice_is_the_same_training_and_stays_apart(tmp_path):
    runs = [write_run(tmp_path / name, hits(0.5, seed=n), seed=0) for n, name in enumerate(("one", "again"))]
    made = compare(read_results(runs))
    assert made.names == ["one", "again"]
    assert "one, again: one configuration, but a seed occurs twice" in notes(made)[-1]
    assert made.difference(ROW, 1).judged


def test_a_pattern_says_which_runs_are_one_method(tmp_path):
    runs = [write_action(tmp_path / name, hits(0.5, seed=n)) for n, name in enumerate(("av_s0", "av_s1", "pace_s0"))]
    made = compare(read_results(runs), group=r"/(\w+)_s\d$")
    assert made.names == ["av (2 pretrainings)", "pace_s0"]
    ours = [write_run(tmp_path / f"x{n}", hits(0.5, seed=n), seed=n) for n in range(2)]
    together = compare(read_results(ours))
    assert together.names == ["x (2 pretrainings)"]
    assert together.sentences() == []
    assert "nothing to compare it with; --group '(.+)' takes each run by itself" in notes(together)[-1]
    apart = compare(read_results(ours), group="(.+)")
    assert apart.names == ["x0", "x1"]
    assert apart.difference(ROW, 1).judged
    for pattern, wrong in (("(", "no regular expression"), ("pace", r"does not match the run '.*av_s0'")):
        with pytest.raises(UserError, match=wrong):
            compare(read_results(runs), group=pattern)
    with pytest.raises(UserError, match=r"av_s0/.*results.json' is given twice"):
        compare(read_results([runs[0], runs[0], runs[2]]), group=r"/(\w+)_s\d$")


def test_results_written_elsewhere_know_their_run_by_the_encoders(tmp_path):
    places = []
    for n in range(2):
        run = write_run(tmp_path / f"run{n}", hits(0.5, seed=n), seed=n)
        out = tmp_path / f"out{n}"
        (run / "evaluation" / "action").rename(out)
        stored = json.loads((out / "results.json").read_text()) | {"encoders": str(run / "encoders")}
        (out / "results.json").write_text(json.dumps(stored))
        places.append(out)
    assert compare(read_results(places)).names == ["out (2 pretrainings)"]


def test_builds_beside_one_another_are_told_apart(tmp_path):
    """`evaluate action run/resnet.yaml` writes below run/evaluation/resnet, whatever else lies in the folder."""
    run, places = write_run(tmp_path / "run", hits(0.5)), []
    stored = json.loads((run / "evaluation/action/results.json").read_text())
    for n, name in enumerate(("resnet", "mvit")):
        places.append(run / "evaluation" / name / "action")
        write_run(tmp_path / name, hits(0.5, seed=n))
        (run / "evaluation" / name).mkdir()
        (tmp_path / name / "evaluation" / "action").rename(places[-1])
        found = json.dumps(stored | {"encoders": str(run / f"{name}.yaml")})
        (places[-1] / "results.json").write_text(found)
    for pattern in (None, "(.+)", r"/(\w+)/action"):
        assert compare(read_results(places), group=pattern).names == ["resnet/action", "mvit/action"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"clips": False}, r"no per-clip scores \(scores.npz\) of a-1$"),
        ({"pretrained": hits(0.5, 6)}, "cannot be paired by seed and clip"),
    ],
)
def test_one_pretraining_that_cannot_be_judged_leaves_the_method_unjudged(change, why, tmp_path):
    given = {"pretrained": hits(0.5, seed=1)} | change
    first, second = method(tmp_path, "a", [hits(0.5)], 100)[0], tmp_path / "a-1"
    write_run(second, given["pretrained"], seed=1, clips=given.get("clips", True), seeds=5)
    other = method(tmp_path, "b", [hits(0.9)], 500)[0]
    made = compare(read_results([first, second, other]))
    assert made.names[0] == "a (2 pretrainings)"
    found = made.difference(ROW, 1)
    assert not found.judged
    assert re.search(why, found.said)
    assert found.interval is None
    assert made.results[0].score(ROW).interval is None


def test_the_command_shows_methods_in_table_page_and_json(tmp_path, capsys):
    runs = method(tmp_path, "a", [hits(0.3, seed=n) for n in range(3)], 100)
    runs += method(tmp_path, "b", [hits(0.9, seed=n + 5) for n in range(3)], 500)
    out = tmp_path / "out"
    main(["evaluate", "compare", *map(str, runs), "--out", str(out)])
    shown = " ".join(capsys.readouterr().out.split())
    assert "linear: pretrained: b (3 pretrainings) minus a (3 pretrainings) +" in shown
    assert "| std of pretrainings |" in (out / "compare.md").read_text()
    assert "a (3 pretrainings): a-0, a-1, a-2." in shown
    stored = json.loads((out / "compare.json").read_text())
    line = stored["runs"][0]
    assert [run["name"] for run in line["pretrainings"]] == ["a-0", "a-1", "a-2"]
    means = [hits(0.3, seed=n).mean() for n in range(3)]
    assert line["rows"][ROW]["pretrainings"] == pytest.approx(means)
    assert line["rows"][ROW]["std_of_pretrainings"] == pytest.approx(np.std(means, ddof=1))
    [judged] = [d for d in stored["differences"] if d["row"] == ROW]
    assert (judged["minus"], judged["said"]) == ("a (3 pretrainings)", "above")
    page = (out / "index.html").read_text()
    assert "6 runs of 2 methods side by side" in page
    assert "circles: pretrainings" in page
    assert "b-1: " in page
    main(["evaluate", "compare", *map(str, runs), "--out", str(out), "--group", "(.+)"])
    assert len(json.loads((out / "compare.json").read_text())["runs"]) == 6


def test_the_table_gives_the_spread_of_pretrainings_alone(tmp_path):
    runs = method(tmp_path, "a", [hits(0.3, seed=n) for n in range(2)], 100) + method(tmp_path, "b", [hits(0.9)], 500)
    made = compare(read_results(runs))
    spread = {line[:2]: line[3] for line in table_lines(made)}
    assert spread[("linear: pretrained", "a (2 pretrainings)")]
    assert not spread[("linear: pretrained", "b-0")], "that of seeds is another one"
    assert not spread[("linear: random init", "all runs")]
    assert "std of pretrainings" in markdown(made)
    assert "std of pretrainings" in comparison_page(made)


def test_a_condition_that_differs_names_the_run(tmp_path):
    runs = method(tmp_path, "a", [hits(0.3, seed=n) for n in range(2)], 100)
    write_run(tmp_path / "a-1", hits(0.3, seed=1), seed=1, views=3)
    runs += method(tmp_path, "b", [hits(0.9)], 500)
    with pytest.raises(UserError, match="views: a-0 1; a-1 3; b-0 1"):
        compare(read_results(runs))
    made = compare(read_results(runs), anyway=True)
    assert made.difference(ROW, 1).said == "not judged: different views"
    assert "views: a-0 1; a-1 3; b-0 1" in markdown(made)
