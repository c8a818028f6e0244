"""AVClustering: labels from the other modality or from both, clusters from the queue, and law 6 under both rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.nn.clusters import Centroids
from mmssl.ops.kmeans import nearest_centroid
from mmssl.tasks.base import Moment, MultiTask, Outcome
from mmssl.tasks.cross_modal.av_clustering import RULES, AVClustering
from tests.batches import World
from tests.contract import test_tasks as contract
from tests.tasks.cross_modal.controls import held_out, train
from tests.tasks.cross_modal.trained import changed, mean, multitask_of, outcome_of

SIZE = (32, 32)
NO_ESTIMATE, ESTIMATE = Moment(3, 100, 0, 0.03), Moment(4, 100, 0, 0.04)  # of tasks that estimate every five steps


def task_of(**settings: Any) -> AVClustering:
    plain = {"picture": Span(0.5, 8.0), "sound_seconds": 1.0, "clusters": 4, "heads": 2, "queue": 24, "every": 5}
    return AVClustering(size=SIZE, **(plain | {"augment": False} | settings))


def task_in(multitask: MultiTask) -> AVClustering:
    task = multitask.tasks["task"]
    assert isinstance(task, AVClustering)
    return task


def step(multitask: MultiTask, batch: Batch, moment: Moment) -> Outcome:
    """A step as training makes it, without an optimizer."""
    outcome = multitask(changed(batch), moment)[1]["task"]
    multitask.after_step({"task": [outcome.carry]}, moment)
    return outcome


def filled(rule: str, **settings: Any) -> tuple[MultiTask, World]:
    """A task whose clusters have been estimated from 24 clips of a world of 32."""
    multitask = multitask_of(task_of(rule=rule, **settings))
    world = World(32, multitask.window, seed=4)
    step(multitask, world.batch(range(12)), NO_ESTIMATE)
    step(multitask, world.batch(range(12, 24)), ESTIMATE)
    return multitask, world


def logits_of(multitask: MultiTask, outcome: Outcome) -> dict[str, torch.Tensor]:
    task = task_in(multitask)
    with torch.no_grad():
        return {name: task.classify[name](outcome.carry[name]) for name in ("video", "audio")}


def test_xdc_labels_each_modality_by_the_others_clusters() -> None:
    multitask, world = filled("xdc")
    task = task_in(multitask)
    outcome = outcome_of(multitask, world.batch(range(24, 32)))
    means = {name: task.centroids[name].means for name in ("video", "audio")}
    label = {name: nearest_centroid(F.normalize(outcome.carry[name], dim=1), means[name]) for name in means}
    assert all(len(found.unique()) > 1 for found in label.values())
    logits = logits_of(multitask, outcome)
    loss = F.cross_entropy(logits["video"][0].double(), label["audio"])
    loss = (loss + F.cross_entropy(logits["audio"][0].double(), label["video"])) / 2
    assert float(outcome.loss.detach()) == pytest.approx(float(loss), abs=1e-5)
    right = [logits[a][0].argmax(1) == label[b] for a, b in (("video", "audio"), ("audio", "video"))]
    assert mean(outcome, "accuracy") == pytest.approx(float(torch.stack(right).float().mean()), abs=1e-6)


def label_of(task: AVClustering, outcome: Outcome, classify: Any) -> torch.Tensor:
    """SeLaVi's label of an outcome's rows, in float64, by the given classifiers and the task's potentials."""
    logits = {name: classify[name](outcome.carry[name]).double() for name in ("video", "audio")}
    product = (torch.softmax(logits["video"], 2) * torch.softmax(logits["audio"], 2)).sqrt() ** 20
    return (product.log() + task.potential[:, None]).argmax(dim=2)


def test_selavi_labels_both_by_the_balanced_product() -> None:
    multitask, world = filled("selavi", spread=0.0, iterations=400)
    task = task_in(multitask)
    outcome = outcome_of(multitask, world.batch(range(24, 32)))
    logits = {name: found.double() for name, found in logits_of(multitask, outcome).items()}
    label = label_of(task, outcome, task.classify)  # the copy was made of these, and all views are alike
    loss = sum(F.cross_entropy(x[h], label[h]) for x in logits.values() for h in range(2)) / 4
    assert float(outcome.loss.detach()) == pytest.approx(float(loss), abs=1e-4)
    # The potentials give the queue's samples to the clusters in even shares.
    held = {name: task.queue.vectors(name) for name in logits}
    scores = task.scores({name: task.classify[name](held[name]) for name in held})
    shares = torch.softmax(scores + task.potential[:, None], dim=2).mean(dim=1)
    assert torch.allclose(shares, torch.full((2, 4), 0.25), atol=0.02)


