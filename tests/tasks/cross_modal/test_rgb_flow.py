"""RGBFlow: what a stack is, what picture and flow share, that it learns, and that it collapses without diversity."""

from __future__ import annotations

import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.data.flow import CodecFlow, DISFlow
from mmssl.errors import UserError
from mmssl.metrics.collapse import feature_std, measure_collapse
from mmssl.tasks.base import MultiTask
from mmssl.tasks.cross_modal.rgb_flow import FlowExample, RGBFlow
from mmssl.training.monitor import LOW_STD, Standing, collapse_warning, encoder_input
from tests.batches import World
from tests.tasks.cross_modal.trained import LATE, changed, mean, multitask_of, outcome_of, train

SIZE = (32, 32)
PLAIN = {"split": 0.0, "gain": 0.0, "offset": 0.0, "reverse": 0.0}


def batch_of(task: RGBFlow, clips: int = 16, epoch: int = 0) -> Batch:
    return World(clips, task.window, seed=5).batch(range(clips), epoch)


def example_of(task: RGBFlow, batch: Batch) -> FlowExample:
    with torch.no_grad():
        return task.pretext(batch, batch.draws("task"), LATE)


def numbered(batch: Batch) -> Batch:
    """Frames whose grey level is 10 times their number, and even fields whose x and y are that number."""
    count = batch.frames.shape[2]
    number = torch.arange(count)
    pixels = (10 * number).to(torch.uint8)[None, None, :, None, None, None].expand_as(batch.frames).contiguous()
    assert batch.motion is not None
    motion = torch.zeros_like(batch.motion) + number.float()[None, None, :, None, None, None]
    assert batch.motion_known is not None
    return changed(batch, pixels=pixels, motion=motion, motion_known=torch.ones_like(batch.motion_known))


def test_the_picture_is_the_middle_of_its_stack() -> None:
    task = RGBFlow(size=SIZE, fields=8, stabilise=False, **PLAIN)
    example = example_of(task, numbered(batch_of(task)))
    frame = (example.picture[:, 0, 0, 0] * 255 / 10).round().long()
    assert torch.equal(frame, example.start + 4)
    field = example.flow[:, 0, :, 0, 0].abs().round().long()  # mirrored fields have the other sign
    assert torch.equal(field, example.start[:, None] + torch.arange(1, 9))  # vectors look back: those of frames 1..8
    video = RGBFlow(size=SIZE, fields=8, stream="video", stabilise=False, **PLAIN)
    shown = example_of(video, numbered(batch_of(video)))
    assert shown.picture.shape == (16, 3, 9, 24, 24)
    frames = (shown.picture[:, 0, :, 0, 0] * 255 / 10).round().long()
    assert torch.equal(frames, shown.start[:, None] + torch.arange(9))
    assert video.uses == {"video": "video", "flow": "flow"}


def test_stacks_are_drawn_in_proportion_to_what_moves_in_them() -> None:
    task = RGBFlow(picture=Span(1.0, 8.0), fields=2, size=SIZE)
    world = World(1, task.window, seed=5)
    speed = torch.tensor([0.0, 0, 0, 30, 0, 0, 10, 0])  # of an object, in frames 0..7: fields 1..7
    # The camera pans and jerks, most where the object rests: that is not what stacks are drawn by.
    camera = torch.tensor([0.0, 90, 90, 5, 60, -60, 0, 80])
    moved = camera[:, None, None, None] + torch.zeros(8, 2, 4, 4)
    moved[:, 0, :2, :2] += speed[:, None, None]
    starts = []
    for epoch in range(40):
        batch = world.batch([0] * 16, epoch)
        seeds = batch.seeds + torch.arange(16) * 7919
        motion = moved.expand_as(batch.motion).contiguous()  # type: ignore[arg-type]
        known = torch.ones_like(batch.motion_known)  # type: ignore[arg-type]
        starts.append(example_of(task, changed(batch, seeds=seeds, motion=motion, motion_known=known)).start)
    found = torch.cat(starts).bincount(minlength=6).double() / 640
    # In fields 1..7 the object moves by 0, 0, 30, 0, 0, 10, 0: pairs from 0 on hold 0, 30, 30, 0, 10, 10 of 80.
    wanted = torch.tensor([0.0, 30, 30, 0, 10, 10]) / 80
    assert found[[0, 3]].tolist() == [0.0, 0.0]
    assert (found - wanted).abs().max() < 0.07  # about 3.5 standard deviations of a share of 640


