"""Every evaluation of pictures and pairs leaves what `mmssl evaluate compare` judges by, or says why it cannot."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmssl.errors import UserError
from mmssl.evaluation.detection import DetectionScores
from mmssl.evaluation.image import ROWS as IMAGE_ROWS
from mmssl.evaluation.image import ImageScores
from mmssl.evaluation.per_clip import PerClip
from mmssl.evaluation.retrieval_scores import Answers, Direction, RetrievalScores
from mmssl.evaluation.segmentation import ROWS as PIXEL_ROWS
from mmssl.evaluation.segmentation import SegmentationScores
from mmssl.metrics.box_precision import FoundBoxes, TrueBoxes, match_pictures
from mmssl.metrics.pixel_classes import mean_iou
from mmssl.metrics.statistics import paired_difference
from mmssl.report.comparison import compare
from mmssl.report.runs import find_results, read_result, read_results
from pipelines.cli import main
from pipelines.evaluate import write_results

S, N = 5, 40


def random_hits(rate, seed):
    return (np.random.default_rng(seed).random((S, N)) < rate).astype(float)


def image_scores(rate, seed):
    hits = {probe: {row: random_hits(0.3, n) for n, row in enumerate(IMAGE_ROWS)} for probe in ("linear", "knn")}
    for probe in hits:
        hits[probe]["pretrained"] = random_hits(rate, seed)
    about = {"protocol": {"linear": "image-linear-v1", "knn": "image-knn-v1"}, "classes": ["a", "b"], "top": 2}
    keys = tuple(f"a/{n:03d}.png" for n in range(N))
    return ImageScores(about, keys, np.arange(N) % 2, hits, hits, np.zeros((2, 2), dtype=np.int64), 0.5)


def written(run, evaluation, scores, **changes):
    per_clip = scores.per_clip() if hasattr(scores, "per_clip") else None
    write_results(run / "evaluation" / evaluation, scores.as_dict() | changes, per_clip)
    return run


def test_pictures_are_judged_one_by_one(tmp_path):
    low, high = image_scores(0.3, 8), image_scores(0.9, 9)
    runs = [written(tmp_path / "low", "image", low), written(tmp_path / "high", "image", high)]
    made = compare(read_results(runs))
    found = made.difference("knn/pretrained", 1)
    wanted = paired_difference(high.top_1["knn"]["pretrained"], low.top_1["knn"]["pretrained"])
    assert (found.mean, *found.interval) == pytest.approx((wanted.mean, wanted.low, wanted.high))
    assert (found.said, found.judged) == ("above", True)
    assert made.shared == {f"{probe}/{row}" for probe in ("linear", "knn") for row in IMAGE_ROWS[1:]}
    for row in made.rows:
        score, values = made.results[1].score(row), made.results[1].per_clip.values[row]
        assert values.mean() == pytest.approx(score.mean), "what is judged is what is shown"


def direction(q, sources, rate, seed, own=True):
    """Answers of two sides whose own pair (or class) is found where a coin says so."""

    def answers(rate, seed):
        rng = np.random.default_rng(seed)
        found = np.where(rng.random(q) < rate, 2.0, -1.0)
        table = rng.random((q, q))
        gain = np.arange(q)[:, None] // 4 == np.arange(q)[None] // 4 if not own else np.eye(q, dtype=bool)
        table = np.where(gain, found[:, None], table)
        return Answers.of((table, gain), None) if own else Answers.of(None, (table, gain))

    return Direction(
        pretrained=answers(rate, seed),
        random_init=tuple(answers(0.1, n) for n in range(S)),
        controls={"shuffled": answers(0.05, 7)} if own else {},
        chance={"r_at_1": 1 / q, "r_at_10": 10 / q} if own else {"ndcg_30": 0.1},
        gallery=np.zeros(q, dtype=int),
        groups=np.asarray(sources),
        keys=tuple(f"clip{n}" for n in range(q)),
    )


def retrieval_scores(rate, seed):
    one, text = np.arange(N) // 2, np.where(np.arange(N) % 3 == 0, -1, np.arange(N))
    directions = {
        "picture_to_text": direction(N, one, rate, seed),
        "text_to_picture": direction(N, text, rate, seed + 1),
        "text_to_text": direction(N, text, rate, seed + 2, own=False),
    }
    return RetrievalScores({"protocol": "crossmodal-retrieval-v1", "head": "words", "gallery": N}, directions)


def test_queries_are_judged_one_by_one_by_the_headline_of_their_direction(tmp_path):
    low, high = retrieval_scores(0.2, 10), retrieval_scores(0.9, 20)
    runs = [written(tmp_path / name, "retrieval/words", s) for name, s in (("low", low), ("high", high))]
    results = read_results(runs, "retrieval")
    made = compare(results)
    assert made.names == ["low", "high"], "a run is the folder above `evaluation`, however deep its results lie"
    for name, metric in (("picture_to_text", "r_at_10"), ("text_to_picture", "r_at_10"), ("text_to_text", "ndcg_30")):
        row = f"{name}/pretrained"
        assert made.results[1].score(row).metric == metric
        ours, theirs = (s.directions[name].pretrained.each[metric] for s in (high, low))
        assert made.results[1].score(row).mean == pytest.approx(ours.mean())
        wanted = paired_difference(ours, theirs, high.directions[name].groups)
        found = made.difference(row, 1)
        assert found.mean == pytest.approx(wanted.mean)
        # Groups are numbers to one and words to the other: their order, and so the draws, may differ.
        assert found.interval == pytest.approx((wanted.low, wanted.high), abs=0.03)
        assert (found.said, found.judged) == ("above", True)
    assert {f"{name}/random_init" for name in low.directions} <= made.shared
    assert "picture_to_text/shuffled" in made.shared
    assert "picture_to_text/chance" in made.shared
    assert results[0].score("picture_to_text/random_init").seeds == pytest.approx(
        [one.each["r_at_10"].mean() for one in low.directions["picture_to_text"].random_init]
    )


def test_recalls_of_galleries_of_other_sizes_are_refused(tmp_path):
    runs = [
        written(tmp_path / "a", "retrieval/words", retrieval_scores(0.2, 1)),
        written(tmp_path / "b", "retrieval/words", retrieval_scores(0.2, 1), gallery=500),
    ]
    with pytest.raises(UserError, match=r"(?s)do not stand side by side.*gallery: a 40; b 500"):
        compare(read_results(runs, "retrieval/words"))


def test_a_run_with_several_heads_is_asked_for_one(tmp_path):
    run = written(tmp_path / "run", "retrieval/words", retrieval_scores(0.2, 1))
    other = written(tmp_path / "other", "retrieval/sounds", retrieval_scores(0.2, 1))
    assert [p.parent.name for p in find_results([run, other], "retrieval")] == ["words", "sounds"]
    written(run, "retrieval/sounds", retrieval_scores(0.3, 1))
    with pytest.raises(UserError, match=r"not evaluated by 'retrieval' \(there: retrieval/sounds, retrieval/words\)"):
        find_results([run, other], "retrieval")
    assert find_results([run, other]) == [one / "evaluation/retrieval/sounds/results.json" for one in (run, other)]


def confusions(seed, hit):
    """Confusions [S, N, 3, 3] of clips of very different sizes; the last clip has no judged pixel."""
    rng = np.random.default_rng(seed)
    found = np.zeros((S, N, 3, 3), dtype=np.int64)
    for clip in range(N - 1):
        for true in range(2 + clip % 2):
            share = np.full(3, (1 - hit) / 2)
            share[true] = hit
            found[:, clip, true] = rng.multinomial(int(rng.integers(5, 2000)), share, size=S)
    return found


def test_clips_are_judged_by_their_own_iou_and_the_whole_one_is_not(tmp_path):
    about = {"protocol": "segmentation-linear-v1", "classes": ["a", "b", "c"], "seeds": S}
    keys, runs, all_scores = tuple(f"clip{n}" for n in range(N)), [], []
    for name, hit in (("low", 0.5), ("high", 0.8)):
        tables = {row: confusions(n, 0.4) for n, row in enumerate(PIXEL_ROWS)} | {"pretrained": confusions(9, hit)}
        all_scores.append(SegmentationScores(about, tables, keys))
        runs.append(written(tmp_path / name, "segmentation", all_scores[-1]))
    made = compare(read_results(runs))
    found = made.difference("by_clip/pretrained", 1)
    by_hand = [
        [[float(mean_iou(s.confusions["pretrained"][seed, clip])) for clip in range(N - 1)] for seed in range(S)]
        for s in all_scores
    ]
    wanted = paired_difference(np.array(by_hand[1]), np.array(by_hand[0]), np.array(keys[:-1]))
    assert (found.mean, *found.interval) == pytest.approx((wanted.mean, wanted.low, wanted.high), abs=1e-6)
    assert (found.said, found.judged) == ("above", True)
    assert made.results[0].score("by_clip/pretrained").mean == pytest.approx(np.mean(by_hand[0]))
    whole = made.difference("pretrained", 1)
    assert not whole.judged
    assert whole.said.startswith("not judged: a mean IoU is of all pixels together")
    assert made.shared == {*PIXEL_ROWS[1:], *(f"by_clip/{row}" for row in PIXEL_ROWS[1:])}


def matches(found_right):
    truth = [TrueBoxes(np.array([[0.0, 0, 10, 10]]), np.array([0]), np.array([False])) for _ in range(6)]
    boxes = [
        FoundBoxes(np.array([[0.0, 0, 10, 10] if n < found_right else [20.0, 20, 30, 30]]), np.array([0]), np.ones(1))
        for n in range(6)
    ]
    return [match_pictures(boxes, truth, 1)] * S


def test_detection_is_told_to_be_indivisible(tmp_path, capsys):
    about = {"protocol": "detection-frcnn-v1", "classes": ["a"], "seeds": S}
    for name, right in (("low", 2), ("high", 5)):
        rows = {"pretrained": matches(right), "random_init": matches(1), "mean_box": matches(1)}
        written(tmp_path / name, "detection", DetectionScores(about, rows, np.arange(6)))
    out = tmp_path / "out"
    main(["evaluate", "compare", str(tmp_path / "low"), str(tmp_path / "high"), "--out", str(out)])
    said = "not judged: an average precision ranks the boxes of all pictures together and is no mean over pictures"
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (out / "compare.md").read_text()
    assert said in (out / "index.html").read_text()
    [judged] = json.loads((out / "compare.json").read_text())["differences"]
    assert (judged["row"], judged["judged"], judged["low"]) == ("pretrained", False, None)


def test_the_same_pictures_under_another_spelling_are_the_same(tmp_path, monkeypatch):
    (tmp_path / "voc").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, data in (("a", "voc"), ("b", str(tmp_path / "voc")), ("c", ["voc"]), ("d", [f"{tmp_path}/./voc"])):
        written(tmp_path / name, "image", image_scores(0.3, 1), data=data)
    for pair in (("a", "b"), ("c", "d")):
        compare(read_results([tmp_path / name for name in pair]))
    (tmp_path / "other").mkdir()
    written(tmp_path / "b", "image", image_scores(0.3, 1), data="other")
    with pytest.raises(UserError, match="data: a voc; b other"):
        compare(read_results([tmp_path / "a", tmp_path / "b"]))


def test_what_is_stored_survives_the_disk(tmp_path):
    scores = retrieval_scores(0.5, 3)
    run = written(tmp_path / "run", "retrieval/words", scores)
    kept = read_result(run / "evaluation/retrieval/words/results.json").per_clip
    wanted = scores.per_clip()
    assert isinstance(kept, PerClip)
    assert (kept.keys, kept.groups) == (wanted.keys, wanted.groups)
    for row, values in wanted.values.items():
        np.testing.assert_allclose(kept.values[row], values, atol=1e-6)
        assert np.isfinite(values).sum() == len(values) * N, "a query belongs to one direction"
