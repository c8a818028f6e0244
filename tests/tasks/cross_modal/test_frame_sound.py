"""Pairs of a frame and a sound: they overlap, and no clock, no loudness and neither side alone tells a false pair."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmssl.batch import Batch
from mmssl.errors import UserError
from mmssl.nn.blinded import blinded
from mmssl.ops.partners import ring_partner
from mmssl.tasks.base import MultiTask
from mmssl.tasks.cross_modal.av_correspondence import AVCorrespondence
from mmssl.tasks.cross_modal.av_embedding import AVEmbedding
from mmssl.tasks.cross_modal.frame_sound import FrameSoundTask, PairExample, called_rightly, frame_and_sound_times
from tests.batches import World, make_batch, small_encoders
from tests.tasks.cross_modal.trained import LATE, changed, clock, mean, multitask_of, outcome_of, ramp, train

SIZE = (32, 32)
TASKS: list[type[FrameSoundTask]] = [AVCorrespondence, AVEmbedding]


def example_of(batch: Batch, **settings: Any) -> PairExample:
    task = AVCorrespondence(size=SIZE, augment=False, **settings)
    return task.pretext(batch, batch.draws("task"), LATE)


def instants(example: PairExample) -> tuple[torch.Tensor, torch.Tensor]:
    """Times of frames and starts of sounds of a batch that was given a clock and a ramp."""
    return example.picture[:, 0, 0, 0].double() * 255 / 50, example.wave[:, 0].double() * 10


# --------------------------------------------------------------------------------------------------------- the pairs


def test_every_sound_overlaps_its_frame_which_lies_anywhere_in_it() -> None:
    world, places = World(64, AVCorrespondence(size=SIZE).window), []
    for epoch in range(6):
        shown, start = instants(example_of(clock(ramp(world.batch(range(64), epoch)))))
        assert float((shown - (start + 0.5)).abs().max()) <= 0.5 + 0.02
        places.append(shown - start)
    counts = torch.histc(torch.cat(places), 5, 0.0, 1.0)
    assert float(counts.min()) > 0.5 * float(counts.mean())


def test_frame_and_sound_of_a_short_clip_come_from_before_its_end() -> None:
    window = AVCorrespondence(size=SIZE).window
    world = World(24, window, shorter=dict.fromkeys(range(24), 1.6))
    for epoch in range(4):
        shown, start = instants(example_of(clock(ramp(world.batch(range(24), epoch)))))
        assert float(shown.max()) <= 1.6
        assert float(start.max()) <= 0.6 + 1e-3
        assert float((shown - (start + 0.5)).abs().max()) <= 0.5 + 0.02


def test_silence_and_holes_take_no_part_whatever_the_drawn_volume() -> None:
    batch = make_batch(range(6))
    audio = batch.audio.clone()
    audio[1] *= 1e-4  # 80 dB down
    audio[2] *= 10 ** (-53 / 20) / audio[2].square().mean().sqrt()  # 3 dB below the threshold; the volume may add 6
    weight = torch.ones(6)
    weight[4] = 0
    batch = changed(batch, audio=audio, weight=weight, has_audio=torch.tensor([True] * 5 + [False]))
    task = AVCorrespondence(size=SIZE)
    assert task.pretext(batch, batch.draws("task"), LATE).weight.tolist() == [1, 0, 0, 1, 0, 0]


def test_both_tasks_are_shown_the_same_frames_and_run_the_image_encoder_once() -> None:
    tasks: dict[str, Any] = {"av_correspondence": AVCorrespondence(size=SIZE), "av_embedding": AVEmbedding(size=SIZE)}
    batch = make_batch(range(4))
    one, two = (task.pretext(batch, batch.draws(name), LATE) for name, task in tasks.items())
    assert one.picture is two.picture
    assert one.wave is two.wave
    multitask = MultiTask(small_encoders(), tasks)
    multitask(batch, LATE)
    assert multitask.encoders.calls["image"] == 1


# -------------------------------------------------------------------------------------- what must not tell a false pair


@pytest.mark.parametrize("cls", TASKS)
def test_neither_side_alone_says_anything(cls: type[FrameSoundTask]) -> None:
    """Each frame and each sound is as often in true pairs as in false ones, so that who is shown one side is at 0.5."""
    multitask = multitask_of(cls(size=SIZE))
    with torch.no_grad():
        for parameter in multitask.tasks["task"].parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    batch = World(16, multitask.window).batch(range(16))
    for what in ("picture", "sound"):
        with blinded(multitask.encoders, what), torch.no_grad():
            outcome = outcome_of(multitask, batch)
        assert mean(outcome, "accuracy") == pytest.approx(0.5, abs=1e-6), what
        assert float(outcome.loss) > 0.693147 - 1e-5  # log 2 is the least that one side can cost


def phase(times: torch.Tensor, period: float = 0.04) -> torch.Tensor:
    """Unit vectors [N, 2] that say where in a period of a codec's grid a time lies."""
    angle = times / period * 2 * torch.pi
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_frame_and_sound_lie_on_a_codecs_grid_without_regard_to_each_other() -> None:
    """The time grid shortcut of AVE-Net: with the frame in the middle of its sound one phase tells the other."""
    task = AVCorrespondence(size=SIZE)
    world = World(128, task.window)
    for centred, lowest, highest in ((False, 0.0, 0.12), (True, 0.9, 1.0)):
        found = []
        for epoch in range(3):
            batch = ramp(world.batch(range(128), epoch))
            start = example_of(batch, centred=centred).wave[:, 0].double() * 10  # to the sample
            times, _ = frame_and_sound_times(batch, task.picture, task.sound_span, 1.0, centred)
            # At the ends of what was decoded the frame is nearer to an end of its sound, centred or not.
            since = start - batch.audio_start[:, 0]
            inner = (since > 1e-3) & (since < 2 - 1e-3)
            found.append((phase(times[:, 0]) * phase(start)).sum(dim=1)[inner])
        aligned = float(torch.cat(found).mean().abs())
        assert lowest <= aligned <= highest, (centred, aligned)


