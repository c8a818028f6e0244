"""Dense predictive coding: blocks are encoded apart, and a score that neither place nor tint nor batch size lifts."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from mmssl.batch import Batch
from mmssl.ops.partners import ring_others, top_rate
from mmssl.randomness import Draws
from mmssl.tasks.base import Control, Moment, MultiTask, Outcome
from mmssl.tasks.contrastive.dense_predictive_coding import DensePredictiveCoding
from tests.batches import small_encoders
from tests.tasks.context.scenes import camera_times, moving_discs, picture_batch, still_films, timed
from tests.tasks.fitting import fit

MOMENT = Moment(0, 1, 0, 0.0)
FLOOR = 1 / 12


def coding_task(**settings: Any) -> DensePredictiveCoding:
    return DensePredictiveCoding(**({"size": (32, 32), "width": 32} | settings))


def multitask_of(task: DensePredictiveCoding, control: Control = "none") -> MultiTask:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MultiTask(small_encoders(0, 32), {"dense_predictive_coding": task}, control=control).eval()


def films(task: DensePredictiveCoding, count: int, seed: int) -> Batch:
    return picture_batch(moving_discs(count, seed, span=task.picture), span=task.picture, first=seed * 10**6)


def mean(outcome: Outcome, metric: str) -> float:
    total, count = outcome.metrics[metric]
    return float(total / count)


def train(task: DensePredictiveCoding, steps: int, control: Control = "none", rows: int = 16) -> MultiTask:
    seen = moving_discs(256, 1, span=task.picture)

    def batch_of(step: int) -> Batch:
        first, epoch = step * rows % len(seen), step * rows // len(seen)
        return picture_batch(seen[first : first + rows], epoch=epoch, span=task.picture, first=first)

    return fit(multitask_of(task, control), batch_of, steps, 1e-2)


@torch.no_grad()
def score(multitask: MultiTask, batch: Batch) -> Outcome:
    return multitask(batch, MOMENT)[1]["dense_predictive_coding"]


def test_no_receptive_field_reaches_over_into_another_block() -> None:
    """The gradient of what is predicted with respect to the pixels of the blocks that are predicted is exactly 0."""
    task = coding_task()
    multitask = multitask_of(task)
    batch = films(task, 3, 0)
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    blocks = torch.cat([example.seen, example.next], dim=1).requires_grad_()
    features = task.features(blocks, multitask.encoders)
    made = task.predict(features[:, : task.seen])
    (by_prediction,) = torch.autograd.grad(made[0].sum(), blocks, retain_graph=True)
    assert bool(by_prediction[0, : task.seen].flatten(1).any(dim=1).all())  # every seen block is used
    assert not by_prediction[0, task.seen :].any()
    assert not by_prediction[1:].any()
    (by_target,) = torch.autograd.grad(features[0, task.seen].sum(), blocks)
    assert by_target[0, task.seen].any()
    by_target[0, task.seen] = 0.0
    assert not by_target.any()


def test_the_first_blocks_are_predicted_from_the_later_ones_alone() -> None:
    task = coding_task(backwards=True)
    multitask = multitask_of(task)
    batch = films(task, 3, 0)
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    blocks = torch.cat([example.seen, example.next], dim=1).requires_grad_()
    features = task.features(blocks, multitask.encoders).flip(1)
    (by_prediction,) = torch.autograd.grad(task.predict(features[:, : task.seen], back=True)[0].sum(), blocks)
    assert bool(by_prediction[0, 3:].flatten(1).any(dim=1).all())
    assert not by_prediction[0, :3].any()
    assert not by_prediction[1:].any()


def test_the_way_back_is_the_way_forwards_of_the_film_run_backwards() -> None:
    task = coding_task(backwards=True, memory=16)
    multitask = multitask_of(task)
    task.recurrent_back.load_state_dict(task.recurrent.state_dict())
    batch = films(task, 6, 0)
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    turned = torch.cat([example.seen, example.next], dim=1).flip(1)
    outcomes = []
    for one in (example, example._replace(seen=turned[:, :5], next=turned[:, 5:])):
        outcomes.append(task(one, multitask.encoders, MOMENT))
        multitask.encoders.forget()
    one, other = outcomes
    assert float(one.losses["nce"]) != pytest.approx(float(one.losses["nce_backwards"]), rel=1e-4)
    for here, there in (("", "_backwards"), ("_backwards", "")):
        torch.testing.assert_close(one.losses[f"nce{here}"], other.losses[f"nce{there}"])
        assert mean(one, f"top1{here}") == pytest.approx(mean(other, f"top1{there}"))
    assert float(one.loss) == pytest.approx(float(one.losses["nce"] + one.losses["nce_backwards"]), rel=1e-6)


@pytest.mark.parametrize("seen", [3, 5])
def test_broken_both_ways_no_part_need_be_of_the_clip_of_another(seen: int) -> None:
    """The first blocks stay the clip's own; those between and the last are of clips drawn apart, steps exchanged."""
    task = coding_task(backwards=True, seen=seen, noise=(0.0, 0.0), jitter=0.0, split=0.0)
    batch = films(task, 32, 0)
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    clip = torch.arange(32.0)[:, None, None, None, None, None]
    step = torch.arange(seen + 3.0)[None, :, None, None, None, None] / 100
    told = (clip + step).expand(32, seen + 3, 3, 4, 32, 32)
    example = example._replace(seen=told[:, :seen], next=told[:, seen:])
    broken = task.break_pairs(example, batch.draws("x"))
    told = torch.cat([broken.seen, broken.next], dim=1)[:, :, 0, 0, 0, 0]
    clips, steps = told.floor(), ((told - told.floor()) * 100).round()
    first, between, last = clips[:, 0], clips[:, 3:seen], clips[:, seen]
    assert torch.equal(first, torch.arange(32.0))
    assert torch.equal(last.sort().values, torch.arange(32.0))
    assert float((last == first).float().mean()) < 0.2
    for part in (clips[:, :3], between, clips[:, seen:]):
        assert torch.equal(part, part[:, :1].expand_as(part))
    if seen > 3:
        assert torch.equal(between[:, 0].sort().values, torch.arange(32.0))
        assert float((between[:, 0] == last).float().mean()) < 0.2
    for at in (slice(0, 3), slice(seen, None)):
        assert len(set(map(tuple, steps[:, at].tolist()))) > 3  # many orders
        assert torch.equal(steps[:, at].sort(dim=1).values, steps[:, at].sort(dim=1).values[:1].expand(32, 3))


