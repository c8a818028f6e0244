"""Shared views: what they show, when they are one object, and how they are augmented."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmssl.clip import Span, Window
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.cross_modal.av_localization import AVLocalization
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching
from mmssl.tasks.views import (
    Augmentation,
    augment_frames,
    frame,
    goes_on,
    inside,
    picture_clip,
    sound,
    span_times,
    sub_clip_starts,
    sub_clip_times,
)
from tests.batches import WINDOW, World, make_batch, small_encoders
from tests.tasks.context.scenes import camera_times, picture_batch, timed
from tests.tasks.cross_modal.trained import changed, clock, ramp

SPAN = Span(3.0, 8)
MOMENT = Moment(0, 10, 0, 0.9)


def test_tasks_that_show_the_same_clip_share_one_forward_of_the_encoder() -> None:
    tasks: dict[str, Any] = {
        "av_sync": AVSync(size=(32, 32)),
        "subtitle_matching": SubtitleMatching(size=(32, 32), clip_seconds=1.0),
    }
    batch = make_batch(range(4))
    examples = [task.pretext(batch, batch.draws(name), MOMENT) for name, task in tasks.items()]
    assert examples[0].clip is examples[1].clip
    multitask = MultiTask(small_encoders(), tasks)
    multitask(batch, MOMENT)
    assert multitask.encoders.calls["video"] == 1


def test_two_tasks_of_one_kind_keep_their_own_frame_and_sound() -> None:
    """Each draws its own instant: the sound of one must not be handed to the other."""
    batch = clock(ramp(make_batch(range(6))))
    task = AVLocalization(size=(32, 32), augment=False)
    examples = [task.pretext(batch, batch.draws(name), MOMENT) for name in ("one", "two")]
    assert not torch.equal(examples[0].picture, examples[1].picture)
    assert not torch.equal(examples[0].wave, examples[1].wave)


def test_views_are_made_once_for_the_same_times() -> None:
    batch = make_batch(range(3))
    times = span_times(batch, SPAN)
    assert span_times(batch, SPAN) is times
    assert picture_clip(batch, times, True) is picture_clip(batch, times, True)
    assert picture_clip(batch, times, True) is not picture_clip(batch, times, False)
    start = times[:, 0]
    assert sound(batch, start, 1.0, True) is sound(batch, start, 1.0, True)
    assert sound(batch, start, 1.0, True) is not sound(batch, start, 0.5, True)
    assert frame(batch, times[:, :1], False).shape == (3, 3, 32, 32)


def test_plain_views_show_what_was_decoded() -> None:
    batch = make_batch(range(3))
    clip = picture_clip(batch, span_times(batch, SPAN), False)
    assert clip.shape == (3, 3, 24, 32, 32)
    assert torch.equal(clip.transpose(1, 2), batch.frames[:, 0].float() / 255)
    heard = sound(batch, batch.audio_start[:, 0], 3.0, False)
    assert torch.equal(heard, batch.audio[:, 0])


def test_sub_clips_lie_on_the_grid_apart_and_neither_comes_first_more_often() -> None:
    world = World(64, Window(picture=SPAN, size=(2, 2)))
    distances, places = [], []
    for epoch in range(40):
        batch = world.batch(range(64), epoch)
        a, b = sub_clip_starts(batch, SPAN, 1.0, 0.25)
        first = batch.times(SPAN)[:, 0]
        for start in (a, b):
            steps = (start - first) * SPAN.rate
            torch.testing.assert_close(steps, steps.round(), atol=1e-6, rtol=0)
            assert float(steps.min()) > -1e-6
            assert float(steps.max()) < 16 + 1e-6
        places.append(torch.stack([a - first, b - first]))
        distances.append((a - b).abs())
    distance, place = torch.cat(distances), torch.cat(places, dim=1)
    assert float(distance.min()) >= 1.25 - 1e-6
    assert float(distance.max()) == pytest.approx(2.0, abs=1e-6)
    # 2560 clips: the same distribution of places for both, to 3 standard errors.
    error = 3 * float(place.std()) * (2 / place.shape[1]) ** 0.5
    assert abs(float(place[0].mean() - place[1].mean())) < error
    step = (place * SPAN.rate).round()
    assert set(step.unique().tolist()) == set(range(7)) | set(range(10, 17))
    for value in step.unique():
        shares = (step == value).double().mean(dim=1)
        assert abs(float(shares[0] - shares[1])) < 4 * (2 * 0.2 / place.shape[1]) ** 0.5


def test_sub_clip_times_are_those_of_the_first_start() -> None:
    batch = make_batch(range(5))
    a, _ = sub_clip_starts(batch, SPAN, 1.0, 0.5)
    times = sub_clip_times(batch, SPAN, 1.0, 0.5)
    assert times.shape == (5, 8)
    torch.testing.assert_close(times[:, 0], a)
    torch.testing.assert_close(times.diff(dim=1), torch.full((5, 7), 0.125, dtype=torch.float64))
    batch.frames_at(times)  # all were decoded


def test_a_span_too_short_for_two_sub_clips_is_refused() -> None:
    batch = make_batch(range(2))
    with pytest.raises(ValueError, match=r"a span of 3\.0 s holds no two clips of 1\.4 s with 0\.5 s between them"):
        sub_clip_starts(batch, SPAN, 1.4, 0.5)


def test_augmentation_is_one_decision_a_clip_from_draws_that_all_tasks_share() -> None:
    batch = make_batch(range(8))
    still = batch.frames[:, 0, :1].expand(-1, 5, -1, -1, -1)
    made = augment_frames(batch, still)
    assert made.dtype == torch.float32
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert all(torch.equal(made[:, 0], made[:, t]) for t in range(1, 5))
    assert torch.equal(augment_frames(changed(batch), still), made)
    assert not torch.equal(augment_frames(World(8, WINDOW).batch(range(8), epoch=1), still), made)
    turned = make_batch(range(7, -1, -1))  # the draws hang on the sample, not on its place
    assert torch.equal(augment_frames(turned, still.flip(0)), made.flip(0))


def test_grey_and_zoom_are_drawn_by_their_shares() -> None:
    batch = World(64, Window(picture=Span(1.0, 2), size=(16, 16))).batch(range(64))
    frames = batch.frames[:, 0]
    grey = augment_frames(batch, frames, Augmentation(grey=0.3))
    share = (grey[:, :, 0] == grey[:, :, 2]).flatten(1).all(dim=1).float().mean()
    assert 0.15 < float(share) < 0.45
    plain = Augmentation(flip=0, shift=0, gain=0, offset=0)
    torch.testing.assert_close(augment_frames(batch, frames, plain), frames.float() / 255)
    zoomed = augment_frames(batch, frames, Augmentation(flip=0, shift=0, gain=0, offset=0, zoom=0.5))
    assert float((zoomed - frames.float() / 255).abs().mean()) > 0.01
    # The background is brighter above: a part of the picture spans less of that than the whole.
    rise, whole = ((x[:, 0, :, 0] - x[:, 0, :, -1]).mean() for x in (zoomed, frames.float() / 255))
    assert 0.6 < float(rise / whole) < 0.95


def test_volume_is_drawn_within_its_range() -> None:
    batch = make_batch(range(16))
    start = batch.audio_start[:, 0]
    plain, louder = sound(batch, start, 1.0, False), sound(batch, start, 1.0, True)
    decibels = 20 * torch.log10(louder.norm(dim=1) / plain.norm(dim=1))
    assert float(decibels.abs().max()) <= 6.0 + 1e-4
    assert float(decibels.std()) > 1.5


def test_what_lies_behind_the_clips_end_is_not_inside() -> None:
    batch = changed(make_batch(range(2)), duration=torch.tensor([4.0, 2.0], dtype=torch.float64))
    start = torch.tensor([1.5, 1.5], dtype=torch.float64)
    assert inside(batch, start, 1.0).tolist() == [True, False]
    # One frame of 25 a second is too much, a rounded time stamp is not.
    start = torch.tensor([3.04, 1.0005], dtype=torch.float64)
    assert inside(batch, start, 1.0).tolist() == [False, True]


def test_a_picture_has_ended_where_its_last_frame_stays() -> None:
    """Whatever the file calls its duration; films of fewer frames than asked for and of variable rate go on."""
    span = Span(0.8, 25.0)
    place = np.arange(20)
    batch = picture_batch(np.zeros((1, 20, 3, 8, 8), np.uint8), span=span)
    wanted = batch.times(span)

    def goes(times: np.ndarray) -> bool:
        return bool(goes_on(timed(batch, times), wanted))

    assert goes(place / 25)
    assert goes(place // 2 / 12.5)
    assert goes(camera_times(span, 10.0))
    assert goes(camera_times(span, 30.0))
    assert goes(np.where(place == 7, 6, place) / 25)
    for left in (1, 2, 10):
        assert not goes(np.minimum(place, 19 - left) / 25), left
    assert not goes(np.zeros(20))
