"""AVInstance: who is a negative of whom, what stands in the queue, when the agreement comes in, and law 6."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.randomness import hash_name
from mmssl.tasks.base import Moment, MultiTask, Outcome
from mmssl.tasks.cross_modal.av_instance import AVInstance
from mmssl.tasks.identity import sample_ids
from tests.batches import World, make_batch
from tests.tasks.cross_modal.controls import held_out, train
from tests.tasks.cross_modal.trained import LATE, changed, multitask_of, outcome_of, ramp

SIZE = (32, 32)
EARLY, AFTER = Moment(9, 100, 0, 0.09), Moment(10, 100, 0, 0.1)


def task_of(**settings: Any) -> AVInstance:
    plain = {"picture": Span(0.5, 8.0), "sound_seconds": 1.0, "queue": 32, "positives": 3, "augment": False}
    return AVInstance(size=SIZE, **(plain | settings))


def step(multitask: MultiTask, batch: Batch, moment: Moment = EARLY) -> Outcome:
    """A step as training makes it, without an optimizer."""
    outcome = multitask(changed(batch), moment)[1]["task"]
    multitask.after_step({"task": [outcome.carry]}, moment)
    return outcome


def task_in(multitask: MultiTask) -> AVInstance:
    task = multitask.tasks["task"]
    assert isinstance(task, AVInstance)
    return task


def test_clip_and_sound_are_of_one_stretch_of_time() -> None:
    task = AVInstance(size=SIZE, augment=False)
    batch = ramp(World(32, task.window).batch(range(32)))
    wave = task.pretext(batch, batch.draws("task"), LATE).wave.double() * 10
    middle = batch.times(task.picture).mean(dim=1) + 0.5 / task.picture.rate
    assert wave.shape[1] == 32000
    assert float((wave.mean(dim=1) - middle).abs().max()) <= 0.5 + 0.02  # inside the clip: one second within two
    inner = (middle > 1.05) & (middle < 2.95)
    assert float((wave.mean(dim=1) - middle).abs()[inner].max()) < 0.01


def test_silence_and_clips_that_end_before_the_window_take_no_part() -> None:
    task = task_of(picture=Span(1.0, 8.0))
    batch = World(6, task.window, shorter={2: 0.5}).batch(range(6))
    audio = batch.audio.clone()
    audio[4] *= 1e-4
    batch = changed(batch, audio=audio)
    assert task.pretext(batch, batch.draws("task"), LATE).weight.tolist() == [1, 1, 0, 1, 0, 1]


def test_a_sample_has_one_id_in_all_epochs_and_clips_of_a_video_may_share_it() -> None:
    world = World(6, task_of().window)
    one, later = sample_ids(world.batch(range(6), 0)), sample_ids(world.batch(range(6), 5))
    assert torch.equal(one, later)
    assert len(one.unique()) == 6
    batch = changed(world.batch(range(4)), keys=("dog-0000", "dog-0001", "cat-0000", "dog-0000"))
    assert len(sample_ids(batch).unique()) == 3
    by_video = sample_ids(changed(batch), "-[0-9]{4}$")
    assert by_video.tolist() == [hash_name(f"world\x1f{video}") for video in ("dog", "dog", "cat", "dog")]


def test_the_queue_holds_both_embeddings_of_a_sample_at_one_index() -> None:
    """Over shuffled batches, holes and wrap-arounds: place i of both modalities belongs to the sample of ids[i]."""
    multitask = multitask_of(task_of(queue=10))
    task = task_in(multitask)
    world, generator = World(16, task.window, seed=4), torch.Generator().manual_seed(0)
    for _ in range(4):
        rows = torch.randperm(16, generator=generator)[:7].tolist()
        step(multitask, changed(world.batch(rows), weight=torch.tensor([1.0, 1, 0, 1, 1, 1, 0])))
    assert int(task.queue.filled) == 10
    whole = world.batch(range(16))
    example = task.pretext(whole, whole.draws("task"), EARLY)
    with torch.no_grad():
        encoders = multitask.encoders
        video = task.matcher.embed("picture", encoders["video"](example.clip))
        audio = task.matcher.embed("sound", encoders["audio"](encoders["audio"].frontend(example.wave)))
    owner = [example.ids.tolist().index(i) for i in task.queue.ids.tolist()]
    assert torch.allclose(task.queue.vectors("video"), video[owner], atol=1e-5)
    assert torch.allclose(task.queue.vectors("audio"), audio[owner], atol=1e-5)
    assert torch.allclose(task.queue.vectors("audio").norm(dim=1), torch.ones(10), atol=1e-5)


def test_the_loss_is_taken_against_the_queue_as_it_was() -> None:
    """The first step has the batch alone; the second has the first one's rows, by the formula in float64."""
    multitask = multitask_of(task_of())
    task = task_in(multitask)
    world = World(12, task.window, seed=4)
    for number, rows in enumerate((range(6), range(6, 12))):
        queued = [task.queue.vectors(n)[task.queue.occupied()].double() for n in ("video", "audio")]
        outcome = step(multitask, world.batch(rows))
        video, audio = outcome.carry["video"].double(), outcome.carry["audio"].double()
        label = torch.arange(6)
        expected = sum(
            F.cross_entropy(a @ torch.cat([b, old]).T / 0.07, label) / 2
            for a, b, old in ((video, audio, queued[1]), (audio, video, queued[0]))
        )
        assert len(queued[0]) == 6 * number
        assert float(outcome.loss.detach()) == pytest.approx(float(expected), abs=1e-5)


