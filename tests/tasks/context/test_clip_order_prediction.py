"""Clip order prediction: exact gaps, six classes, one pass of the encoder, and nothing but motion to tell the order."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mmssl.clip import Span
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.context.clip_order_prediction import ClipOrderExample, ClipOrderPrediction
from tests.tasks.context.scenes import SPAN, camera_times, moving_discs, picture_batch, still_films, timed
from tests.tasks.context.training import small_bundle, train_and_score

MOMENT = Moment(0, 1, 0, 0.0)


def task_of(**settings: Any) -> ClipOrderPrediction:
    # The small discs soon move by more than their size; what they then hide of the ground makes all ways uneven.
    small = {"picture": SPAN, "size": (32, 32), "frames": 4, "interval": 3, "width": 64, "clearness": 0.5}
    return ClipOrderPrediction(**(small | settings))


def example_of(task: ClipOrderPrediction, films: Any, epoch: int = 0) -> ClipOrderExample:
    batch = picture_batch(films, epoch=epoch)
    return task.pretext(batch, batch.draws("clip_order_prediction"), MOMENT)


def test_clips_are_runs_of_frames_with_exact_gaps() -> None:
    """Every frame is as bright as its number says."""
    films = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None] * 10, (50, 24, 3, 32, 32)).copy()
    example = example_of(task_of(normalise=False), films)
    number = (example.clips[:, 0, :, 0, 0] * 25.5).round().long().reshape(50, 3, 4)
    assert bool((number.diff(dim=2) == 1).all())
    assert bool((number[:, 1:, 0] - number[:, :-1, -1] == 3 + 1).all())
    assert torch.equal(number[:, :, 0], example.start)
    assert set(example.start[:, 0].tolist()) == set(range(24 - 18 + 1))  # every place that there is


def test_label_is_the_number_of_the_order_among_all() -> None:
    example = example_of(task_of(), moving_discs(20, 0))
    known = list(itertools.permutations(range(3)))
    for orders, labels in zip(example.order.tolist(), example.label.tolist(), strict=True):
        assert [known.index(tuple(order)) for order in orders] == labels
    assert torch.equal(example.label.sort(dim=1).values, torch.arange(6).expand(20, 6))


def test_labels_are_uniform() -> None:
    counts = sum(example_of(task_of(orders=1), moving_discs(300, 0), e).label.flatten().bincount() for e in (0, 1))
    assert len(counts) == 6
    assert float((counts - 100).abs().max()) < 3 * (600 / 6 * 5 / 6) ** 0.5


def test_each_clip_has_its_own_crop_and_all_its_frames_share_it() -> None:
    films = still_films(40, 0, size=64)
    clips = example_of(task_of(size=(64, 64), normalise=False), films).clips.reshape(40, 3, 3, 4, -1)
    assert torch.equal(clips, clips[:, :, :, :1].expand_as(clips))
    same = [(clips[:, i] == clips[:, j]).flatten(1).all(dim=1).float().mean() for i in range(3) for j in range(i)]
    assert max(float(s) for s in same) < 0.3


def test_all_clips_go_through_the_encoder_at_once_and_their_slot_does_not_matter() -> None:
    """Logits from one flattened pass are those of a pass for each slot."""
    task, encoders = task_of(orders=2), small_bundle(modality="video")
    multitask = MultiTask(encoders, {"t": task}).eval()
    seen: list[torch.Size] = []
    hook = encoders["video"].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    loss, _ = multitask(picture_batch(moving_discs(8, 0)), MOMENT)
    assert seen == [torch.Size([24, 3, 4, 24, 24])]
    hook.remove()
    batch = picture_batch(moving_discs(8, 0))
    example = task.pretext(batch, batch.draws("t"), MOMENT)
    clips = example.clips.unflatten(0, (8, 3))
    losses = []
    for shown in range(2):
        slots = [clips[torch.arange(8), example.order[:, shown, slot]] for slot in range(3)]
        by_slot = torch.stack([torch.relu(task.feature(encoders["video"](slot))) for slot in slots], dim=1)
        logits = task.sort(by_slot, torch.arange(3).expand(8, 1, 3))[:, 0]
        losses.append(torch.nn.functional.cross_entropy(logits, example.label[:, shown]))
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)


@pytest.mark.parametrize("ramp", [0.0, 0.5])
def test_a_film_without_motion_gives_no_row(ramp: float) -> None:
    films = moving_discs(8, 0)
    films[3:5] = still_films(2, 0, ramp=ramp)
    example = example_of(task_of(), films)
    assert example.weight.tolist() == [1, 1, 1, 0, 0, 1, 1, 1]
    assert example.valid.tolist() == [1] * 8


def test_a_film_that_turns_back_gives_no_row() -> None:
    """Discs that are half-way back in the last clip: to see it in the second place would be smoother."""
    span = Span(18 / 8, 8.0)
    there = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 9, 8, 7, 4, 5, 6, 7]
    films = moving_discs(40, 0)[:, there]
    kept = []
    for clearness in (0.0, 0.9):
        batch = picture_batch(films, span=span)
        task = task_of(picture=span, clearness=clearness)
        kept.append(float(task.pretext(batch, batch.draws("t"), MOMENT).weight.mean()))
    assert kept[0] == 1.0
    assert kept[1] < 0.2


def test_a_film_that_is_too_short_gives_no_row() -> None:
    batch = picture_batch(moving_discs(4, 0))
    batch = dataclasses.replace(batch, duration=torch.tensor([3.0, 2.9995, 2.96, 1.0], dtype=torch.float64), _made={})
    wanted = batch.times(SPAN)[:, None]
    batch = dataclasses.replace(batch, wanted_times=wanted, _made={})
    assert task_of().pretext(batch, batch.draws("t"), MOMENT).valid.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("rate", "kept"), [(12.5, 1), (25.0, 1), (37.5, 1), (24.0, 0), (30.0, 0), (120.0, 0), (10.0, 0)]
)
def test_frames_in_an_uneven_rhythm_give_no_row(rate: float, kept: int) -> None:
    """A film of 30 frames a second at 12.5 moves on by 2, 2, 3, 2, 3 frames, and which comes next tells the order."""
    span = Span(2.56, 12.5)
    task = task_of(picture=span, frames=8, interval=4)
    batch = timed(picture_batch(moving_discs(4, 0, span=span), span=span), camera_times(span, rate))
    example = task.pretext(batch, batch.draws("t"), MOMENT)
    assert example.weight.tolist() == example.even.tolist() == [kept] * 4
    assert example.valid.tolist() == [1] * 4
    _, outcome = MultiTask(small_bundle(modality="video"), {"t": task})(batch, MOMENT)
    counts = {name: [float(x) for x in outcome["t"].metrics[name]] for name in ("even_clips", "used_clips")}
    assert counts == {"even_clips": [4 * kept, 4], "used_clips": [4 * kept, 4]}


def test_one_repeated_frame_at_the_end_gives_no_row() -> None:
    """At 25 frames a second the last clip alone would end in a frame that stands still."""
    span = Span(2.56, 25.0)
    batch = picture_batch(moving_discs(4, 0, span=span), span=span)
    ended = timed(batch, np.minimum(np.arange(span.count), span.count - 2) / 25)
    for shown, kept in ((batch, 1), (ended, 0)):
        example = task_of(picture=span, frames=16, interval=8).pretext(shown, shown.draws("t"), MOMENT)
        assert example.weight.tolist() == [kept] * 4


def test_controls_of_law_6_on_discs() -> None:
    """True: far above the floor; labels of another row, or nothing to be seen: at the floor, on true films."""
    assert train_and_score(task_of(), moving_discs, steps=60) >= 0.7
    for control in ("broken_pairs", "blind"):
        # All six orders of each of 128 films; what is said of one order ties down the others, so films are counted.
        found = train_and_score(task_of(), moving_discs, steps=15, control=control)
        assert abs(found - 1 / 6) < 2.58 * (1 / 6 * 5 / 6 / 128) ** 0.5, control


def test_a_fade_is_a_shortcut_and_normalisation_closes_it() -> None:
    fading = functools.partial(still_films, ramp=0.5)
    assert train_and_score(task_of(motion_threshold=0.0, clearness=0.0, normalise=False), fading, steps=40) > 0.6
    closed = train_and_score(task_of(motion_threshold=0.0, clearness=0.0), fading, steps=25)
    assert abs(closed - 1 / 6) < 2.58 * (1 / 6 * 5 / 6 / 128) ** 0.5


@pytest.mark.slow
def test_motion_of_which_no_clip_shows_the_direction_leaves_two_orders_alike() -> None:
    """Discs that stand while a clip lasts and jump between clips: an order and its reverse are told half the time."""

    def stepping(count: int, seed: int) -> np.ndarray:
        return moving_discs(count, seed)[:, np.repeat([5, 11, 17], 8)]

    task = task_of(frames=6, motion_threshold=0.0, clearness=0.0)  # 24 frames: there is one place only
    found = train_and_score(task, stepping, steps=120)
    assert 0.4 < found < 0.5 + 2.58 * (0.25 / 128) ** 0.5


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="3 clips of 8 frames with 4 between need 32 frames, the span holds 24"):
        ClipOrderPrediction(picture=Span(3.0, 8.0))
    with pytest.raises(ValueError, match="interval must be at least 1, got 0"):
        ClipOrderPrediction(interval=0)
    with pytest.raises(ValueError, match="clips must be between 2 and 5, got 6"):
        ClipOrderPrediction(clips=6)
    with pytest.raises(ValueError, match="orders must be between 0 and 6, got 7"):
        ClipOrderPrediction(orders=7)
    with pytest.raises(ValueError, match="frames must be at least 2, got 1"):
        ClipOrderPrediction(frames=1)