def test_blocks_follow_each_other_and_each_has_one_tint() -> None:
    task = coding_task(split=0.0, noise=(0.0, 0.0))
    batch = films(task, 4, 0)
    batch.frames.fill_(128)
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    blocks = torch.cat([example.seen, example.next], dim=1)
    assert blocks.shape == (4, 8, 3, 4, 32, 32)
    tints = blocks.flatten(3)
    assert torch.equal(tints.amin(dim=3), tints.amax(dim=3))  # one over the frames and places of a block
    assert float((tints[:, 1:, :, 0] - tints[:, :-1, :, 0]).abs().amax(dim=2).min()) > 0.001  # another in each
    plain = coding_task(jitter=0.0, split=0.0, noise=(0.0, 0.0))
    batch = films(plain, 4, 0)
    draws = batch.draws("x")
    example = plain.pretext(batch, draws, MOMENT)
    film = torch.cat([example.seen, example.next], dim=1).transpose(2, 3).flatten(1, 2)
    mirrored = draws.bernoulli("mirror", 0.5)[:, None, None, None, None]
    wanted = torch.where(mirrored, batch.frames[:, 0].flip(-1), batch.frames[:, 0]).float() / 255
    torch.testing.assert_close(film, wanted)


@pytest.mark.parametrize(("rate", "kept"), [(12.5, 1), (25.0, 1), (24.0, 0), (30.0, 0), (120.0, 0), (10.0, 0)])
def test_frames_in_an_uneven_rhythm_give_no_row(rate: float, kept: int) -> None:
    """The rhythm of a film of 30 frames a second goes on from the seen blocks to the predicted ones, and tells them."""
    task = coding_task()
    batch = timed(films(task, 4, 0), camera_times(task.picture, rate))
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    assert example.weight.tolist() == [kept] * 4
    assert [float(x) for x in score(multitask_of(task), batch).metrics["even_clips"]] == [4 * kept, 4]