def test_selavi_labels_stay_until_the_next_estimate() -> None:
    """As in the paper: labels of the present networks would confirm whatever these say."""
    multitask, world = filled("selavi")
    task, batch = task_in(multitask), world.batch(range(24, 32))
    example = task.pretext(batch, batch.draws("task"), NO_ESTIMATE)
    before = task._labels(example, example.weight)
    with torch.no_grad():  # training moves on
        for number, parameter in enumerate(multitask.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    outcome = outcome_of(multitask, batch)
    now = task.clusters_of(outcome.carry, task.classify)
    for side in ("video", "audio"):
        assert not torch.equal(now[side], before[side])
        assert torch.equal(task._labels(example, example.weight)[side], before[side])
    said = {name: found.double() for name, found in logits_of(multitask, outcome).items()}
    each = [F.cross_entropy(x[h], before[name][h]) for name, x in said.items() for h in range(task.heads)]
    assert float(outcome.loss.detach()) == pytest.approx(float(torch.stack(each).mean()), abs=1e-4)
    step(multitask, batch, ESTIMATE)
    for side in ("video", "audio"):
        for name, parameter in multitask.encoders[side].named_parameters():
            assert torch.equal(task.labeller.get_buffer(f"copied.{side}.{name}"), parameter), name
        weight = task.classify[side].linear.weight
        assert torch.equal(task.labeller.get_buffer(f"copied.classify.{side}.linear.weight"), weight)


def test_each_group_of_heads_is_labelled_from_a_view_of_its_own() -> None:
    """Neither from what is trained on, nor from the other group's."""
    multitask, world = filled("selavi", augment=True, heads=3)
    task = task_in(multitask)
    batch = world.batch(range(24, 32))
    example = task.pretext(batch, batch.draws("task"), NO_ESTIMATE)
    assert example.label_clips.shape[:2] == example.label_waves.shape[:2] == (8, 2)
    shown = [example.clip, *example.label_clips.unbind(1)]
    heard = [example.wave, *example.label_waves.unbind(1)]
    for views in (shown, heard):
        assert not any(torch.equal(views[a], views[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    plain = task._labels(example, example.weight)["video"]
    for group, heads in ((0, [0, 2]), (1, [1])):
        noise = torch.rand(example.label_clips[:, group].shape, generator=torch.Generator().manual_seed(0))
        clips = example.label_clips.clone()
        clips[:, group] = noise
        changed_label = task._labels(example._replace(label_clips=clips), example.weight)["video"]
        for head in range(3):
            assert torch.equal(changed_label[head], plain[head]) == (head not in heads)


def test_a_view_for_labels_is_another_augmentation_of_the_same_clip() -> None:
    """Sounds differ in their volume alone."""
    task = task_of(augment=True)
    batch = World(8, task.window, seed=4).batch(range(8))
    example = task.pretext(batch, batch.draws("task"), NO_ESTIMATE)
    for wave in example.label_waves.unbind(1):
        ratio = (example.wave * wave).sum(dim=1) / wave.square().sum(dim=1)
        assert torch.allclose(example.wave, ratio[:, None] * wave, atol=1e-5)
        assert float(ratio.std()) > 0.05


@pytest.mark.parametrize("rule", RULES)
def test_clusters_are_estimated_from_the_queue_at_their_steps_only(rule: str) -> None:
    multitask = multitask_of(task_of(rule=rule))
    task = task_in(multitask)
    world = World(24, task.window, seed=4)
    buffers = [b for name, b in task.named_buffers() if "means" in name or "potential" in name]
    before = [b.clone() for b in buffers]
    step(multitask, world.batch(range(3)), ESTIMATE)  # fewer samples than clusters
    step(multitask, world.batch(range(3, 12)), NO_ESTIMATE)
    assert all(torch.equal(a, b) for a, b in zip(before, buffers, strict=True))
    step(multitask, world.batch(range(12, 24)), ESTIMATE)
    assert not any(torch.equal(a, b) for a, b in zip(before, buffers, strict=True))
    assert 0 < float(task.entropy) <= 1
    # Judging changes nothing.
    kept = {name: value.clone() for name, value in multitask.state_dict().items()}
    outcome_of(multitask, world.batch(range(12)))
    assert all(torch.equal(value, kept[name]) for name, value in multitask.state_dict().items())


@pytest.mark.parametrize("rule", RULES)
def test_a_resumed_run_goes_on_with_the_same_labels(rule: str) -> None:
    multitask, world = filled(rule)
    other = multitask_of(task_of(rule=rule), seed=7)
    other.load_state_dict(multitask.state_dict())
    for run in (multitask, other):
        step(run, world.batch(range(24, 32)), NO_ESTIMATE)
        step(run, world.batch(range(8, 16)), ESTIMATE)
    assert all(
        torch.equal(a, b) for a, b in zip(multitask.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_the_numbers_of_clusters_last_from_one_estimate_to_the_next() -> None:
    """Else the classifiers would start over: points that hardly move keep their labels."""
    clusters, generator = Centroids(6, 5), torch.Generator().manual_seed(0)
    points = (2 * torch.randn(5, 1, 6, generator=generator) + torch.randn(5, 20, 6, generator=generator)).flatten(0, 1)
    points = points[torch.randperm(100, generator=generator)]
    clusters.estimate(points, 20)
    before = clusters(points)
    moved = points + 0.02 * torch.randn(100, 6, generator=generator)
    clusters.estimate(moved[torch.randperm(100, generator=generator)], 20)
    assert float((clusters(moved) == before).float().mean()) > 0.9


@pytest.mark.parametrize("rule", RULES)
def test_one_big_cluster_is_at_the_floor_and_shows_in_the_entropy(rule: str) -> None:
    """Collapse: everybody says and gets the same; agreement is full and so is that with other clips."""
    multitask, world = filled(rule)
    task = task_in(multitask)
    with torch.no_grad():
        for name in ("video", "audio"):
            task.classify[name].linear.weight.zero_()
            task.classify[name].linear.bias.copy_(torch.tensor([9.0, 0, 0, 0]).repeat(task.heads))
            if rule == "xdc":
                task.centroids[name].means.zero_()  # the first is nearest to all
        if rule == "selavi":
            task.potential.zero_()
    outcome = outcome_of(multitask, world.batch(range(8)))
    assert mean(outcome, "accuracy") == mean(outcome, "floor") == 1.0
    # At the next estimate k-means refills its clusters; classifiers that say one thing of all leave Sinkhorn nothing to
    # tell apart, and the entropy says so.
    step(multitask, world.batch(range(8)), ESTIMATE)
    entropy = mean(outcome_of(multitask, world.batch(range(8))), "label_entropy")
    assert entropy > 0.5 if rule == "xdc" else entropy < 0.1


def test_the_floor_is_agreement_with_other_clips() -> None:
    multitask, world = filled("selavi")
    outcome = outcome_of(multitask, world.batch(range(8)))
    video, audio = (logits_of(multitask, outcome)[name].argmax(dim=2) for name in ("video", "audio"))
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    chance = sum(float((video[:, i] == audio[:, j]).float().mean()) for i, j in pairs) / len(pairs)
    assert mean(outcome, "floor") == pytest.approx(chance, abs=1e-6)
    alone = outcome_of(multitask, changed(world.batch(range(8)), weight=torch.tensor([1.0] + [0.0] * 7)))
    assert float(alone.metrics["accuracy"][1]) == 0.0


@pytest.mark.parametrize("check", ["what_stands_in_a_hole_changes_nothing", "a_hole_is_as_if_the_clip_were_not_there",
    "no_valid_row_at_all", "state_goes_through_a_state_dict", "between_calls_it_keeps_registered_buffers_only",
    "gradient_reaches_heads_and_used_encoders_and_no_others"])  # fmt: skip
def test_xdc_keeps_the_contract_too(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite runs over the default rule."""
    monkeypatch.setattr(contract, "task_of", lambda name: AVClustering("xdc", size=SIZE))
    more = ("holes",) if check == "no_valid_row_at_all" else ()
    getattr(contract, f"test_{check}")("av_clustering", *more)


def test_what_cannot_be_is_refused() -> None:
    wrongs = (
        {"rule": "kmeans"},
        {"clusters": 1},
        {"clusters": 25},
        {"every": 0},
        {"sharpness": 0.0},
        {"spread": 0.5},
        {"groups": 3},
    )
    for wrong in wrongs:
        with pytest.raises(UserError, match="av_clustering"):
            task_of(**wrong)


def scores_of(rule: str, control: Any, steps: int, clips: int = 96, **settings: Any) -> tuple[float, float, float]:
    """Held-out agreement, that with other clips, and the entropy of the labels."""
    task = task_of(rule=rule, clusters=6, queue=clips, augment=True, **settings)
    multitask = train(task, steps=steps, control=control, clips=clips, batch_size=24)
    found = held_out(multitask, ["accuracy", "floor", "label_entropy"], clips)
    return found["accuracy"], found["floor"], found["label_entropy"]


@pytest.mark.parametrize("rule", RULES)
def test_it_learns_from_true_pairs_in_a_moment(rule: str) -> None:
    accuracy, floor, entropy = scores_of(rule, "none", 32, picture=Span(0.25, 8.0), sound_seconds=0.5)
    assert accuracy > floor + 0.2
    assert floor < 0.3
    assert entropy > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_it_learns_from_true_pairs_and_only_from_them(rule: str) -> None:
    """Law 6, and clusters that stay apart."""
    accuracy, floor, entropy = scores_of(rule, "none", 100, 240)
    assert accuracy > floor + 0.4
    assert floor < 0.3
    assert entropy > 0.5
    for control in ("broken_pairs", "blind"):
        accuracy, floor, _ = scores_of(rule, control, 60, 240)
        assert accuracy < floor + 0.12
