"""AVSync: which instants are compared, which negatives count when, and that synchronisation is learned."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.tasks.base import Control, Moment, MultiTask
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.views import sub_clip_starts
from tests.batches import World, make_batch
from tests.tasks.cross_modal.trained import (
    LATE,
    START,
    changed,
    clock,
    mean,
    multitask_of,
    outcome_of,
    ramp,
    train,
)

SIZE = (32, 32)


def test_picture_and_first_sound_are_of_one_instant_and_the_second_is_apart() -> None:
    world = World(32, AVSync(size=SIZE).window)
    task = AVSync(size=SIZE, augment=False)
    for epoch in range(3):
        batch = clock(ramp(world.batch(range(32), epoch)))
        example = task.pretext(batch, batch.draws("task"), LATE)
        assert example.clip.shape == (32, 3, 8, 32, 32)
        assert example.wave.shape == (64, 16000)
        shown = example.clip[:, 0, 0, 0, 0].double() * 255 / 50
        heard = example.wave[:, 0].double() * 10
        assert float((shown - heard[:32]).abs().max()) < 0.02
        distance = (heard[32:] - heard[:32]).abs()
        assert float(distance.min()) >= 1.5 - 1e-3  # a second of clip and half a second between
        torch.testing.assert_close(heard[32:] - heard[:32], example.offset, atol=1e-3, rtol=0)


def test_curriculum_easy_alone_for_its_share_then_mixed() -> None:
    task = AVSync(size=SIZE)
    shares = [task.hard_now(Moment(step, 100, 0, step / 100)) for step in (0, 49, 50, 99)]
    assert shares == [0.0, 0.0, 0.25, 0.25]
    assert AVSync(easy_share=0.0, hard_share=0.6).hard_now(START) == 0.6


@pytest.mark.parametrize("loss", ["info_nce", "margin"])
def test_hard_negatives_teach_nothing_before_their_time(loss: str) -> None:
    multitask = multitask_of(AVSync(size=SIZE, loss=loss, hard_share=0.5, margin=4.0))
    batch = make_batch(range(8))
    # Other sounds at the second instants: only the hard negatives change.
    task = multitask.tasks["task"]
    example = task.pretext(batch, batch.draws("task"), LATE)
    wave = example.wave.clone()
    wave[8:] = wave[8:].roll(3, dims=0)
    assert bool((example.told & example.hard).any())
    for moment, same in ((START, True), (LATE, False)):
        found = []
        for heard in (example.wave, wave):
            multitask.encoders.forget()
            found.append(task(example._replace(wave=heard), multitask.encoders, moment).loss.detach())
        multitask.encoders.forget()
        assert torch.allclose(found[0], found[1], atol=1e-6) == same


def test_margin_loss_takes_hard_negatives_in_their_share() -> None:
    world = World(64, AVSync(size=SIZE).window)
    batch = world.batch(range(64))
    example = AVSync(size=SIZE).pretext(batch, batch.draws("task"), LATE)
    assert 0.1 < float(example.hard.float().mean()) < 0.4
    assert float(example.told.float().mean()) > 0.8  # clicks at other instants are heard as a difference


def test_second_sounds_that_are_alike_or_silent_are_no_hard_negatives() -> None:
    task = AVSync(size=SIZE, augment=False)
    batch = make_batch(range(4))
    before = task.pretext(batch, batch.draws("task"), LATE)
    assert before.told.tolist() == [True] * 4
    audio = batch.audio.clone()
    since = torch.arange(audio.shape[-1]) / 16000
    audio[1, 0] = 0.1 * torch.sin(2 * torch.pi * 440 * since)  # a steady hum
    # Clip 2 falls silent between the two stretches, on the side of the second.
    middle = float(
        (sub_clip_starts(batch, task.picture, 1.0, 0.5)[0] + before.offset / 2 + 0.5 - batch.audio_start[:, 0])[2]
    )
    audio[2, 0, (since > middle) == bool(before.offset[2] > 0)] = 0.0
    batch = changed(batch, audio=audio)
    example = task.pretext(batch, batch.draws("task"), LATE)
    assert example.weight.tolist() == [1.0] * 4
    assert example.told.tolist() == [True, False, False, True]


def test_what_lies_behind_the_end_of_a_short_clip_takes_no_part() -> None:
    task = AVSync(size=SIZE, augment=False)
    world = World(64, task.window, shorter=dict.fromkeys(range(32), 1.6))
    batch = world.batch(range(64))
    example = task.pretext(batch, batch.draws("task"), LATE)
    a, _ = sub_clip_starts(batch, task.picture, 1.0, 0.5)
    inside = a + 1.0 <= batch.duration + 1e-3
    assert 5 < int(inside[:32].sum()) < 27
    assert torch.equal(example.weight > 0, inside)
    assert not bool((example.told & inside)[:32].any())  # where the first is inside, the second is not
    assert float(example.told[32:].float().mean()) > 0.8


@pytest.mark.parametrize("loss", ["info_nce", "margin"])
def test_loss_and_metrics_do_not_hang_on_the_order_of_the_batch(loss: str) -> None:
    multitask = multitask_of(AVSync(size=SIZE, loss=loss))
    world = World(8, multitask.window)
    one, two = (outcome_of(multitask, world.batch(rows)) for rows in ((0, 1, 2, 3, 4, 5), (3, 5, 0, 4, 2, 1)))
    torch.testing.assert_close(one.loss, two.loss, atol=1e-5, rtol=1e-5)
    for name, values in one.metrics.items():
        for a, b in zip(values, two.metrics[name], strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_score_is_the_mean_of_easy_and_hard() -> None:
    outcome = outcome_of(multitask_of(AVSync(size=SIZE)), make_batch(range(12)))
    assert float(outcome.metrics["accuracy_hard"][1]) == 12  # all have a hard negative here
    assert mean(outcome, "accuracy") == pytest.approx(
        (mean(outcome, "accuracy_easy") + mean(outcome, "accuracy_hard")) / 2
    )
    near, far, both = (outcome.metrics[f"accuracy_{kind}"] for kind in ("off_1.5", "off_2", "hard"))
    assert float(near[0] + far[0]) == pytest.approx(float(both[0]))
    assert float(near[1] + far[1]) == float(both[1])


def test_super_hard_sounds_overlap_by_a_fixed_length_and_come_before_and_after_alike() -> None:
    task = AVSync(size=SIZE, augment=False, super_share=0.6, overlap=0.75)
    world = World(64, task.window)
    starts: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    for epoch in range(20):
        batch = clock(ramp(world.batch(range(64), epoch)))
        example = task.pretext(batch, batch.draws("task"), LATE)
        shown, heard = example.clip[:, 0, 0, 0, 0].double() * 255 / 50, example.wave[:, 0].double() * 10
        assert float((shown - heard[:64]).abs().max()) < 0.02
        torch.testing.assert_close(heard[64:] - heard[:64], example.offset, atol=1e-3, rtol=0)
        close = example.offset.abs() < 1
        assert example.offset[close].abs().unique().tolist() == pytest.approx([0.25])
        assert float(example.offset[~close].abs().min()) >= 1.5 - 1e-6
        assert 0.3 < float(close.float().mean()) < 0.9
        right, wrong = (start - batch.wanted_times[:, 0, 0] for start in (heard[:64], heard[64:]))
        starts[False].append(torch.stack([right[~close], wrong[~close]]))
        starts[True].append(torch.stack([right[close], wrong[close]]))
    for found in starts.values():
        right, wrong = torch.cat(found, dim=1).mul(8).round()
        assert float(right.min()) == float(wrong.min()) == 0  # the first frame of the window, for both
        assert float(right.max()) == float(wrong.max()) == 16
        # Where a sound lies says nothing of its being right: the mean over some 500 differs by no more than by chance.
        assert abs(float(right.mean() - wrong.mean())) < 4 * float(right.std()) * (2 / len(right)) ** 0.5


def test_super_hard_sounds_are_told_apart_by_kind_and_by_how_far_they_are_off() -> None:
    task = AVSync(size=SIZE, super_share=0.5)
    assert list(task.kinds) == [
        "accuracy_hard",
        "accuracy_super",
        "accuracy_off_0.5",
        "accuracy_off_1.5",
        "accuracy_off_2",
    ]
    assert list(AVSync(picture=Span(4.0, 8)).kinds)[1:] == [f"accuracy_off_{n}" for n in ("1.5", "2", "2.5", "3")]
    metrics = outcome_of(multitask_of(task), World(32, task.window).batch(range(32))).metrics
    counts = {name: float(metrics[f"accuracy_{name}"][1]) for name in ("hard", "super", "off_0.5", "off_1.5", "off_2")}
    assert counts["super"] == counts["off_0.5"] > 4
    assert counts["hard"] == counts["off_1.5"] + counts["off_2"] > 4


@pytest.mark.parametrize("loss", ["info_nce", "margin"])
def test_super_hard_negatives_teach_nothing_before_their_time(loss: str) -> None:
    task = AVSync(size=SIZE, loss=loss, hard_share=1.0, super_share=1.0, super_from=0.75, margin=4.0)
    multitask = multitask_of(task)
    batch = World(8, task.window).batch(range(8))
    example = task.pretext(batch, batch.draws("task"), LATE)
    assert bool(example.told.any())
    wave = example.wave.clone()
    wave[8:] = wave[8:].roll(3, dims=0)
    for progress, same in ((0.6, True), (0.8, False)):
        found = []
        for heard in (example.wave, wave):
            multitask.encoders.forget()
            moment = Moment(round(100 * progress), 100, 0, progress)
            found.append(task(example._replace(wave=heard), multitask.encoders, moment).loss.detach())
        multitask.encoders.forget()
        assert torch.allclose(found[0], found[1], rtol=0, atol=1e-6) == same


@pytest.mark.parametrize("skew", [0.2, -0.3])
def test_a_skew_takes_every_sound_late_and_leaves_out_what_was_not_decoded(skew: float) -> None:
    task = AVSync(size=SIZE, augment=False, skew=skew)
    world = World(32, task.window)
    batch = clock(ramp(world.batch(range(32))))
    example = task.pretext(batch, batch.draws("task"), LATE)
    kept = example.weight > 0
    assert 16 < int(kept.sum()) < 32  # clips whose window lies at an end have nothing beyond it
    shown, heard = example.clip[:, 0, 0, 0, 0].double() * 255 / 50, example.wave[:, 0].double() * 10
    assert float((heard[:32] - shown - skew)[kept].abs().max()) < 0.02
    both = kept & example.told
    torch.testing.assert_close((heard[32:] - heard[:32])[both], example.offset[both], atol=1e-3, rtol=0)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="loss must be one of info_nce, margin, got 'triplet'"):
        AVSync(loss="triplet")
    with pytest.raises(UserError, match=r"picture of 2\.0 s holds no two clips of 1\.0 s with a gap of 0\.5 s"):
        AVSync(picture=Span(2.0, 8))
    with pytest.raises(UserError, match=r"overlap must be above 0 and at least a frame shorter than a clip of 1\.0 s"):
        AVSync(overlap=0.9, super_share=0.5)
    with pytest.raises(UserError, match=r"hard_share must be a share in \[0, 1\], got 2"):
        AVSync(hard_share=2)


def judged(
    multitask: MultiTask, metric: str, change: Callable[[Batch], Batch] = lambda batch: batch, **asked: Any
) -> float:
    """A metric of a trained task on clips it has not seen, asked with other settings of its pairs."""
    task = AVSync(size=SIZE, augment=False, **asked)
    again = MultiTask(multitask.encoders, {"task": task}).eval()
    task.load_state_dict(multitask.tasks["task"].state_dict())
    with torch.no_grad():
        return mean(outcome_of(again, change(World(256, task.window, seed=1).batch(range(192)))), metric)


def out_of_order(batch: Batch) -> Batch:
    """The batch whose frames are in another order, drawn for each clip."""
    order = batch.draws("order").permutation("order", batch.frames.shape[2])
    return changed(batch, pixels=batch.frames[torch.arange(len(batch))[:, None], :, order].transpose(1, 2).contiguous())


@pytest.mark.slow
def test_synchronisation_is_learned_by_kind_and_by_offset_and_a_wrong_clock_is_noticed() -> None:
    curriculum = train(AVSync(size=SIZE, easy_share=0.3, augment=False), steps=120)
    easy, hard = (judged(curriculum, f"accuracy_{kind}") for kind in ("easy", "hard"))
    assert easy > 0.9
    assert hard > 0.85
    # The further off, the easier, as far as there is anything left to gain: these flashes are sharp to a frame.
    close = [judged(curriculum, "accuracy_super", super_share=1.0, overlap=1 - off) for off in (0.125, 0.25, 0.5)]
    assert close[0] > 0.8
    for nearer, further in itertools.pairwise([*close, hard]):
        assert further > nearer - 0.03
    # A clock that is 200 ms off, either way, and a picture whose time is out of order.
    for skew in (0.2, -0.2):
        assert judged(curriculum, "accuracy_hard", skew=skew) < hard - 0.1
    assert judged(curriculum, "accuracy_hard", out_of_order) == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_easy_negatives_alone_teach_synchronisation_too() -> None:
    """AVTS, which pools over time, needs the hard negatives for it.

    Compared point in time by point in time, a world of single events is learned from easy negatives: other clips'
    sounds come at other instants.
    """
    easy_alone = train(AVSync(size=SIZE, easy_share=1.0, augment=False), steps=120)
    assert judged(easy_alone, "accuracy_easy") > 0.9
    assert judged(easy_alone, "accuracy_hard") > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("control", ["broken_pairs", "blind"])
def test_controls_teach_nothing(control: Control) -> None:
    """Law 6, on the score, the mean of four trainings: one alone ends 0.11 (standard deviation of 20) off either way.

    In a world of single flashes and tones a network that has learned nothing still finds the flash and the tone, and
    whether it holds them for alike is a matter of its start.
    """
    found = [
        judged(train(AVSync(size=SIZE, augment=False), steps=60, control=control, seed=seed), "accuracy")
        for seed in range(1, 5)
    ]
    assert sum(found) / len(found) == pytest.approx(0.5, abs=0.15)


@pytest.mark.slow
def test_super_hard_negatives_sharpen_what_is_told_apart() -> None:
    found = {}
    for share in (0.0, 0.5):
        task = AVSync(size=SIZE, easy_share=0.3, super_share=share, super_from=0.5, hard_share=0.5, augment=False)
        found[share] = judged(train(task, steps=100), "accuracy_super", super_share=1.0, overlap=0.5)
    assert found[0.5] > 0.8
    assert found[0.5] > found[0.0] - 0.05
