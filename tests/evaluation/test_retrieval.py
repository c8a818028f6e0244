import json

import numpy as np
import pytest
import torch

from mmssl.clip import Sentence
from mmssl.errors import UserError
from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.crossmodal import evaluate_retrieval
from mmssl.evaluation.pairs import Pairs
from mmssl.evaluation.per_clip import PerClip
from mmssl.evaluation.relevance import Classes, draw_galleries, partners, query_groups, text_codes
from mmssl.evaluation.retrieval_scores import Answers
from mmssl.evaluation.sentences import chosen_sentences, words
from mmssl.evaluation.sides import Side, similarities
from mmssl.metrics.retrieval import ndcg_at
from mmssl.nn.features import Features
from mmssl.tasks.cross_modal.av_localization import LocalizationMatcher
from mmssl.tasks.cross_modal.sync_matcher import SyncMatcher
from pipelines.evaluate_retrieval import retrieval
from tests.evaluation.shades import SHADES, Shades, shade_run, shade_shards

QUICK = {"size": 32, "workers": 0, "batch_size": 7, "seconds": 0.5}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shades")
    return shade_run(folder / "run"), shade_shards(folder / "shards")


def test_planted_pairs_are_found_and_random_weights_are_exactly_chance(world):
    run, shards = world
    found = evaluate_retrieval(run, shards, head="sounds", seeds=2, **QUICK).as_dict()
    assert (found["gallery"], found["galleries"], found["queries"]) == (SHADES, 1, SHADES)
    for way in ("picture_to_sound", "sound_to_picture"):
        rows = found["directions"][way]
        assert rows["pretrained"]["r_at_1"] == 1.0
        assert rows["pretrained"]["median_rank"] == 1.0
        assert rows["pretrained_minus_random_init"]["r_at_10"]["verdict"] == "above"
        for name, value in rows["chance"].items():
            assert rows["random_init"][name] == pytest.approx(value), "all vectors alike: every order is as likely"
        assert rows["chance"]["r_at_5"] == pytest.approx(5 / SHADES)
        assert rows["chance"]["median_rank"] == (SHADES + 1) / 2
        assert rows["shuffled"]["r_at_1"] == 0.0, "the sound of another clip is never the nearest"
        assert rows["shuffled_within_label"]["r_at_1"] == 0.0
    assert EVALUATIONS["retrieval"] is evaluate_retrieval


def test_classes_come_from_the_label_or_any_path_and_within_a_side_the_query_is_left_out(world):
    run, shards = world
    found = evaluate_retrieval(run, shards, head="sounds", label="truth.dark", seeds=1, **QUICK).as_dict()
    within = found["directions"]["picture_to_picture"]
    assert within["pretrained"]["class_r_at_1"] == pytest.approx(1.0 - 1 / SHADES, abs=0.051)
    assert within["chance"]["class_r_at_1"] == pytest.approx((SHADES / 2 - 1) / (SHADES - 1))
    assert "r_at_1" not in within["pretrained"]
    dark = np.arange(SHADES) < SHADES // 2
    angle = np.arange(SHADES) * np.pi / SHADES
    expected = ndcg_at(np.cos(angle[:, None] - angle[None]), dark[:, None] == dark[None])
    assert found["directions"]["picture_to_sound"]["pretrained"]["ndcg_30"] == pytest.approx(expected, abs=0.01)
    both = evaluate_retrieval(
        run, shards, head="sounds", label="truth.dark", picture_label="truth.near", seeds=1, **QUICK
    ).as_dict()
    assert "ndcg_30" not in both["directions"]["picture_to_sound"]["pretrained"], "no word is a 'True'"


def test_a_head_with_places_is_judged_by_its_best_place(world):
    run, shards = world
    found = evaluate_retrieval(run, shards, head="placed", seeds=1, **QUICK).as_dict()
    assert found["directions"]["sound_to_picture"]["pretrained"]["r_at_1"] == 1.0
    views = evaluate_retrieval(run, shards, head="placed", seeds=1, views=2, **QUICK).as_dict()
    assert views["directions"]["picture_to_sound"]["pretrained"]["r_at_1"] == 1.0


@pytest.mark.parametrize("rule", ["nearest", "best"])
def test_sentences_find_their_clips_and_equal_ones_count_for_each_other(world, tmp_path, rule):
    run, _ = world
    shards = shade_shards(tmp_path / "said", wordless=(5,), shade3="River!", shade17="river", shade9="table")
    found = evaluate_retrieval(run, shards, head="words", sentences=rule, seeds=1, **QUICK).as_dict()
    assert found["clips"] == SHADES - 1
    assert found["left_out"] == {"clip05": "has no text"}
    assert found["same_text"]["queries"] == 4, "3 and 17 say 'river', 9 and 19 'table'"
    rows = found["directions"]["text_to_picture"]["pretrained"]
    # 'river' is shade 17: asked twice, its clip is the nearest each time; 'table' likewise is shade 19.
    assert rows["r_at_1"] == 1.0
    assert found["directions"]["picture_to_text"]["pretrained"]["r_at_1"] < 1.0, "shade 3 finds another's word"
    assert found["directions"]["text_to_picture"]["chance"]["r_at_1"] == pytest.approx((15 * 1 + 4 * 2) / 19 / 19)
    assert found["same_text"]["distinct_texts"] == [17]
    for name in ("r_at_1", "r_at_10"):  # equal texts are one item, so a collapsed model is at chance here too
        rows = found["directions"]["picture_to_text"]
        assert rows["random_init"][name] == pytest.approx(rows["chance"][name])
        assert rows["chance"][name] == pytest.approx(int(name[5:]) / 17)


