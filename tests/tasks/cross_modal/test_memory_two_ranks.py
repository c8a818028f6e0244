"""Tasks that remember: two steps on one and on two ranks leave the same queues, centroids, losses and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmssl.clip import Span
from mmssl.distributed import sum_over_ranks
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.cross_modal.av_clustering import AVClustering
from mmssl.tasks.cross_modal.av_instance import AVInstance
from tests.batches import World, small_encoders
from tests.tasks.cross_modal.trained import changed
from tests.two_ranks import assert_same, mean_over_ranks, on_two_ranks

CLIPS = 10
SHORT: dict[str, Any] = {"picture": Span(0.5, 8.0), "sound_seconds": 1.0, "size": (32, 32)}


def multitask_of_all() -> MultiTask:
    tasks: dict[str, Any] = {
        "av_instance": AVInstance(queue=12, positives=2, agreement_from=1, **SHORT),
        "xdc": AVClustering("xdc", clusters=3, queue=12, every=1, **SHORT),
        "selavi": AVClustering("selavi", clusters=3, heads=2, queue=12, every=1, **SHORT),
    }
    torch.manual_seed(0)
    return MultiTask(small_encoders(0, width=32), tasks).train()


def learn(rows: range) -> dict[str, torch.Tensor]:
    """State after two steps, and losses, gradients and summed metrics of the second."""
    multitask = multitask_of_all()
    world = World(2 * CLIPS, multitask.window, seed=4)
    keep = torch.tensor([True, True, True, True, True, False, True, False, True, True])[list(rows)]
    weight = torch.tensor([1.0, 1, 1, 0, 1, 1, 1, 1, 1, 1])[list(rows)]
    outcomes: dict[str, Any] = {}
    for number in range(2):
        batch = changed(world.batch([number * CLIPS + i for i in rows]), has_audio=keep, weight=weight)
        moment = Moment(number, 2, 0, number / 2)
        multitask.zero_grad()
        total, outcomes = multitask(batch, moment)
        total.backward()
        multitask.after_step({name: [outcome.carry] for name, outcome in outcomes.items()}, moment)
    found = {f"gradient {n}": p.grad for n, p in multitask.named_parameters() if p.grad is not None}
    found |= {f"loss {name}": outcome.loss for name, outcome in outcomes.items()}
    found = mean_over_ranks(found)
    for name, outcome in outcomes.items():
        for metric, values in outcome.metrics.items():
            found[f"metric {name}/{metric}"] = sum_over_ranks(torch.stack(values))
    return found | {f"state {name}": value.clone() for name, value in multitask.heads.named_buffers()}


def test_two_ranks_remember_what_one_process_remembers(tmp_path: Path) -> None:
    first, second = on_two_ranks(learn, CLIPS, tmp_path)
    together = learn(range(CLIPS))
    assert int(together["state av_instance.queue.filled"]) == 12
    for name, value in first.items():
        assert not name.startswith("state") or torch.equal(value, second[name]), (
            name
        )  # to the bit, or ranks drift apart
    assert_same(first, together)
