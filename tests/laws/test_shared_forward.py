"""Tasks that take the same view of a clip share one forward of the encoder, and lose nothing by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.context.rotation import Rotation
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching
from tests.batches import World, small_encoders

LATE = Moment(9, 10, 0, 0.9)
CLIPS = 8


def build(**tasks: Any) -> MultiTask:
    """Tasks with the same weights whichever others stand beside them."""
    multitask = MultiTask(small_encoders(0, 32), tasks)
    for name, task in multitask.tasks.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(name))
            for parameter in task.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
    return multitask.eval()


def sync() -> AVSync:
    return AVSync(size=(32, 32), clip_seconds=1.0, gap=0.5)


def matching(clip_seconds: float | None = 1.0) -> SubtitleMatching:
    return SubtitleMatching(size=(32, 32), clip_seconds=clip_seconds, gap=0.5)


def gradients(multitask: MultiTask, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    multitask.zero_grad(set_to_none=True)
    loss.backward()
    return {n: p.grad for n, p in multitask.named_parameters() if p.grad is not None and "parts.video" in n}


def test_two_tasks_on_one_view_cost_one_forward() -> None:
    together = build(sync=sync(), matching=matching())
    batch = World(CLIPS, together.window, seed=0).batch(range(CLIPS))
    seen: list[int] = []
    together.encoders["video"].register_forward_hook(lambda *_: seen.append(1))
    together(batch, LATE)
    together(batch, LATE)
    assert len(seen) == 2  # one a step
    assert together.encoders.calls["video"] == 2


def test_two_views_cost_two() -> None:
    apart = build(sync=sync(), matching=matching(clip_seconds=None))
    batch = World(CLIPS, apart.window, seed=0).batch(range(CLIPS))
    apart(batch, LATE)
    assert apart.encoders.calls["video"] == 2


def test_sharing_changes_neither_losses_nor_gradients() -> None:
    together = build(sync=sync(), matching=matching())
    alone = [build(sync=sync()), build(matching=matching())]
    world = World(CLIPS, together.window, seed=0)
    loss, outcomes = together(world.batch(range(CLIPS)), LATE)
    total: dict[str, torch.Tensor] = {}
    for one in alone:
        single, single_outcomes = one(world.batch(range(CLIPS)), LATE)
        for name, outcome in single_outcomes.items():
            assert torch.allclose(outcome.loss, outcomes[name].loss, atol=1e-6)
        for name, gradient in gradients(one, single).items():
            total[name] = total.get(name, torch.zeros_like(gradient)) + gradient
    shared = gradients(together, loss)
    assert shared.keys() == total.keys()
    for name, gradient in shared.items():
        assert torch.allclose(gradient, total[name], rtol=1e-3, atol=1e-6), name


def test_nothing_is_kept_beyond_the_step() -> None:
    """Else a step could be answered with the features of weights that have changed since."""
    multitask = build(rotation=Rotation(size=(32, 32)))
    batch = World(CLIPS, multitask.window, seed=0).batch(range(CLIPS))
    before = multitask(batch, LATE)[0]
    with torch.no_grad():
        for parameter in multitask.encoders.parameters():
            parameter.add_(0.1)
    assert not torch.allclose(before, multitask(batch, LATE)[0])
    assert not multitask.encoders._shared


def test_nothing_is_kept_when_a_task_fails() -> None:
    multitask = build(rotation=Rotation(size=(32, 32)))
    batch = World(CLIPS, multitask.window, seed=0).batch(range(CLIPS))
    multitask.tasks["rotation"].head = torch.nn.Linear(3, 4)  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        multitask(batch, LATE)
    assert not multitask.encoders._shared