def test_entries_of_the_same_sample_are_no_negatives() -> None:
    """Planted false negatives: the batch's own samples of an epoch ago. Each row sees the queue but for its own."""
    multitask = multitask_of(task_of())
    world = World(12, multitask.tasks["task"].window, seed=4)
    step(multitask, world.batch(range(6), epoch=3))
    outcome = outcome_of(multitask, world.batch(range(6)))
    video, audio = outcome.carry["video"].double() / 0.07, outcome.carry["audio"].double()
    logits, own = video @ audio.T, torch.eye(6, dtype=torch.bool)  # unaugmented: the queue holds the very same vectors

    def expected(queued: torch.Tensor) -> float:
        both = [torch.cat([x, x.masked_fill(queued, -math.inf)], dim=1) for x in (logits, logits.T)]
        return float(sum(F.cross_entropy(x, torch.arange(6)) for x in both) / 2)

    assert float(outcome.loss.detach()) == pytest.approx(expected(own), abs=1e-5)
    strangers = changed(world.batch(range(6)), keys=tuple(f"other{i}" for i in range(6)))
    loss = float(outcome_of(multitask, strangers).loss.detach())
    assert loss == pytest.approx(expected(torch.zeros_like(own)), abs=1e-5)
    assert loss > expected(own) + 0.01
    # Within a batch: a repeated sample is neither negative nor rival.
    twice = world.batch([0, 1, 2, 3, 4, 5, 6, 7, 7])
    outcome = outcome_of(multitask_of(task_of()), twice)
    scores = (outcome.carry["video"] @ outcome.carry["audio"].T).double() / 0.07
    kept = torch.ones(9, 9, dtype=torch.bool)
    kept[7, 8] = kept[8, 7] = False
    logits = scores.masked_fill(~kept, -math.inf)
    expected = (F.cross_entropy(logits, torch.arange(9)) + F.cross_entropy(logits.T, torch.arange(9))) / 2
    assert float(outcome.loss.detach()) == pytest.approx(float(expected), abs=1e-5)


def test_collapsed_embeddings_give_the_log_of_the_candidates() -> None:
    multitask = multitask_of(task_of())
    task = task_in(multitask)
    world = World(16, task.window, seed=4)
    step(multitask, world.batch(range(10)))
    with torch.no_grad():
        for head in (task.matcher.picture, task.matcher.sound):
            head[-1].weight.zero_()
            head[-1].bias.fill_(1.0)
        for name in ("video", "audio"):
            task.queue.vectors(name).fill_(128**-0.5)
    outcome = outcome_of(multitask, world.batch(range(6, 16)))  # six rivals, four of them in the queue themselves
    expected = (6 * math.log(10 + 10) + 4 * math.log(10 + 9)) / 10
    assert float(outcome.loss.detach()) == pytest.approx(expected, abs=1e-4)
    total, count = outcome.metrics["accuracy"]
    assert float(total / count) == pytest.approx(1 / 8, abs=1e-5)