def test_picture_and_flow_are_cut_and_mirrored_together() -> None:
    """Bright pixels move right by 9, dark ones rest: so it is afterwards, but that mirrored they move left."""
    task = RGBFlow(size=(64, 64), stabilise=False, **PLAIN)
    batch = batch_of(task)
    generator = torch.Generator().manual_seed(0)
    cells = torch.rand(16, 8, 8, generator=generator) > 0.5
    pixels = cells.repeat_interleave(8, 1).repeat_interleave(8, 2).to(torch.uint8)[:, None, None, None] * 255
    motion = torch.zeros_like(batch.motion)  # type: ignore[arg-type]
    motion[:, :, :, 0] = 9.0 * cells[:, None, None]
    known = torch.ones_like(batch.motion_known)  # type: ignore[arg-type]
    given = changed(batch, pixels=pixels.expand_as(batch.frames).contiguous(), motion=motion, motion_known=known)
    example = example_of(task, given)
    flip = given.draws("task").bernoulli("flip", 0.5)
    assert 0 < int(flip.sum()) < 16
    sign = torch.where(flip, -1.0, 1.0)[:, None, None, None]
    torch.testing.assert_close(example.flow[:, 0], sign * 9.0 * example.picture[:, :1].expand(-1, 8, -1, -1))
    assert not example.flow[:, 1].any()
    assert example.picture.shape[-2:] == (56, 56)


def test_a_camera_that_pans_and_shakes_does_not_reach_the_encoder_and_unknown_fields_are_zero() -> None:
    task = RGBFlow(size=SIZE, **PLAIN)
    batch = batch_of(task)
    assert batch.motion is not None and batch.motion_known is not None  # noqa: PT018
    even = torch.zeros_like(batch.motion) + torch.tensor([25.0, -8.0])[:, None, None]
    even[:, :, ::2] *= -1
    known = batch.motion_known.clone()
    known[:, :, :, 1:3] = False
    pan = changed(batch, motion=even * known[:, :, :, None], motion_known=known)
    assert float(example_of(task, pan).flow.abs().max()) < 1e-4
    assert example_of(task, pan).weight.tolist() == [0.0] * 16  # nothing is left to learn from
    assert example_of(task, batch).weight.tolist() == [1.0] * 16
    assert float(example_of(RGBFlow(size=SIZE, stabilise=False), pan).flow.abs().max()) == 25.0
    blank = changed(batch, motion_known=torch.zeros_like(known), motion=torch.zeros_like(even))
    assert example_of(task, blank).weight.tolist() == [0.0] * 16