def test_the_program_writes_results_and_names_what_was_left_out(world, tmp_path, capsys):
    run, _ = world
    shards = shade_shards(tmp_path / "quiet", silent=(2, 11))
    settings = {"head": "sounds", "seeds": 1, "size": 32, "workers": 0, "gallery": 6, "out": tmp_path / "out"}
    results = retrieval(run, shards, **settings)
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored == json.loads(json.dumps(results))
    assert stored["left_out_counts"] == {"has no sound": 2}
    kept = PerClip.load(tmp_path / "out" / "scores.npz")
    assert len(kept.keys) == stored["queries"] * len(stored["directions"])
    for way, metric in (("sound_to_picture", "r_at_10"), ("picture_to_picture", "ndcg_30")):
        for model in ("pretrained", "random_init"):
            row = stored["directions"][way][model]
            assert row["metric"] == metric
            assert np.nanmean(kept.values[f"{way}/{model}"]) == pytest.approx(row[metric], abs=1e-6)
    assert (stored["galleries"], stored["not_in_a_gallery"]) == (3, 0)
    assert stored["directions"]["sound_to_picture"]["chance"]["r_at_1"] == pytest.approx(1 / 6)
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 gallery(s) of 6 clips" in shown
    assert "left out: 2 clips, has no sound" in shown
    again = retrieval(run, shards, **settings | {"workers": 1, "batch_size": 3})
    assert again["directions"] == results["directions"]


def test_galleries_share_no_clip_and_do_not_depend_on_the_order():
    keys = [f"k{i}" for i in range(53)]
    drawn = draw_galleries(keys, 10, 3)
    assert [len(rows) for rows in drawn] == [10, 10, 10]
    assert len(np.unique(np.concatenate(drawn))) == 30
    turned = draw_galleries(keys[::-1], 10, 3)
    for a, b in zip(drawn, turned, strict=True):
        assert [keys[i] for i in a] == [keys[::-1][i] for i in b]
    assert [len(rows) for rows in draw_galleries(keys, 500, 10)] == [53]


def test_the_same_words_are_one_text_and_no_text_is_nobodys():
    texts = (("a b",), ("a b",), (), (), ("c", "d"), ("d", "c"))
    assert text_codes(texts, np.arange(6)).tolist() == [0, 0, 1, 2, 3, 3]
    assert words("  It's a RED ball, isn't it? ") == "it s a red ball isn t it"


def test_queries_of_one_source_or_one_text_are_resampled_together():
    metas = tuple({"source": name} for name in "aabcd")
    texts = (("x",), ("y",), ("z",), ("x",), ("w",))
    pairs = Pairs(("picture", "text"), tuple("klmno"), (None,) * 5, metas, texts, {}, {})
    for side, expected in (("picture", 4), ("text", 4)):
        groups = query_groups(side, pairs, np.arange(5))
        assert len(np.unique(groups)) == expected
        assert (groups[0] == groups[1]) == (side == "picture")
        assert (groups[0] == groups[3]) == (side == "text")


def test_a_partner_is_of_the_group_and_never_says_the_same():
    groups, codes = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, 2, 2, 3])
    assert partners(groups, codes).tolist() == [2, 2, 0, -1, -1, -1]
    a, b = (tuple(frozenset(x) for x in row) for row in (("p", "p", "q", "p", ""), ("s", "s", "s", "t", "s")))
    assert Classes({"a": a, "b": b}, "").codes("a", "b", np.arange(5)).tolist() == [0, 0, 1, 2, -1]


def test_which_sentences_are_a_clips_text():
    said = [
        Sentence("middle", 0.9, 1.1),
        Sentence("?!", 0.8, 1.0),
        Sentence("Early", 0.0, 0.5),
        Sentence("early.", 1.5, 2.0),
        Sentence("before", -2.0, -1.0),
        Sentence("after", 2.0, 3.0),
    ]
    assert chosen_sentences(said, 2.0, "nearest") == ["middle"]
    assert chosen_sentences(said, 2.0, "best") == ["early.", "middle"]
    assert chosen_sentences(said, 2.0, "joined") == ["early. middle"]
    assert chosen_sentences(said[4:], 2.0, "joined") == []