def test_agreement_comes_in_at_its_step_with_half_the_weight() -> None:
    multitask = multitask_of(task_of(agreement_from=10))
    world = World(24, multitask.tasks["task"].window, seed=4)
    step(multitask, world.batch(range(16)))
    before = multitask(world.batch(range(16, 24)), EARLY)[1]["task"]
    after = multitask(world.batch(range(16, 24)), AFTER)[1]["task"]
    assert set(before.losses) == {"instance"}
    assert set(after.losses) == {"instance", "agreement"}
    assert torch.allclose(after.losses["instance"], 0.5 * before.losses["instance"])
    assert -1 <= float(after.metrics["consensus"][0] / after.metrics["consensus"][1]) <= 1


def test_agreement_is_within_each_modality_and_its_positives_are_no_negatives() -> None:
    """By the formula, from the queue: mined by the smaller similarity, contrasted within video and within audio."""
    multitask = multitask_of(task_of(agreement_from=0))
    task = task_in(multitask)
    world = World(24, task.window, seed=4)
    step(multitask, world.batch(range(16)))
    outcome = outcome_of(multitask, world.batch(range(12, 20)), AFTER)  # four of them are in the queue already
    ids, held = outcome.carry["ids"], task.queue.ids[task.queue.occupied()]
    similar = {
        name: (outcome.carry[name] @ task.queue.vectors(name)[task.queue.occupied()].T).double()
        for name in ("video", "audio")
    }
    total = 0.0
    for i in range(8):
        allowed = [j for j in range(16) if held[j] != ids[i]]
        assert len(allowed) == (15 if i < 4 else 16)
        ranked = sorted(allowed, key=lambda j: -min(float(similar["video"][i, j]), float(similar["audio"][i, j])))
        positives, negatives = ranked[:3], ranked[3:]
        assert not set(positives) & set(negatives)
        for values in similar.values():
            noise = sum(math.exp(float(values[i, j]) / 0.07) for j in negatives)
            for j in positives:
                mine = math.exp(float(values[i, j]) / 0.07)
                total += -math.log(mine / (mine + noise)) / (8 * 2 * 3)
    assert float(outcome.losses["agreement"].detach()) == pytest.approx(0.5 * total, abs=1e-4)


def test_a_queue_too_short_for_negatives_gives_no_agreement() -> None:
    multitask = multitask_of(task_of(agreement_from=0, positives=8))
    outcome = outcome_of(multitask, make_batch(range(6), multitask.tasks["task"].window), AFTER)
    assert float(outcome.losses["agreement"].detach()) == 0.0
    outcome.loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in multitask.parameters() if p.grad is not None)


def test_what_cannot_be_is_refused() -> None:
    for wrong in ({"temperature": 0.0}, {"positives": 0}, {"positives": 32, "queue": 32}):
        with pytest.raises(UserError, match="av_instance"):
            task_of(**wrong)


def scores_of(control: Any, steps: int) -> float:
    short = {"picture": Span(0.25, 8.0), "sound_seconds": 0.5, "queue": 64, "positives": 4, "augment": True}
    multitask = train(task_of(**short), steps=steps, control=control, clips=64)
    return held_out(multitask, ["accuracy"], clips=64)["accuracy"]


def test_it_learns_from_true_pairs_and_only_from_them() -> None:
    """Law 6; the world has eight materials, so what a control learns by chance scatters by about 0.05."""
    assert scores_of("none", 24) > 0.3
    assert scores_of("broken_pairs", 12) < 0.125 + 0.12
    assert scores_of("blind", 12) < 0.125 + 0.12


@pytest.mark.slow
@pytest.mark.parametrize("agreement_from", [None, 60])
def test_it_learns_well_with_and_without_agreement(agreement_from: int | None) -> None:
    task = task_of(queue=128, positives=8, augment=True, agreement_from=agreement_from)
    assert held_out(train(task, steps=120), ["accuracy"])["accuracy"] > 0.6
