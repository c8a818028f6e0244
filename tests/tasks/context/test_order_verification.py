"""Order verification: only the middle frame differs between true and false, and only motion tells which it is."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from mmssl.clip import Span
from mmssl.nn.encoders import Build, Encoders
from mmssl.ops.motion import UNIT
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.context.looks import motion_of
from mmssl.tasks.context.order_verification import OrderVerification, VerificationExample, balanced, ranked
from tests.tasks.context.scenes import moving_discs, picture_batch, still_films, swinging_discs
from tests.tasks.context.training import small_bundle, train_and_score

MOMENT = Moment(0, 1, 0, 0.0)
DIFFERENCE = 0.01
NOISE = 2.58 * (0.25 / 128 * (1 + 1 / 3) / 4) ** 0.5  # of 128 clips with one true and three false rows


def task_of(**settings: Any) -> OrderVerification:
    return OrderVerification(**({"size": (32, 32), "crop": 0.75, "width": 64, "difference": DIFFERENCE} | settings))


def example_of(task: OrderVerification, films: Any, epoch: int = 0) -> VerificationExample:
    batch = picture_batch(films, epoch=epoch)
    return task.pretext(batch, batch.draws("order_verification"), MOMENT)


def test_true_middles_are_between_and_false_ones_outside_near_but_not_too_near() -> None:
    task = task_of(pair_seconds=(0.5, 1.0), outside_seconds=(0.25, 0.75))
    chosen = torch.cat([example_of(task, moving_discs(100, 0), epoch).chosen for epoch in range(3)])
    first, last, true, false = chosen[:, :1], chosen[:, 1:2], chosen[:, 2:3], chosen[:, 3:]
    assert bool(((first < true) & (true < last)).all())
    assert 4 <= int((last - first).min()) <= int((last - first).max()) <= 8
    outside = torch.where(false < first, first - false, false - last)
    assert 2 <= int(outside.min()) <= int(outside.max()) <= 6
    assert 0.2 < float((false < first).float().mean()) < 0.8  # a as well as e


def test_both_classes_have_the_same_outer_frames_and_are_shown_both_ways() -> None:
    example = example_of(task_of(), moving_discs(200, 0))
    assert torch.equal(example.triple[..., [0, 2]].sort(dim=-1).values, torch.tensor([0, 1]).expand(200, 4, 2))
    assert torch.equal(example.label == 1, example.triple[..., 1] == 2)
    assert torch.equal(example.triple[..., 1].sort(dim=1).values, torch.tensor([2, 3, 4, 5]).expand(200, 4))
    for label in (0, 1):
        backwards = example.triple[..., 0][example.label == label].float()
        assert abs(float(backwards.mean()) - 0.5) < 3 * 0.5 / len(backwards) ** 0.5


@pytest.mark.parametrize("wrong", [1, 3])
def test_share_of_true_triples_is_what_was_asked_for(wrong: int) -> None:
    example = example_of(task_of(wrong=wrong), moving_discs(8, 0))
    assert example.label.shape == (8, 1 + wrong)
    assert example.label.sum(dim=1).tolist() == [1] * 8
    assert example.frames.shape == ((3 + wrong) * 8, 3, 24, 24)


def test_middles_that_look_like_an_outer_frame_are_not_used() -> None:
    """Discs that turn round show the same frame twice: about half of the false middles would be one of the pair."""
    films = swinging_discs(100, 0)
    task = task_of()
    example = example_of(task, films)
    distances = motion_of(torch.from_numpy(films), task.side).distances
    rows = torch.arange(100)[:, None]
    used = example.weight > 0
    for end in (0, 1):
        unlike = distances[rows, example.chosen[:, end : end + 1], example.chosen[:, 2:]]
        assert int(unlike[used].min()) >= DIFFERENCE * UNIT
    anything = example_of(task_of(difference=0.0, clearness=0.0), films).chosen
    assert int(distances[rows, anything[:, :1], anything[:, 2:]].min()) == 0


def test_pairs_are_chosen_where_something_moves() -> None:
    """The disc crosses in the first half of the film and stands in the second."""
    films = moving_discs(60, 0)
    films[:, :12] = films[:, ::2]
    films[:, 12:] = films[:, 11:12]
    chosen = example_of(task_of(), films).chosen
    assert float((chosen[:, 2] <= 12).float().mean()) > 0.95


@pytest.mark.parametrize("ramp", [0.0, 0.5])
def test_a_film_without_motion_gives_no_row(ramp: float) -> None:
    films = moving_discs(8, 0)
    films[3:5] = still_films(2, 0, ramp=ramp)
    assert example_of(task_of(), films).weight.tolist() == [1, 1, 1, 0, 0, 1, 1, 1]
    metrics = MultiTask(small_bundle(), {"t": task_of()})(picture_batch(films), MOMENT)[1]["t"].metrics
    assert [float(x) for x in metrics["moving_clips"]] == [6, 8]
    assert float(metrics["balanced_accuracy"][1]) == 6


def test_metrics_are_those_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    margin = torch.randn(20, 6, generator=draw).mul(4).round()  # with ties
    label = (torch.rand(20, 6, generator=draw) < 0.4).long()
    label[:, 0], label[:, 1] = 0, 1
    for row in range(20):
        known = roc_auc_score(label[row], margin[row])
        assert float(ranked(margin, label)[row]) == pytest.approx(known, abs=1e-6)
        untied = margin[row] + 0.25
        known = balanced_accuracy_score(label[row], untied > 0)
        assert float(balanced(untied[None], label[row][None])[0]) == pytest.approx(known, abs=1e-6)
    assert balanced(torch.zeros(1, 2), torch.tensor([[0, 1]])).item() == 0.5


def test_a_triple_is_judged_by_its_own_frames_alone() -> None:
    """Another false middle changes its own triple's answer, and no other's to the last bit."""
    task = task_of()
    example = example_of(task, moving_discs(6, 0))
    encoders = Encoders({"image": Build("mmssl.nn.image.SmallImageEncoder", {"width": 32})})
    task.setup(encoders)
    said: list[torch.Tensor] = []
    task.head.register_forward_hook(lambda module, given, made: said.append(made.detach()))
    frames = example.frames.clone().unflatten(0, (6, -1))
    frames[:, -1] = 1 - frames[:, -1]  # the last false middle
    for shown in (example.frames, frames.flatten(0, 1)):
        task(example._replace(frames=shown), encoders, MOMENT)
    with_it = (example.triple == example.triple.max()).any(dim=2)
    assert with_it.sum() == 6
    assert torch.equal(said[0][~with_it], said[1][~with_it])
    assert (said[0][with_it] != said[1][with_it]).any()


def test_controls_of_law_6_on_discs() -> None:
    """True: far above the floor; labels of another clip, or nothing to be seen: at the floor, on true films."""
    assert train_and_score(task_of(), moving_discs, steps=80) >= 0.85
    for control in ("broken_pairs", "blind"):
        found = train_and_score(task_of(), moving_discs, steps=20, control=control)
        assert abs(found - 0.5) < NOISE, control


def test_still_films_teach_nothing_and_a_fade_only_where_it_is_left_in() -> None:
    fading = functools.partial(still_films, ramp=0.5)
    assert train_and_score(task_of(difference=0.0, clearness=0.0, normalise=False), fading, steps=50) > 0.8
    assert abs(train_and_score(task_of(difference=0.0, clearness=0.0), fading, steps=50) - 0.5) < NOISE


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="wrong must be at least 1, got 0"):
        OrderVerification(wrong=0)
    with pytest.raises(ValueError, match="two frames at least 16 apart do not fit into 8 frames"):
        OrderVerification(picture=Span(1.0, 8.0), pair_seconds=(2.0, 3.0))
    with pytest.raises(ValueError, match="of 8 frames none lies 4 outside two that are 5 apart"):
        OrderVerification(picture=Span(1.0, 8.0), pair_seconds=(0.625, 0.75), outside_seconds=(0.5, 1.0))