def test_similarities_take_the_best_part_and_the_mean_over_views():
    rng = np.random.default_rng(0)
    a = Side(rng.normal(size=(3, 2, 4, 5)).astype(np.float32), np.ones((3, 4), dtype=bool))
    b = Side(rng.normal(size=(6, 1, 2, 5)).astype(np.float32), rng.random((6, 2)) < 0.7)
    b.there[:, 0] = True
    expected = np.zeros((3, 6))
    for i in range(3):
        for j in range(6):
            views = [
                max(float(a.vectors[i, v, p] @ b.vectors[j, 0, q]) for p in range(4) for q in range(2) if b.there[j, q])
                for v in range(2)
            ]
            expected[i, j] = np.mean(views)
    np.testing.assert_allclose(similarities(Shades(), a, b), expected, rtol=1e-5)
    alone = b.vectors[:, 0][~b.there[:, 1], 0]
    mean = b.mean().vectors[~b.there[:, 1], 0, 0]
    np.testing.assert_allclose(mean, alone / np.linalg.norm(alone, axis=1, keepdims=True), rtol=1e-5)


def test_metrics_of_a_collapsed_model_are_chance_by_class_too():
    rng = np.random.default_rng(1)
    own, gain = np.eye(40, dtype=bool), rng.random((40, 40)) < 0.2
    gain[7] = False
    flat = Answers.of((np.zeros((40, 40)), own), (np.zeros((40, 40)), gain)).means()
    chance = Answers.chance(own, gain)
    assert flat == pytest.approx(chance)


def test_faults_name_the_way_out(world, tmp_path):
    run, shards = world
    with pytest.raises(UserError, match=r"has the heads placed, sounds, words; choose one with --head"):
        evaluate_retrieval(run, shards)
    with pytest.raises(UserError, match=r"no exported head 'word'.*did you mean 'words'"):
        evaluate_retrieval(run, shards, head="word")
    with pytest.raises(UserError, match="gallery=1"):
        evaluate_retrieval(run, shards, head="words", gallery=1)
    with pytest.raises(UserError, match="give --shards"):
        retrieval(run, head="words")
    with pytest.raises(UserError, match=r"label 'truth.drak' leads to nothing .*did you mean 'truth.dark'"):
        evaluate_retrieval(run, shards, head="sounds", label="truth.drak", seeds=1, **QUICK)
    with pytest.raises(UserError, match="seconds=-1"):
        evaluate_retrieval(run, shards, head="words", **QUICK | {"seconds": -1})
    mute = shade_shards(tmp_path / "mute", silent=tuple(range(SHADES)))
    with pytest.raises(UserError, match=r"has picture and sound \(has no sound\)"):
        evaluate_retrieval(run, mute, head="sounds", seeds=1, **QUICK)


def test_a_head_between_other_modalities_is_refused():
    from mmssl.evaluation.pairs import modalities_of
    from mmssl.nn.encoders import Encoders

    head = Shades()
    head.encoders = {"picture": "image", "flow": "flow"}
    with pytest.raises(UserError, match="compares flow and picture; retrieval needs two of picture, sound, text"):
        modalities_of(Encoders({}), head)


def test_broken_weights_are_named(world):
    from mmssl.evaluation.pairs import embed_pairs
    from mmssl.nn.encoders import Encoders

    run, shards = world
    bundle = Encoders.from_pretrained(run)
    with torch.no_grad():
        bundle["audio"].gain.fill_(torch.nan)
    with pytest.raises(UserError, match="vectors of the sound that are not finite"):
        embed_pairs([(bundle, Encoders.load_head(run, "sounds"))], shards, **QUICK)


def test_parts_of_a_picture_are_the_places_of_its_map():
    torch.manual_seed(0)
    head = LocalizationMatcher(picture_width=8, sound_width=6, dimension=16).eval()
    pictures = Features(torch.zeros(3, 4), levels={8: torch.randn(3, 8, 5, 5)})
    sounds = Features(torch.randn(3, 6))
    with torch.inference_mode():
        places, heard = head.parts("picture", pictures), head.parts("sound", sounds)
        sides = [Side(x.numpy()[:, None], np.ones(x.shape[:2], dtype=bool)) for x in (places, heard)]
        own = np.diag(similarities(head, *sides))
        best = head.similarity_map(pictures, sounds).amax(dim=(1, 2))
        mean = head.embed("picture", pictures).numpy()
    np.testing.assert_allclose(own, best.numpy(), rtol=1e-5)
    np.testing.assert_allclose(sides[0].mean().vectors[:, 0, 0], mean, rtol=1e-4, atol=1e-6)


def test_parts_of_a_synchronisation_head_are_its_places():
    torch.manual_seed(0)
    head = SyncMatcher(video_width=8, sound_width=12, sound_stride=8, steps=4, dimension=4).eval()
    video = Features(torch.zeros(2, 4), levels={16: torch.randn(2, 8, 4, 3, 3)})
    sound = Features(torch.zeros(2, 4), levels={8: torch.randn(2, 6, 2, 9)})
    with torch.inference_mode():
        assert head.parts("picture", video).shape == (2, 9, 16)
        torch.testing.assert_close(head.parts("sound", sound)[:, 0], head.embed("sound", sound))
        mean = torch.nn.functional.normalize(head.parts("picture", video).mean(dim=1), dim=1)
        torch.testing.assert_close(mean, head.embed("picture", video))