def test_a_film_that_has_ended_gives_no_row() -> None:
    task = coding_task(rate=25.0)
    times = np.minimum(np.arange(task.picture.count), task.picture.count - 2) / 25
    batch = timed(films(task, 4, 0), times)
    assert task.pretext(batch, batch.draws("x"), MOMENT).weight.tolist() == [0] * 4


def test_half_of_the_blocks_keep_one_channel() -> None:
    task = coding_task(jitter=0.0)
    batch = films(task, 40, 0)
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    grey = (example.seen == example.seen[:, :, :1]).flatten(2).all(dim=2)
    assert 0.35 < float(grey.float().mean()) < 0.65


@pytest.mark.parametrize(("memory", "backwards"), [(0, False), (16, False), (16, True)])
def test_predictions_of_the_memory_are_mixtures_of_its_slots(memory: int, backwards: bool) -> None:
    task = coding_task(memory=memory, backwards=backwards)
    multitask = multitask_of(task)
    made = task.predict(torch.randn(2, 5, 32, 2, 2))
    assert made.shape == (2, 3, 32, 2, 2)
    loss, _ = multitask(films(task, 4, 0), MOMENT)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in task.parameters())
    if memory:
        inside = (task.memory.amin(dim=0)[:, None, None], task.memory.amax(dim=0)[:, None, None])
        assert bool(((made >= inside[0] - 1e-5) & (made <= inside[1] + 1e-5)).all())
        assert float(made.std().detach()) < float(task.memory.std().detach())


def test_loss_is_the_cross_entropy_over_clips_steps_and_places() -> None:
    task = coding_task()
    multitask = multitask_of(task)
    batch = films(task, 3, 0)
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    example = example._replace(weight=torch.tensor([1.0, 0.0, 1.0]))
    found = task(example, multitask.encoders, MOMENT).loss
    multitask.encoders.forget()
    features = task.features(torch.cat([example.seen, example.next], dim=1), multitask.encoders).double()
    made = task.predict(features[:, :5].float()).double()
    rows = []
    places = [(b, t, y, x) for b in (0, 2) for t in range(3) for y in range(2) for x in range(2)]
    for b, t, y, x in places:
        logits = torch.stack([(made[b, t, :, y, x] * features[c, 5 + s, :, v, u]).sum() for c, s, v, u in places])
        rows.append(-logits.log_softmax(dim=0)[places.index((b, t, y, x))])
    assert torch.allclose(found.double(), torch.stack(rows).mean(), atol=1e-5)


@pytest.mark.parametrize("count", [4, 9, 40])
def test_a_constant_model_is_at_the_floor_however_large_the_batch(count: int) -> None:
    task = coding_task()
    multitask = multitask_of(task)
    with torch.no_grad():
        for parameter in task.project.parameters():
            parameter.zero_()
    outcome = score(multitask, films(task, count, 0))
    assert mean(outcome, "top1") == pytest.approx(FLOOR, abs=1e-6)
    assert mean(outcome, "temporal_top1") == pytest.approx(1 / 3, abs=1e-6)
    assert mean(outcome, "moving_top1") == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize("count", [4, 9, 40])
