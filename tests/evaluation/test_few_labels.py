import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.classifier import Classifier, Machine
from mmssl.evaluation.crops import Augmentation
from mmssl.evaluation.few_labels import FewLabels, evaluate_few_labels, soft_label_loss
from mmssl.evaluation.middle import HeadStart, LevelMean, Middle, find_middle, head_start
from mmssl.evaluation.supervised import Recipe
from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import Projection
from mmssl.nn.matcher import Matcher
from mmssl.nn.video import SmallVideoEncoder
from pipelines.evaluate_few_labels import few_labels
from tests.evaluation.oracle import planted_run, planted_shards

RECIPE = Recipe(batch_size=8, learning_rates=(0.1,), layer_decays=(1.0,), augmentation=Augmentation(0.9, False, 0.1))
HOW = FewLabels(shares=(0.01, 0.5), start="pooled", steps=8, student_steps=8, recipe=RECIPE)
QUICK = {"picture": Span(0.4, 5), "size": 48, "workers": 0, "views": 2}


class Pairs(Matcher):
    """A head with a layer to keep behind the video encoder, and one without behind the sound."""

    encoders = {"picture": "video", "sound": "audio"}  # noqa: RUF012

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.init_args = {"width": width}
        self.picture = Projection(width, 4, hidden=6)
        self.sound = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 4))

    def embed(self, modality, features):
        return getattr(self, modality)(features.pooled)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return planted_run(folder / "run"), planted_shards(folder / "shards", 24)


@pytest.fixture
def run(tmp_path):
    def save(*heads):
        args = {"width": 8, "channels": [4, 4, 6]}
        bundle = Encoders({"video": Build("mmssl.nn.video.SmallVideoEncoder", args)})
        bundle.save(tmp_path / "encoders", {name: Pairs() for name in heads})
        return tmp_path, bundle

    return save


def test_every_way_learns_a_planted_action_from_half_and_at_least_one_label_a_class(world):
    scores = evaluate_few_labels(*world, seeds=2, how=HOW, **QUICK)
    results = scores.as_dict()
    assert results["labels"] == {"0.01": 2, "0.5": 8}
    assert results["protocol"] == {"few_labels": "action-few-labels-v1"}
    for way in ("linear", "finetune", "distilled"):
        assert results[f"{way}_0.5"]["pretrained"]["mean"] == 1.0
        assert set(results[f"{way}_0.01"]) >= {"pretrained", "random_init", "difference"}
    assert results["linear_0.5"]["random_init"]["mean"] == 0.5, "frozen and blind"
    assert "1 % = 2 labels, 50 % = 8 labels" in " ".join(scores.sentences())
    assert EVALUATIONS["few_labels"] is evaluate_few_labels


def test_the_same_command_twice_gives_the_same_numbers(world):
    how = replace(HOW, shares=(0.1,), steps=2, student_steps=2)
    first, again = (evaluate_few_labels(*world, seeds=1, how=how, **QUICK).as_dict() for _ in range(2))
    assert json.dumps(first) == json.dumps(again)


def test_the_program_writes_results(world, tmp_path, capsys):
    run, shards = world
    results = few_labels(
        run, shards, out=tmp_path, shares=(0.25,), seeds=1, seconds=0.4, rate=5, size=48, views=1, workers=0, steps=2,
        student_steps=2, mirror=False,
    )  # fmt: skip
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    assert "distilled_0.25: pretrained minus random init" in " ".join(capsys.readouterr().out.split())


def test_a_student_learns_what_its_teacher_says_without_labels():
    torch.manual_seed(0)
    teacher, student = (Classifier(SmallVideoEncoder(8, (4, 4, 4)), 3, seed=seed) for seed in (1, 2))
    with torch.no_grad():
        teacher.linear.weight.mul_(200)
    views = torch.rand(16, 2, 3, 32, 32)
    loss = soft_label_loss(teacher.eval(), 2.0, Machine(torch.device("cpu")))
    optimizer = torch.optim.AdamW(student.parameters(), 1e-2)
    values = []
    for _ in range(40):
        value = loss(student(views), views, np.arange(16))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    told = (teacher(views) / 2.0).softmax(dim=1).detach()
    least = float(-(told * told.log()).sum(dim=1).mean())
    assert values[-1] - least < 0.3 * (values[0] - least)
    assert all(p.grad is None for p in teacher.parameters())
    by_hand = -(told * (student(views) / 2.0).log_softmax(dim=1)).sum(dim=1).mean()
    assert float(loss(student(views), views, np.arange(16)).detach()) == pytest.approx(
        float(by_hand.detach()), rel=1e-5
    )


def test_the_head_is_kept_to_its_first_non_linearity(run):
    folder, bundle = run("pairs")
    middle = find_middle(folder, bundle, "video")
    assert middle == Middle("head", "pairs")
    start = middle.make(folder, bundle, "video")
    kept = Encoders.load_head(folder, "pairs").picture
    pooled = torch.randn(5, 8)
    torch.testing.assert_close(start(Features(pooled)), nn.Sequential(*list(kept)[:3])(pooled))
    assert start.width == 6
    assert (start(Features(pooled)) >= 0).all()
    fresh = [middle.make(folder, bundle, "video", seed).layers[0].weight for seed in (0, 0, 1)]
    assert torch.equal(fresh[0], fresh[1])
    assert not torch.equal(fresh[0], fresh[2])
    assert not torch.equal(fresh[0], start.layers[0].weight)


def test_a_layer_is_kept_only_behind_this_encoder_and_before_a_non_linearity():
    assert isinstance(head_start(Pairs(), "video", 8), HeadStart)
    assert head_start(Pairs(), "video", 9) is None, "of another width"
    assert head_start(Pairs(), "audio", 3) is None, "one linear layer is all there is"
    assert head_start(Pairs(), "image", 8) is None


def test_without_a_head_the_last_level_is_the_middle(run):
    folder, bundle = run()
    middle = find_middle(folder, bundle, "video")
    start = middle.make(folder, bundle, "video")
    assert isinstance(start, LevelMean)
    features = bundle["video"](torch.rand(2, 3, 2, 32, 32))
    torch.testing.assert_close(start(features), features.levels[16].mean(dim=(2, 3, 4)))
    assert start.width == 6
    assert find_middle(folder, bundle, "video", "pooled").make(folder, bundle, "video").width == 8


def test_a_start_that_is_not_there_or_not_alone_is_named(run):
    folder, bundle = run("pairs", "others")
    with pytest.raises(UserError, match=r"2 heads project 'video' \(others, pairs\); give one of them as --start"):
        find_middle(folder, bundle, "video")
    assert find_middle(folder, bundle, "video", "others").head == "others"
    with pytest.raises(UserError, match=r"no start 'pair' .*did you mean 'pairs'"):
        find_middle(folder, bundle, "video", "pair")


def test_a_head_without_a_layer_to_keep_is_named(world):
    run, _ = world
    with pytest.raises(UserError, match="the head 'pairs_only' has no layer behind 'video'"):
        find_middle(run, Encoders.from_pretrained(run), "video", "pairs_only")


def test_shares_out_of_range_are_named():
    for shares in ((), (0.0,), (0.1, 0.1), (1.5,)):
        with pytest.raises(UserError, match="shares are different numbers"):
            FewLabels(shares=shares)
    with pytest.raises(UserError, match="temperature must be > 0"):
        FewLabels(temperature=0)
    with pytest.raises(UserError, match="steps is 0"):
        FewLabels(steps=0)
