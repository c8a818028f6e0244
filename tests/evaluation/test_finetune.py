import itertools
import json
from functools import partial

import numpy as np
import pytest
import torch

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.action import Clips
from mmssl.evaluation.classifier import Classifier, Machine, predict
from mmssl.evaluation.crops import Augmentation
from mmssl.evaluation.finetune import Finetuning, arranged, build_classifier, evaluate_finetune, train_part
from mmssl.evaluation.footage import make_footage, survey
from mmssl.evaluation.supervised import Recipe, Setting, choose_setting, fit_classifier, label_loss, multiplier
from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.image import SmallImageEncoder
from mmssl.nn.video import SmallVideoEncoder
from pipelines.evaluate_finetune import finetune
from tests.corpora import write_tar
from tests.evaluation.oracle import encode, planted_clip, planted_run, planted_shards

PICTURE = Span(0.4, 5)
SIDES = Augmentation(0.9, False, 0.1)  # left and right are what the classes are about
LIGHT = Recipe(epochs=4, batch_size=8, learning_rates=(0.1,), layer_decays=(1.0, 0.5), augmentation=SIDES)
QUICK = {"picture": PICTURE, "size": 48, "workers": 0, "views": 2}
CPU = Machine(torch.device("cpu"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return planted_run(folder / "run"), planted_shards(folder / "shards", 24)


@pytest.fixture(scope="module")
def scores(world):
    return evaluate_finetune(*world, seeds=2, recipe=LIGHT, **QUICK)


def test_both_rows_learn_a_planted_action_and_are_compared(scores):
    results = scores.as_dict()
    assert results["finetune"]["pretrained"]["mean"] == 1.0
    assert len(results["finetune"]["supervised_from_scratch"]["seeds"]) == 2
    assert results["protocol"] == {"finetune": "action-finetune-v1"}
    assert results["chance"] == results["majority"] == 0.5
    assert np.trace(results["confusion"]) == 2 * 8
    assert {row: sum(found.values()) for row, found in results["chosen"].items()} == {
        "pretrained": 1,
        "supervised_from_scratch": 1,
    }
    assert results["crops"] == 1
    told = " ".join(scores.sentences())
    assert "pretrained minus supervised from scratch" in told
    assert "1 crop a view instead of 3: the frames are square" in told
    assert EVALUATIONS["finetune"] is evaluate_finetune


def test_the_same_command_twice_gives_the_same_numbers(world, scores):
    again = evaluate_finetune(*world, seeds=2, recipe=LIGHT, **QUICK)
    assert json.dumps(again.as_dict()) == json.dumps(scores.as_dict())


@pytest.mark.parametrize("modality", ["video", "image"])
def test_small_encoders_learn_from_scratch_and_train_every_layer(world, modality):
    looked = survey([world[1]], workers=0)
    clips, footage = arranged(looked, None), make_footage(looked, PICTURE, 48, workers=0)
    kind = SmallVideoEncoder if modality == "video" else SmallImageEncoder
    torch.manual_seed(0)
    model = Classifier(kind(8, (8, 8, 8)), 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rows, recipe = train_part(clips, clips.folds[0], 0), Recipe(epochs=8, batch_size=6, augmentation=SIDES)
    fit_classifier(model, footage, rows, label_loss(clips.labels, 0.1), recipe, Setting(1e-2, 0.9), seed=0, machine=CPU)
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    test = clips.folds[0].test
    found = predict(model, footage, test, views=2, crops=3, machine=CPU)
    assert found.shape == (8, 2, 2)
    np.testing.assert_allclose(found.sum(axis=2), 1.0)
    assert (found.mean(axis=1).argmax(axis=1) == clips.labels[test]).all()


def test_every_view_of_a_wide_clip_has_three_crops(tmp_path):
    samples = []
    for number in range(4):
        left = np.full((10, 32, 64, 3), 40, dtype=np.uint8)
        left[:, :, : 16 + 8 * number] = 220  # the three crops of a clip differ
        meta = {"width": 64, "height": 32, "duration": 1.0, "label": "ab"[number % 2], "source": f"s{number}"}
        samples.append((f"clip{number}", {"mp4": encode(left, None), "json": json.dumps(meta).encode()}))
    write_tar(tmp_path / "clips-000000.tar", samples)
    looked = survey([str(tmp_path)], workers=0)
    footage = make_footage(looked, PICTURE, 32, workers=0)
    torch.manual_seed(0)
    model = Classifier(SmallVideoEncoder(4, (4, 4, 4)), 2)
    with torch.no_grad():
        model.linear.weight.mul_(30)
    found = predict(model, footage, np.array([2, 0]), views=2, crops=3, machine=CPU)
    assert found.shape == (2, 2 * 3, 2)
    by_crop = found.reshape(2, 2, 3, 2)
    np.testing.assert_allclose(by_crop[:, 0], by_crop[:, 1], atol=1e-5)  # nothing moves
    assert np.abs(by_crop[:, 0, 0] - by_crop[:, 0, 2]).max() > 1e-3
    alone = predict(model, footage, np.array([2]), views=2, crops=1, machine=CPU)
    np.testing.assert_allclose(alone[0], by_crop[0, :, 1], atol=1e-6)


def test_labels_of_test_clips_reach_no_choice_and_no_weight(world):
    run, shards = world
    looked = survey([shards], workers=0)
    clips, footage = arranged(looked, None), make_footage(looked, PICTURE, 48, workers=0)
    fold = clips.folds[0]
    labels = clips.labels.copy()
    labels[fold.test] = 1 - labels[fold.test]
    swapped = Clips(clips.keys, labels, clips.classes, clips.folds, clips.groups, clips.how)
    found = []
    for known in (clips, swapped):
        tuned = Finetuning(partial(build_classifier, run, "video", 2), footage, known, LIGHT, CPU, 2, 1)
        setting = tuned.choose("pretrained", fold)
        found.append((setting, tuned.fit("pretrained", fold, setting, 1).linear.weight))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_the_setting_is_the_one_that_does_best_on_held_out_clips(world):
    looked = survey([world[1]], workers=0)
    clips, footage = arranged(looked, None), make_footage(looked, PICTURE, 48, workers=0)
    recipe = Recipe(epochs=4, batch_size=8, learning_rates=(1e-9, 0.1), layer_decays=(1.0,), augmentation=SIDES)
    make = partial(build_classifier, world[0], "video", 2, "pretrained", 0, 0)
    train = clips.folds[0].train
    judge = partial(choose_setting, make, footage, labels=clips.labels, recipe=recipe, seed=0, machine=CPU, views=1)
    assert judge(train=train[4:], held=train[:4]).lr == 0.1
    assert judge(train=train, held=train[:0]) == recipe.settings[1], "the middle one where nothing can be held out"


def test_the_rate_rises_and_falls():
    rates = [multiplier(step, 20, 0.25) for step in range(20)]
    assert rates[:5] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert rates[5] == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[5:]))
    assert 0 < rates[-1] < 0.02


def test_vectors_are_standardised_by_one_spread():
    model = Classifier(SmallVideoEncoder(4, (4, 4, 4)), 2)
    vectors = torch.randn(200, 4) * torch.tensor([30.0, 10.0, 10.0, 1e-6]) + 50
    model.standardise(vectors)
    made = (vectors - model.mean) / model.spread
    torch.testing.assert_close(made.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    assert float(made.square().mean()) == pytest.approx(1.0, rel=1e-4)
    assert float(made[:, 3].abs().max()) < 1e-4
    model.standardise(torch.ones(5, 4))
    assert float(model.spread) == 1.0, "vectors that are all alike are not divided by 0"


def test_the_program_writes_results(world, tmp_path, capsys):
    run, shards = world
    arguments = {"seconds": 0.4, "rate": 5, "size": 48, "workers": 0, "views": 1, "mirror": False, "epochs": 1}
    results = finetune(
        run, shards, group=r"_take(\d)", out=tmp_path, seeds=1, learning_rates=(0.1,), layer_decays=(1.0,), **arguments
    )
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    assert results["folds"] == 4
    assert results["test_clips"] == 24
    assert results["recipe"]["settings_tried"] == ["lr 0.1, layer decay 1"]
    shown = " ".join(capsys.readouterr().out.split())
    assert "action-finetune-v1" in shown
    assert "supervised from scratch" in shown


def test_a_clip_shorter_than_a_view_is_told(world):
    run, shards = world
    short = evaluate_finetune(run, shards, seeds=1, recipe=LIGHT, **(QUICK | {"picture": Span(3.0, 2), "views": 1}))
    assert short.about["shorter_than_a_view"] == 24
    assert "24 clips are shorter than a view of 3.0 s: their last frame is shown on" in short.sentences()


def test_what_cannot_be_used_is_named(world, tmp_path):
    run, shards = world
    with pytest.raises(UserError, match="of modality 'audio'; clips are classified by a video or an image encoder"):
        evaluate_finetune(run, shards, encoder="audio")
    with pytest.raises(UserError, match=r"no encoder 'vidoe'.*did you mean 'video'"):
        evaluate_finetune(run, shards, encoder="vidoe")
    with pytest.raises(UserError, match="6 settings; 1 to 4 may be tried"):
        Recipe(learning_rates=(1, 2, 3))
    with pytest.raises(UserError, match="layer decay must be at most 1"):
        Recipe(layer_decays=(1.5,))
    with pytest.raises(UserError, match="views is 0"):
        evaluate_finetune(run, shards, views=0)
    with pytest.raises(UserError, match="memory_gib is -1"):
        finetune(run, shards, memory_gib=-1)
    with pytest.raises(UserError, match=r"smallest_crop=0 and .* in \(0, 1\]"):
        finetune(run, shards, smallest_crop=0)


def test_weights_of_another_architecture_are_named(world, tmp_path):
    Encoders({"video": Build("mmssl.nn.video.SmallVideoEncoder", {"width": 8, "channels": [4, 4, 4]})}).save(
        tmp_path / "encoders"
    )
    path = tmp_path / "encoders" / "config.json"
    path.write_text(path.read_text().replace('"width": 8', '"width": 16'))
    with pytest.raises(UserError, match="of another architecture"):
        evaluate_finetune(tmp_path, world[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "train"}, "does not name train and test clips"),
        ({5: {"label": "unknown", "split": "test"}}, r"fold 'test': 1 labels of the test clips .*'unknown'"),
        ({number: {"label": None} for number in (2, 3)}, "2 of 6 clips have no label"),
    ],
)
def test_folds_that_cannot_be_learned_are_named(world, tmp_path, changes, message):
    samples = []
    for number in range(6):
        media, meta = planted_clip(number)
        meta |= {k: v for k, v in changes.items() if isinstance(k, str)} | changes.get(number, {})
        samples.append((f"clip{number}", {"mp4": media, "json": json.dumps(meta).encode()}))
    write_tar(tmp_path / "clips-000000.tar", samples)
    with pytest.raises(UserError, match=message):
        evaluate_finetune(world[0], str(tmp_path), seeds=1, recipe=LIGHT, **QUICK)


def test_a_broken_loss_ends_with_the_way_out(world):
    looked = survey([world[1]], workers=0)
    clips, footage = arranged(looked, None), make_footage(looked, PICTURE, 48, workers=0)
    model = build_classifier(world[0], "video", 2, "pretrained", 0, 0)
    with pytest.raises(UserError, match=r"the loss is nan at step 0 with lr 1, .*lower --learning_rates"):
        fit_classifier(
            model, footage, clips.folds[0].train, lambda logits, *_: logits.sum() * torch.nan, LIGHT, Setting(1, 1),
            seed=0, machine=CPU,
        )  # fmt: skip