def test_false_pairs_are_of_about_the_same_time_of_their_clips_before_and_after() -> None:
    task = AVCorrespondence(size=SIZE, augment=False)
    world = World(64, task.window)
    apart = {}
    for same_time in (True, False):
        differences = []
        for epoch in range(6):
            batch = world.batch(range(64), epoch)
            example = example_of(batch, same_time=same_time)
            times = frame_and_sound_times(batch, task.picture, task.sound_span, 1.0, False)[0][:, 0]
            for shift in (1, -1):
                differences.append(times[ring_partner(example.place, example.weight > 0, shift)] - times)
        found = torch.cat(differences)
        assert float(found.mean().abs()) < 1e-9  # nothing to be read from earlier or later
        apart[same_time] = float(found.abs().median())
    assert apart[True] < 0.1
    assert apart[False] > 0.5


# ------------------------------------------------------------------------------------------------------- loss and score


def test_metrics_of_logits_made_by_hand() -> None:
    true = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 9.0]])
    first, second = [[1, 0], [1, 0], [0, 0], [0, 9]], [[0, 1], [1, 0], [2, 0], [9, 0]]
    false = torch.tensor([first, second]).float()
    paired = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])  # the last row has no partner
    metrics = called_rightly(true, false, paired, slice(0, 4))
    assert [float(x) for x in metrics["accuracy_true"]] == [1.5, 3.0]
    assert [float(x) for x in metrics["accuracy_false"]] == [0.5 + 1.0 + 0.75, 3.0]
    assert [float(x) for x in metrics["accuracy"]] == [(1.5 + 2.25) / 2, 3.0]
    assert [float(x) for x in called_rightly(true, false, paired, slice(2, 4))["accuracy"]] == [0.625, 1.0]


