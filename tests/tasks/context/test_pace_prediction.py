"""Pace prediction: strides without a trace, and clips whose repeated frames would give them away are left out."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.tasks.base import Moment
from mmssl.tasks.context.pace_prediction import PaceExample, PacePrediction
from tests.tasks.context.scenes import SPAN, held_noise, moving_discs, picture_batch, still_films, timed
from tests.tasks.context.training import train_and_score

MOMENT = Moment(0, 1, 0, 0.0)
OPEN: dict[str, Any] = {"uneven": 1.0, "repeated": 1.0, "motion_threshold": 0.0}  # who takes part: everyone


def task_of(**settings: Any) -> PacePrediction:
    return PacePrediction(**({"picture": SPAN, "size": (32, 32), "frames": 6} | settings))


def example_of(task: PacePrediction, batch: Batch) -> PaceExample:
    return task.pretext(batch, batch.draws("pace_prediction"), MOMENT)


def test_frames_have_the_stride_of_the_label_and_never_come_round_again() -> None:
    example = example_of(task_of(shown=4), picture_batch(moving_discs(200, 0)))
    assert torch.equal(example.label.sort(dim=1).values, torch.arange(4).expand(200, 4))
    steps = example.chosen.diff(dim=2)
    assert torch.equal(steps, (example.label + 1)[:, :, None].expand_as(steps))
    assert 0 <= int(example.chosen.min()) <= int(example.chosen.max()) < SPAN.count


def test_frames_shown_are_those_chosen() -> None:
    """Every frame is as bright as its number says."""
    films = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None] * 10, (50, 24, 3, 32, 32)).copy()
    example = example_of(task_of(shown=2, jittered=0.0, noise=(0.0, 0.0), **OPEN), picture_batch(films))
    number = (example.clips[:, 0, :, 0, 0] * 25.5).round().long().reshape(50, 2, 6)
    assert torch.equal(number, example.chosen)


def test_labels_are_uniform() -> None:
    label = torch.cat([example_of(task_of(), picture_batch(moving_discs(200, 0), epoch=e)).label for e in range(3)])
    assert float((label.flatten().bincount(minlength=4) - 150).abs().max()) < 3 * (600 * 0.25 * 0.75) ** 0.5


def test_every_pace_is_seen_about_the_same_instants() -> None:
    span = Span(4.0, 8.0)
    example = example_of(task_of(picture=span, shown=4), picture_batch(moving_discs(400, 0, span=span), span=span))
    middles = (example.chosen[..., 0] + example.chosen[..., -1]) / 2
    means = torch.stack([middles[example.label == pace].mean() for pace in range(4)])
    assert float(means.max() - means.min()) < 1.0  # of 12 places; alone, a stride of 1 could be anywhere


def test_looks_are_drawn_for_each_frame_and_each_clip() -> None:
    films = still_films(60, 0)
    quiet = OPEN | {"noise": (0.0, 0.0)}
    example = example_of(task_of(softened=0.0, jittered=1.0, **quiet), picture_batch(films))
    brightness = example.clips.mean(dim=(3, 4))  # [B, 3, F]
    assert float(brightness.std(dim=2).mean()) > 0.01
    plain = example_of(task_of(softened=0.0, jittered=0.0, **quiet), picture_batch(films))
    assert torch.equal(plain.clips, plain.clips[:, :, :1].expand_as(plain.clips))  # one size and corner a clip
    assert len({tuple(clip[0, 0, :2].flatten().tolist()) for clip in plain.clips}) == 60
    soft = example_of(task_of(softened=1.0, jittered=0.0, **quiet), picture_batch(films))
    assert float(soft.clips.diff(dim=4).abs().mean()) < 0.9 * float(plain.clips.diff(dim=4).abs().mean())


# ----------------------------------------------------------------------------------------------- repeated frames


def test_repeated_frames_give_the_pace_away_where_they_are_let_in() -> None:
    """Films of a quarter of the rate asked for, and nothing in them that moves: the repeats alone tell the pace."""
    assert train_and_score(task_of(**OPEN), functools.partial(held_noise, held=4), steps=40) > 0.4


@pytest.mark.parametrize("held", [2, 3, 4])
def test_films_of_fewer_frames_than_asked_for_are_left_out(held: int) -> None:
    batch = timed(picture_batch(held_noise(8, 0, held=held)), np.arange(24) // held * held / SPAN.rate)
    example = example_of(task_of(), batch)
    assert example.even.tolist() == example.weight.tolist() == [0] * 8
    assert example.valid.tolist() == [1] * 8


def test_without_repeats_noise_tells_no_pace() -> None:
    found = train_and_score(task_of(**OPEN), held_noise, steps=30)
    assert abs(found - 0.25) < 2.58 * (0.25 * 0.75 / 128) ** 0.5


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        (np.arange(24) / 8, 1),  # the rate asked for
        (np.floor(np.arange(24) / 8 * 24) / 24, 1),  # three times as many
        (np.floor(np.arange(24) / 8 * 1000) / 1000, 1),  # time stamps that are rounded to milliseconds
        (np.floor(np.arange(24) / 8 * 30) / 30, 0),  # 30 a second: 3 or 4 frames on, a rhythm that tells the pace
        (np.floor(np.arange(24) / 8 * 7.5) / 7.5, 0),  # a little fewer: one frame is shown twice
        (np.floor(np.arange(24) / 8 * 12.5) / 12.5, 0),  # one frame on, or two
        (np.minimum(np.arange(24), 20) / 8, 0),  # the film ends
    ],
)
def test_times_of_the_frames_say_who_is_left_out(times: np.ndarray, kept: int) -> None:
    batch = timed(picture_batch(moving_discs(4, 0)), times)
    for shown in (1, 4):
        assert example_of(task_of(shown=shown), batch).weight.tolist() == [kept] * 4


def test_frames_repeated_before_the_film_was_encoded_are_seen_in_the_pictures() -> None:
    """The times are even; the pictures of a film at half the rate, with a little noise of the codec, are not."""
    films = moving_discs(6, 0)
    doubled = films[:, np.arange(24) // 2 * 2].astype(np.int64)
    draw = np.random.default_rng(np.random.PCG64(0))
    doubled += draw.integers(-1, 2, doubled.shape) * (draw.random(doubled.shape) < 0.1)
    films[3:] = doubled.clip(0, 255)[3:]
    assert example_of(task_of(), picture_batch(films)).weight.tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("ramp", [0.0, 0.5])
def test_a_film_without_motion_gives_no_row(ramp: float) -> None:
    films = moving_discs(8, 0)
    films[3:5] = still_films(2, 0, ramp=ramp)
    assert example_of(task_of(), picture_batch(films)).weight.tolist() == [1, 1, 1, 0, 0, 1, 1, 1]


# ------------------------------------------------------------------------------------------------------------- training


def test_controls_of_law_6_on_discs() -> None:
    """True: far above the floor; labels of another film, or nothing to be seen: at the floor, on true films."""
    noise = 2.58 * (0.25 * 0.75 / 512) ** 0.5
    assert train_and_score(task_of(shown=4), moving_discs, steps=60) >= 0.7
    for control in ("broken_pairs", "blind"):
        found = train_and_score(task_of(shown=4), moving_discs, steps=15, control=control)
        assert abs(found - 0.25) < noise, control


def test_still_films_teach_nothing() -> None:
    found = train_and_score(task_of(shown=4, **OPEN), still_films, steps=15)
    assert abs(found - 0.25) < 2.58 * (0.25 * 0.75 / 512) ** 0.5


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="8 frames at a stride of 4 need 29 frames, there are 24"):
        PacePrediction(picture=SPAN)
    with pytest.raises(ValueError, match="paces and frames must be at least 2, got 1 and 8"):
        PacePrediction(paces=1)
    with pytest.raises(ValueError, match="shown must be between 1 and 4, got 5"):
        PacePrediction(shown=5)
    with pytest.raises(ValueError, match="crop must be two rising shares"):
        PacePrediction(crop=(0.9, 0.6))