def test_features_of_noise_are_at_the_floor_however_large_the_batch(count: int) -> None:
    torch.manual_seed(0)
    task = coding_task()
    total = number = 0.0
    for _ in range(2000 // count):
        made, candidates = torch.randn(count, 3, 4, 8), torch.randn(count, 3, 4, 8)
        metrics = task._metrics(made, candidates, torch.ones(count), torch.rand(count).double())
        total, number = total + float(metrics["top1"][0]), number + float(metrics["top1"][1])
    rows = number * 12
    assert abs(total / number - FLOOR) < 3.5 * (FLOOR * (1 - FLOOR) / rows) ** 0.5


def test_candidates_of_the_score_are_counted_one_by_one() -> None:
    """Against loops over the twelve candidates."""
    torch.manual_seed(0)
    task = coding_task()
    made, candidates = torch.randn(6, 3, 4, 8), torch.randn(6, 3, 4, 8)
    candidates = candidates + made  # some are found
    weight, drawn = torch.tensor([1.0, 1, 0, 1, 1, 1]), torch.rand(6).double()
    others = ring_others(drawn, weight > 0, 3)
    near, temporal = [], []
    for clip in (0, 1, 3, 4, 5):
        for step in range(3):
            for place in range(4):
                mine = made[clip, step, place]
                own = [float(mine @ candidates[clip, s, place]) for s in range(3)]
                rest = [float(mine @ candidates[int(c), s, place]) for c in others[clip] for s in range(3)]
                near.append(own[step] == max(own + rest))
                temporal.append(own[step] == max(own))
    metrics = task._metrics(made, candidates, weight, drawn)
    assert float(metrics["top1"][1]) == 5.0
    assert float(metrics["top1"][0] / 5) == pytest.approx(sum(near) / len(near), abs=1e-5)
    assert float(metrics["temporal_top1"][0] / 5) == pytest.approx(sum(temporal) / len(temporal), abs=1e-5)


def test_steps_of_moving_places_are_counted_one_by_one() -> None:
    torch.manual_seed(0)
    task = coding_task()
    made, true = torch.randn(4, 3, 5, 8), torch.randn(4, 3, 5, 8)
    true = true + 0.5 * made
    moving, weight = torch.rand(4, 5) < 0.5, torch.tensor([1.0, 0, 1, 1])
    found = []
    for clip in (0, 2, 3):
        for step in range(3):
            for place in range(5):
                if moving[clip, place]:
                    scores = [float(made[clip, step, place] @ true[clip, s, place]) for s in range(3)]
                    found.append(scores[step] == max(scores))
    total, count = task._moving(made, true, moving, weight)
    assert 0 < sum(found) < len(found)
    assert float(count) == len(found) / 3
    assert float(total) == pytest.approx(sum(found) / 3)
    rows = [(clip, step, place) for clip in (0, 2, 3) for step in range(3) for place in range(5)]
    dense = [max(rows, key=lambda other, row=row: float(made[row] @ true[other])) == row for row in rows]
    assert float(task._dense(made, true, weight)[[0, 2, 3]].mean()) == pytest.approx(sum(dense) / len(dense))
    same = made[:, :1].expand_as(made)  # who says the same of all three is right in one
    total, count = task._moving(same, true, moving, weight)
    assert float(total / count) == pytest.approx(1 / 3)


def test_the_floor_is_the_last_seen_feature_in_the_predictions_stead() -> None:
    """Of the same encoder; and likeness to it, which lessens with time, is told beside the score of time alone."""
    task = coding_task()
    multitask = multitask_of(task)
    outcome = score(multitask, films(task, 6, 0))

    def last(seen: torch.Tensor, back: bool = False) -> torch.Tensor:
        return seen[:, -1:].expand(-1, 3, -1, -1, -1)

    def unlike(seen: torch.Tensor, back: bool = False) -> torch.Tensor:
        return torch.stack([seen[:, -1], -seen[:, -1], -seen[:, -1]], dim=1)

    for predict, metric, known in ((last, "floor", "dense_top1"), (unlike, "moving_likeness", "moving_top1")):
        with mock.patch.object(task, "predict", predict):
            other = score(multitask, films(task, 6, 0))
        assert mean(other, known) == pytest.approx(mean(outcome, metric))
        assert mean(other, metric) == pytest.approx(mean(outcome, metric))


def test_a_place_moves_where_any_two_steps_differ() -> None:
    """A square that is grey, white and gone moves; where it comes to once only, two steps are alike."""
    task = coding_task(noise=(0.0, 0.0), seen=1)
    batch = films(task, 2, 0)
    batch.frames.fill_(60)
    batch.frames[:, 0, 4:8, :, 8:16, 0:8] = 130
    batch.frames[:, 0, 8:12, :, 8:16, 0:8] = 200
    batch.frames[:, 0, 8:12, :, 8:16, 16:24] = 200
    example = task.pretext(batch, batch.draws("x"), MOMENT)
    mirrored = batch.draws("x").bernoulli("mirror", 0.5)[:, None, None, None]
    change = torch.where(mirrored, example.change.flip(-1), example.change)
    least, most = torch.zeros(2, 32, 32)
    least[8:16, 0:8] = 70 / 255
    most[8:16, 0:8] = most[8:16, 16:24] = 140 / 255
    torch.testing.assert_close(change.amin(dim=1), least.expand(2, 32, 32))
    torch.testing.assert_close(change.amax(dim=1), most.expand(2, 32, 32))


def test_with_fewer_than_four_clips_none_are_compared() -> None:
    task = coding_task()
    outcome = score(multitask_of(task), films(task, 3, 0))
    assert float(outcome.metrics["top1"][1]) == 0.0
    assert float(outcome.metrics["temporal_top1"][1]) == 3.0


def test_others_of_the_ring_differ() -> None:
    drawn = Draws(torch.arange(9), "task").uniform("others")
    valid = torch.arange(9) != 4
    others = ring_others(drawn, valid, 3)
    for row in range(9):
        if bool(valid[row]):
            assert len({row, *others[row].tolist()}) == 4
            assert 4 not in others[row]
        else:
            assert others[row].tolist() == [row] * 3


def test_ties_are_drawn_by_lot() -> None:
    own = torch.tensor([1.0, 1.0, 1.0, 0.0])
    others = torch.tensor([[0.0, 0.5], [1.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    assert top_rate(own, others).tolist() == pytest.approx([1.0, 1 / 2, 1 / 3, 0.0])


def test_what_comes_is_learned_and_without_its_input_or_its_future_nothing_is() -> None:
    """Law 6, in a moment: true films are learned; blinded, or with the futures of others, nothing of time is."""
    task = coding_task()
    held_out = films(task, 128, 2)
    true = score(train(task, 100), held_out)
    blind = score(train(coding_task(), 12, "blind"), held_out)
    broken = score(train(coding_task(), 80, "broken_pairs"), held_out)
    assert mean(true, "top1") > 2 * FLOOR
    assert mean(true, "temporal_top1") > 1 / 3 + 0.05
    assert mean(true, "moving_top1") > 1 / 3 + 0.1
    assert mean(true, "moving_top1") > mean(true, "moving_likeness")
    for outcome in (blind, broken):
        assert mean(outcome, "top1") < 1.4 * FLOOR
        assert abs(mean(outcome, "temporal_top1") - 1 / 3) < 0.04
        assert abs(mean(outcome, "moving_top1") - 1 / 3) < 0.04


@pytest.mark.slow
def test_both_ways_are_learned_and_with_broken_pairs_neither_is() -> None:
    settings = {"backwards": True, "memory": 64}
    held_out = films(coding_task(), 128, 2)
    true = score(train(coding_task(**settings), 200), held_out)
    broken = score(train(coding_task(**settings), 80, "broken_pairs"), held_out)
    for way in ("", "_backwards"):
        assert mean(true, f"top1{way}") > 2 * FLOOR
        assert mean(true, f"temporal_top1{way}") > 1 / 3 + 0.05
        assert mean(broken, f"top1{way}") < 1.4 * FLOOR
        assert abs(mean(broken, f"temporal_top1{way}") - 1 / 3) < 0.04


@pytest.mark.slow
def test_nothing_of_time_is_known_of_films_that_stand_still() -> None:
    """Steps of a still film differ in their tint alone, which no one can predict."""
    task = coding_task()
    multitask = train(task, 300)
    moving = score(multitask, films(task, 128, 2))
    still = score(multitask, picture_batch(still_films(128, 3, span=task.picture), span=task.picture, first=10**7))
    assert mean(moving, "top1") > (1 + FLOOR) / 2
    assert mean(moving, "temporal_top1") > 0.6
    assert abs(mean(still, "temporal_top1") - 1 / 3) < 0.03
    assert mean(still, "top1") < 0.4


def test_one_vector_for_everything_finds_nothing() -> None:
    task = coding_task()
    same = torch.ones(6, 3, 4, 5)
    metrics = task._metrics(same, same, torch.ones(6), torch.rand(6).double())
    found = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert found == pytest.approx({"top1": 1 / 12, "temporal_top1": 1 / 3, "dense_top1": 1 / 72}, rel=1e-5)
