"""Order prediction: the label is the order of time, and no fade, fringe, drift or still film tells it."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from mmssl.clip import Span
from mmssl.ops.permutations import order_label
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.context.order_prediction import OrderExample, OrderPrediction
from tests.tasks.context.scenes import moving_discs, picture_batch, still_films
from tests.tasks.context.training import small_bundle, train_and_score

MOMENT = Moment(0, 1, 0, 0.0)
NOISE = 2.58 * (1 / 12 * 11 / 12 / 512) ** 0.5  # of 128 films in twelve orders each, of which some tie down others


def order_task(**settings: Any) -> OrderPrediction:
    return OrderPrediction(**({"size": (32, 32), "crop": 0.75, "width": 64} | settings))


def example_of(task: OrderPrediction, films: Any, epoch: int = 0) -> OrderExample:
    batch = picture_batch(films, epoch=epoch)
    return task.pretext(batch, batch.draws("order_prediction"), MOMENT)


def test_label_is_the_order_in_which_slots_follow_each_other_in_time() -> None:
    example = example_of(order_task(), moving_discs(20, 0))
    assert example.order.shape == (20, 12, 4)
    slot_of_time = example.order.argsort(dim=-1)
    assert torch.equal(order_label(slot_of_time), example.label)
    assert torch.equal(example.label.sort(dim=1).values, torch.arange(12).expand(20, 12))


def test_both_directions_are_shown_and_orders_change_with_the_epoch() -> None:
    task = order_task(orders=1)
    films = moving_discs(200, 0)
    one, two = (example_of(task, films, epoch) for epoch in (0, 1))
    forward = (one.order.argsort(dim=-1)[..., 0] < one.order.argsort(dim=-1)[..., -1]).float().mean()
    assert abs(float(forward) - 0.5) < 2.58 * 0.5 / 200**0.5
    assert float((one.label == two.label).float().mean()) < 0.3
    assert len(one.label.unique()) == 12


def test_frames_rise_in_time_with_the_gaps_asked_for() -> None:
    task = order_task(gap_seconds=(0.25, 0.5))
    gaps = example_of(task, moving_discs(50, 0)).chosen.diff(dim=1)
    assert int(gaps.min()) >= 2
    assert int(gaps.max()) <= 4


def test_frames_are_chosen_where_something_moves() -> None:
    """The disc crosses in the first half of the film and is gone in the second."""
    films = moving_discs(60, 0)
    films[:, :12] = films[:, ::2]
    films[:, 12:] = films[:, 23:]
    chosen = example_of(order_task(gap_seconds=(0.25, 0.375)), films).chosen
    assert float((chosen[:, 2] < 13).float().mean()) > 0.95


def test_the_crop_is_chosen_where_something_moves() -> None:
    """A disc in the left half of a broad film is seen in all its frames."""
    still = still_films(30, 0, size=96)[..., 32:64, :]
    films = still.copy()
    films[..., :32] = moving_discs(30, 0)
    example = example_of(order_task(size=(32, 96), normalise=False), films)
    brightest = example.frames.reshape(30, 4, -1).amax(dim=-1)
    assert float((brightest > 0.75).all(dim=1).float().mean()) > 0.8


def test_three_equal_channels_and_one_drawn_channel_a_frame() -> None:
    films = still_films(40, 0)
    films[:, :, 0], films[:, :, 1], films[:, :, 2] = 10, 100, 200
    example = example_of(order_task(normalise=False, motion_threshold=0.0), films)
    frames = example.frames.reshape(40, 4, 3, -1)
    assert torch.equal(frames, frames[:, :, :1].expand_as(frames))
    values = (frames[:, :, 0, 0] * 255).round().long()
    assert set(values.unique().tolist()) == {10, 100, 200}
    assert float((values[:, 0] == values[:, 1]).float().mean()) < 0.6  # frames of a clip choose for themselves


def test_each_frame_is_shifted_by_itself() -> None:
    """On a still film the crops of one clip differ, and not by the same shift."""
    films = still_films(40, 0, size=64)
    example = example_of(order_task(size=(64, 64), motion_threshold=0.0, split=False, normalise=False), films)
    frames = example.frames.reshape(40, 4, -1)
    pairs = [(frames[:, i] == frames[:, j]).all(dim=1).float().mean() for i in range(4) for j in range(i)]
    assert max(float(p) for p in pairs) < 0.3


@pytest.mark.parametrize("ramp", [0.0, 0.5])
def test_a_film_without_motion_gives_no_row(ramp: float) -> None:
    """Neither a still film nor one that only grows brighter."""
    task = order_task()
    multitask = MultiTask(small_bundle(), {"order_prediction": task})
    films = moving_discs(8, 0)
    films[3:5] = still_films(2, 0, ramp=ramp)
    example = example_of(task, films)
    assert example.weight.tolist() == [1, 1, 1, 0, 0, 1, 1, 1]
    _, outcomes = multitask(picture_batch(films), MOMENT)
    metrics = outcomes["order_prediction"].metrics
    assert [float(x) for x in metrics["moving_clips"]] == [6, 8]
    assert float(metrics["accuracy"][1]) == 72


def test_orders_of_one_tuple_cost_one_pass_of_the_encoder() -> None:
    multitask = MultiTask(small_bundle(), {"order_prediction": order_task()})
    seen: list[torch.Size] = []
    multitask.encoders["image"].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    multitask(picture_batch(moving_discs(8, 0)), MOMENT)
    assert seen == [torch.Size([32, 3, 24, 24])]


def test_logits_are_those_of_the_concatenated_pairs() -> None:
    """A shared layer on two concatenated frames and their difference, a dense layer on six concatenated pairs."""
    task = order_task(orders=5, dropout=0.0)
    encoders = small_bundle()
    task.setup(encoders)
    task.eval()
    example = example_of(task, moving_discs(3, 0))
    found = task(example, encoders, MOMENT).loss
    features = task.feature(encoders["image"](example.frames)).reshape(3, 4, -1)
    features = task.sort.norm(features - features.mean(dim=1, keepdim=True))
    parts = (task.sort.earlier, task.sort.later, task.sort.between)
    pair_weight = torch.cat([part.weight for part in parts], dim=1)
    dense = task.sort.classifier.weight.reshape(6, 12, -1).permute(1, 0, 2).flatten(1)
    losses = []
    for clip in range(3):
        for order, label in zip(example.order[clip], example.label[clip], strict=True):
            slots = features[clip, order]
            two = [(slots[i], slots[j]) for i in range(4) for j in range(i + 1, 4)]
            pairs = [torch.cat([first, second, (first - second).abs()]) for first, second in two]
            hidden = [torch.relu(pair_weight @ pair + task.sort.earlier.bias) for pair in pairs]
            logits = dense @ torch.cat(hidden) + task.sort.classifier.bias.reshape(6, 12).sum(dim=0)
            losses.append(-torch.log_softmax(logits, dim=0)[label])
    assert torch.allclose(found, torch.stack(losses).mean(), atol=1e-5)


def test_a_fade_is_a_shortcut_and_normalisation_closes_it() -> None:
    """Still films that grow brighter: without split and normalisation the ramp tells the order, then nothing does."""
    fading = functools.partial(still_films, ramp=0.5)
    without = order_task(normalise=False, split=False, motion_threshold=0.0, jitter=0.0)
    open_door = train_and_score(without, fading, steps=60)
    closed = train_and_score(order_task(split=False, motion_threshold=0.0, jitter=0.0), fading, steps=40)
    assert open_door > 0.9
    assert abs(closed - 1 / 12) < NOISE


def test_four_equal_frames_teach_nothing() -> None:
    found = train_and_score(order_task(motion_threshold=0.0), still_films, steps=30)
    assert abs(found - 1 / 12) < NOISE


def test_controls_of_law_6_on_discs() -> None:
    """True: far above the floor; labels of another row, or nothing to be seen: at the floor, on true films."""
    assert train_and_score(order_task(jitter=1 / 64), moving_discs, steps=80) >= 0.6
    for control in ("broken_pairs", "blind"):
        found = train_and_score(order_task(), moving_discs, steps=15, control=control)
        assert abs(found - 1 / 12) < NOISE, control


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="orders must be between 1 and 12, got 13"):
        OrderPrediction(orders=13)
    with pytest.raises(ValueError, match=r"a crop of 0\.95 with jitter 0\.1 does not fit"):
        OrderPrediction(crop=0.95, jitter=0.1)
    with pytest.raises(ValueError, match="4 frames at least 2 apart do not fit into 6 frames"):
        OrderPrediction(picture=Span(0.75, 8.0), gap_seconds=(0.25, 0.375))