@pytest.mark.parametrize("cls", TASKS)
@pytest.mark.parametrize("same_time", [True, False])
def test_loss_and_metrics_do_not_hang_on_the_order_of_the_batch(cls: type[FrameSoundTask], same_time: bool) -> None:
    multitask = multitask_of(cls(size=SIZE, same_time=same_time, others=3))
    world = World(8, multitask.window)
    one, two = (outcome_of(multitask, world.batch(rows)) for rows in ((0, 1, 2, 3, 4, 5), (3, 5, 0, 4, 2, 1)))
    torch.testing.assert_close(one.loss, two.loss, atol=1e-5, rtol=1e-5)
    for name, values in one.metrics.items():
        for a, b in zip(values, two.metrics[name], strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_partners_of_frames_of_one_time_are_drawn_and_not_those_next_in_the_batch() -> None:
    """A clip no longer than the window begins at 0: then many frames are of the very same time."""
    task = AVCorrespondence(size=SIZE, augment=False)
    world = World(48, task.window, shorter=dict.fromkeys(range(48), 3.0))
    rows = torch.arange(48)
    moved = rows.roll(11).flip(0)
    one, two = (example_of(world.batch(order.tolist())) for order in (rows, moved))
    assert len(one.place.unique()) == 48
    partner, other = (ring_partner(example.place, example.weight > 0) for example in (one, two))
    assert torch.equal(partner[moved], moved[other])


@pytest.mark.parametrize("cls", TASKS)
def test_more_other_sounds_than_clips_are_no_pairs_with_oneself(cls: type[FrameSoundTask]) -> None:
    """Three clips and five others: the ring comes round to the clip itself, which is no false pair."""
    few, many = (multitask_of(cls(size=SIZE, others=n)) for n in (2, 6))
    batch = make_batch(range(3))
    one, two = outcome_of(few, batch), outcome_of(many, batch)
    torch.testing.assert_close(one.loss, two.loss, atol=1e-5, rtol=1e-5)
    assert mean(one, "accuracy") == pytest.approx(mean(two, "accuracy"))
    alone = outcome_of(many, make_batch(range(1)))
    assert float(alone.loss.detach()) == 0.0
    assert float(alone.metrics["accuracy"][1]) == 0.0


@pytest.mark.parametrize("cls", TASKS)
def test_settings_that_cannot_be_are_refused(cls: type[FrameSoundTask]) -> None:
    with pytest.raises(UserError, match=rf"{cls.name()}: ceiling must be in \(0\.5, 1\], got 0\.4"):
        cls(ceiling=0.4)
    with pytest.raises(UserError, match="others must be at least 1 false pair"):
        cls(others=0)
    assert cls(ceiling=0.9).score.ceiling == 0.9
    assert cls.score.ceiling == 1.0


# ------------------------------------------------------------------------------------------------------------- training


def faded(batch: Batch) -> Batch:
    """The batch with nothing but a fade: the picture's brightness and the sound's loudness say how far the clip is."""
    level = (batch.wanted_times / 4 * 220 + 20).round().to(torch.uint8)
    seconds = batch.audio_start[..., None] + torch.arange(batch.audio.shape[-1]) / batch.audio_rate
    hiss = 2 * batch.draws("hiss").uniform("hiss", batch.audio.shape[1:]) - 1
    volume = torch.pow(10.0, (seconds / 4 - 1.1) * 1.5)
    shown = level[..., None, None, None].expand_as(batch.frames).contiguous()
    return changed(batch, pixels=shown, audio=(hiss * volume).float())


def judged(multitask: MultiTask, batch: Batch, metric: str = "accuracy") -> float:
    with torch.no_grad():
        return mean(outcome_of(multitask, batch), metric)


@pytest.mark.slow
def test_a_fade_is_no_way_to_the_answer() -> None:
    """Drawn partners leave it open; those of the same time close it."""
    found = {}
    for same_time in (True, False):
        task = AVCorrespondence(size=SIZE, augment=False, quietest=-80, same_time=same_time)
        multitask = train(task, steps=120, change=faded)
        found[same_time] = judged(multitask, faded(World(256, task.window, seed=1).batch(range(256))))
    assert found[False] > 0.68
    assert found[True] < 0.56


@pytest.mark.slow
@pytest.mark.parametrize("cls", TASKS)
def test_correspondence_is_learned_and_controls_teach_nothing(cls: type[FrameSoundTask]) -> None:
    """Law 6. Eight materials: another clip's sound is of the same in an eighth of the pairs, so 0.94 is the most."""
    task = cls(size=SIZE, ceiling=1 - 1 / 16)
    held_out = World(256, task.window, seed=1).batch(range(256))
    multitask = train(task, steps=120)
    assert judged(multitask, held_out) > 0.87
    with blinded(multitask.encoders, "sound"):
        assert judged(multitask, held_out) == pytest.approx(0.5, abs=1e-6)
    for control in ("broken_pairs", "blind"):
        multitask = train(cls(size=SIZE), steps=60, control=control)  # type: ignore[arg-type]
        assert judged(multitask, held_out) == pytest.approx(0.5, abs=0.06), control