@pytest.mark.parametrize("fields", [8, 5])
def test_half_of_the_films_are_played_backwards(fields: int) -> None:
    """Fields and frames together: field k is what moves between frames k and k + 1 as they are shown."""
    settings = {"size": SIZE, "fields": fields, "stabilise": False} | PLAIN | {"reverse": 0.5}
    image, video = (RGBFlow(stream=stream, **settings) for stream in ("image", "video"))  # type: ignore[arg-type]
    batch = numbered(batch_of(video, 32))
    example = example_of(video, batch)
    frames = (example.picture[:, 0, :, 0, 0] * 255 / 10).round()
    steps = frames.diff(dim=1)
    back = steps[:, 0] < 0
    assert 6 < int(back.sum()) < 26
    assert torch.equal(steps, torch.where(back, -1.0, 1.0)[:, None].expand(-1, fields))
    assert torch.equal(frames.amin(dim=1).long(), example.start)
    # The field between frames n and n + 1 is n + 1, and its negative from n + 1 to n; y, which a mirror leaves alone.
    later = torch.maximum(frames[:, :-1], frames[:, 1:])
    assert torch.equal(example.flow[:, 1, :, 0, 0], steps * later)
    still = example_of(image, batch)
    assert torch.equal((still.picture[:, 0, 0, 0] * 255 / 10).round(), frames[:, fields // 2])
    assert torch.equal(still.flow, example.flow)


def test_colours_change_and_are_at_times_one_channel() -> None:
    task = RGBFlow(size=SIZE, split=0.5, gain=0.2)
    batch = batch_of(task, 32)
    picture = example_of(task, batch).picture
    grey = (picture == picture[:, :1]).flatten(1).all(dim=1)
    assert 6 < int(grey.sum()) < 26
    calm = example_of(RGBFlow(size=SIZE, **PLAIN), batch).picture
    assert not torch.allclose(picture[~grey], calm[~grey], atol=1e-3)


def test_computed_flow_takes_the_place_of_the_codecs() -> None:
    pytest.importorskip("cv2")
    task = RGBFlow(size=SIZE, flow=DISFlow("ultrafast"), stream="video")
    assert not task.window.motion
    batch = batch_of(task, 4)
    assert batch.motion is None
    outcome = outcome_of(multitask_of(task), batch)
    assert float(outcome.metrics["accuracy"][1]) == 4.0
    given = encoder_input(multitask_of(task).encoders, "flow", batch, task.window)
    assert given is not None
    assert given[0][0].shape == (4, 2, 23, 32, 32)


def test_settings_that_cannot_be_are_refused() -> None:
    for settings, text in (
        ({"fields": 24}, "fields must be between 1 and 23, got 24"),
        ({"crop": 0.0}, r"crop must be in \(0, 1\]"),
        ({"stream": "audio"}, "stream must be image or video, got 'audio'"),
        ({"cross": 0.0}, "cross must be above 0"),
    ):
        with pytest.raises(UserError, match=text):
            RGBFlow(**settings)  # type: ignore[arg-type]
    assert RGBFlow().window.motion
    assert isinstance(RGBFlow().source, CodecFlow)


#: nothing hidden: what a small net learns in a moment
EASY = PLAIN | {"crop": 1.0, "fields": 4}


def heldout(multitask: MultiTask, clips: int = 256) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics on clips not trained on; spread of each encoder's features, as the monitor measures it."""
    task = multitask.tasks["task"]
    batch = World(clips, task.window, seed=1).batch(range(clips))
    with torch.no_grad():
        outcome = outcome_of(multitask, batch)
        spread = {}
        for name in task.uses:
            given = encoder_input(multitask.encoders, name, batch, task.window)
            assert given is not None
            spread[name] = feature_std(multitask.encoders[name](*given[0]).pooled)
    return {name: mean(outcome, name) for name in outcome.metrics}, spread


def test_it_learns_which_flow_belongs_to_a_picture() -> None:
    found, spread = heldout(train(RGBFlow(size=SIZE, **EASY), steps=60))
    assert found["accuracy"] > 0.75  # more than half of the way from the floor
    assert found["s_true"] > found["s_false"] + 0.2
    assert min(spread.values()) > 3 * LOW_STD


def test_without_the_diversity_term_everything_becomes_one_vector_and_the_monitor_says_so() -> None:
    multitask = train(RGBFlow(size=SIZE, **(EASY | {"diversity": 0.0, "standardise": False})), steps=40)
    found, spread = heldout(multitask)
    assert found["s_true"] > 0.99
    assert found["s_false"] > 0.99
    assert 0.35 < found["accuracy"] < 0.65
    assert max(spread.values()) < LOW_STD
    batch = World(64, multitask.tasks["task"].window, seed=1).batch(range(64))
    given = encoder_input(multitask.encoders, "flow", batch, multitask.window)
    assert given is not None
    with torch.no_grad():
        measured = measure_collapse(multitask.encoders["flow"](*given[0]).pooled)
    warning = collapse_warning("flow", measured, {"rgb_flow": Standing(found["accuracy"], 0.5, 1.0)})
    assert "encoder 'flow' gives nearly one vector for all clips" in warning


@pytest.mark.slow
def test_the_label_is_true() -> None:
    """Law 6, with everything that makes it hard: far above the floor, and at the floor in both controls."""
    found, _ = heldout(train(RGBFlow(size=SIZE, fields=4), steps=300), 512)
    assert found["accuracy"] > 0.8
    for control in ("broken_pairs", "blind"):
        found, _ = heldout(train(RGBFlow(size=SIZE, fields=4), steps=150, control=control), 512)
        assert abs(found["accuracy"] - 0.5) < 0.08, control  # 3.6 standard deviations of 512


def test_no_stack_reaches_behind_the_end_of_a_clip() -> None:
    """There the last frame stands still beside the last field of vectors, which is repeated."""
    task = RGBFlow(picture=Span(3.0, 8.0), fields=4, size=SIZE)
    batch = batch_of(task, 48)
    times = changed(batch, duration=torch.full_like(batch.duration, 2.0)).times(task.picture)
    short = {"wanted_times": times[:, None]}
    example = example_of(task, changed(batch, duration=torch.full_like(batch.duration, 2.0), **short))
    last = times.gather(1, example.start[:, None] + task.fields)[:, 0]
    assert bool((last < 2.0)[example.weight > 0].all())
    assert float((example.weight > 0).float().mean()) > 0.9
    too_short = changed(batch, duration=torch.full_like(batch.duration, 0.4), **short)
    assert float(example_of(task, too_short).weight.sum()) == 0
