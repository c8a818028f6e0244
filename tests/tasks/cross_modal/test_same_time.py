"""Time in the clip: with `same_time` nobody is compared with a clip of another time, and a fade is no way to answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmssl.clip import Span
from mmssl.ops.partners import near_rows
from mmssl.tasks.base import PretextTask
from mmssl.tasks.cross_modal.av_instance import AVInstance
from mmssl.tasks.cross_modal.av_localization import AVLocalization
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.localization_rules import AvolNet, EzVsl, Fnac, LocalizationRule, Lvs, Projected, Slavc
from tests.batches import World
from tests.tasks.cross_modal.test_frame_sound import faded
from tests.tasks.cross_modal.trained import LATE, mean, multitask_of, outcome_of, train

FADE: dict[str, Any] = {"size": (32, 32), "augment": False, "quietest": -80}
SHORT: dict[str, Any] = {"picture": Span(0.25, 8.0), "sound_seconds": 0.5, "queue": 64, "positives": 4}
TASKS: dict[str, Callable[[bool], PretextTask[Any, Any]]] = {
    "av_localization": lambda same: AVLocalization(same_time=same, **FADE),
    "av_instance": lambda same: AVInstance(same_time=same, **SHORT, **FADE),
    "av_sync": lambda same: AVSync(same_time=same, easy_share=1.0, **FADE),
}
RULES: dict[str, Callable[[], LocalizationRule]] = {
    "avol_net": AvolNet,
    "lvs": Lvs,
    "ez_vsl": EzVsl,
    "slavc": Slavc,
    "slavc, pictures": lambda: Slavc(picture_candidates=True),
    "fnac": Fnac,
}


def test_near_rows_are_the_next_before_and_after_among_the_valid() -> None:
    place = torch.tensor([0.4, 0.1, 0.9, 0.5, 0.2, 0.3])
    valid = torch.tensor([True, True, True, True, False, True])
    near = near_rows(place, valid, 1)  # in time: 1, 5, 0, 3, 2
    assert [row.nonzero()[:, 0].tolist() for row in near] == [[0, 3, 5], [1, 5], [2, 3], [0, 2, 3], [], [0, 1, 5]]
    assert torch.equal(near_rows(place, valid, 9), valid[:, None] & valid)


def unit(*shape: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_compares_rivals_only(rule: str) -> None:
    """Two halves of a batch that are no rivals of each other: the loss is the mean of the two alone."""
    made, count = RULES[rule](), 4
    whole = [Projected(unit(2 * count, 8, 2, 3, seed=n), unit(2 * count, 8, seed=10 + n)) for n in range(2)]
    group = torch.arange(2 * count) // count
    rivals = group[:, None] == group
    places = whole[0].places.clone().requires_grad_()
    held = Projected(places, whole[0].sounds, rivals)
    together = made(held, torch.ones(2 * count), LATE, whole[1])
    halves = [slice(0, count), slice(count, 2 * count)]
    apart = [
        made(
            Projected(whole[0].places[half], whole[0].sounds[half]),
            torch.ones(count),
            LATE,
            Projected(whole[1].places[half], whole[1].sounds[half]),
        ).losses
        for half in halves
    ]
    for name, loss in together.losses.items():
        torch.testing.assert_close(loss, (apart[0][name] + apart[1][name]) / 2, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(sum(together.losses.values()), places)
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())
    plain = made(Projected(places, whole[0].sounds), torch.ones(2 * count), LATE, whole[1])
    torch.testing.assert_close(together.scores, plain.scores)  # the score is of all pairs
    assert any(abs(float(plain.losses[n] - together.losses[n])) > 1e-3 for n in plain.losses)


@pytest.mark.parametrize("name", TASKS)
def test_loss_and_metrics_do_not_hang_on_the_order_of_the_batch(name: str) -> None:
    multitask = multitask_of(TASKS[name](True))
    world = World(12, multitask.window, shorter={1: 2.0, 5: 2.0, 6: 2.0})
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    one, two = (outcome_of(multitask, world.batch(rows)) for rows in (range(12), order))
    torch.testing.assert_close(one.loss, two.loss, atol=1e-5, rtol=1e-5)
    for metric, values in one.metrics.items():
        for a, b in zip(values, two.metrics[metric], strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        free = multitask_of(TASKS[name](False))
        free.load_state_dict(multitask.state_dict(), strict=False)
        assert abs(float(outcome_of(free, world.batch(range(12))).loss) - float(one.loss.detach())) > 1e-3


def test_negatives_from_the_queue_are_those_next_in_time() -> None:
    task = AVInstance(same_time=True, **(SHORT | {"queue": 50}), **FADE)
    multitask = multitask_of(task)
    ids, times = torch.arange(30), torch.linspace(0, 3, 30, dtype=torch.float64)
    carry = {"video": torch.randn(30, 128), "audio": torch.randn(30, 128), "ids": ids, "weight": torch.ones(30)}
    task.after_step(multitask.encoders, [carry | {"place": times}], LATE)
    own = torch.tensor([7, 99])
    near = task._near_queued(times[torch.tensor([7, 20])], task.queue.others(own))
    assert near[0].nonzero()[:, 0].tolist() == [6, 8]  # two of fifty, not itself
    assert near[1].nonzero()[:, 0].tolist() in ([20, 19], [19, 20], [20, 21])
    assert not bool(task._near_queued(times[:1], torch.zeros(1, 50, dtype=torch.bool)).any())


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_fade_is_no_way_to_the_answer(name: str) -> None:
    """Nothing but a fade is there: it answers by default, and not among clips of the same time."""
    metric, least, most = {
        "av_localization": ("accuracy", 0.8, 0.56),
        "av_instance": ("accuracy", 0.5, 0.2),
        "av_sync": ("accuracy_easy", 0.8, 0.56),
    }[name]
    found = {}
    for same_time in (False, True):
        multitask = train(TASKS[name](same_time), steps=60, clips=128, change=faded)
        with torch.no_grad():
            batch = faded(World(256, multitask.window, seed=1).batch(range(256)))
            found[same_time] = mean(outcome_of(multitask, batch), metric)
    assert found[False] > least
    assert found[True] < most
