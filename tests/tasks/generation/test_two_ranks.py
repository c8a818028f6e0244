"""The same global batch on one and on two ranks, with a hole on one: same loss, same gradients, same clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmssl.distributed import sum_over_ranks
from mmssl.nn.encoders import Encoders
from mmssl.tasks.base import Moment, MultiTask, Outcome, PretextTask
from mmssl.tasks.generation.video_colorization import SAMPLES, VideoColorization
from mmssl.tasks.generation.video_prediction import VideoPrediction
from tests.batches import World, small_encoders
from tests.contract.rows import changed
from tests.two_ranks import assert_same, mean_over_ranks, on_two_ranks

CLIPS = 8
LATE = Moment(9, 10, 0, 0.9)


class TooTrusting(VideoPrediction):
    """Its judge holds made films for true ones, so that the maker has to pause."""

    def setup(self, encoders: Encoders) -> None:
        """A bias of the judge."""
        super().setup(encoders)
        with torch.no_grad():
            self.judge.judge.bias += 0.9


def step(task: PretextTask[Any, Any], rows: range) -> tuple[MultiTask, Outcome, dict[str, torch.Tensor]]:
    """The task set up, what it makes of these rows, and loss and gradients averaged over ranks as training does."""
    multitask = MultiTask(small_encoders(0, width=32), {"task": task}).eval()
    batch = World(CLIPS, multitask.window, seed=4).batch(rows)
    batch = changed(batch, weight=torch.tensor([1.0, 0, 1, 1, 1, 1, 1, 1])[list(rows)])
    loss, outcomes = multitask(batch, LATE)
    loss.backward()
    found = {f"gradient {n}": p.grad for n, p in multitask.named_parameters() if p.grad is not None}
    return multitask, outcomes["task"], mean_over_ranks(found | {"loss": loss.detach()})


def colour(rows: range) -> dict[str, torch.Tensor]:
    """Loss and gradients, metrics, and the clusters after enough steps to fit them."""
    torch.manual_seed(0)
    task = VideoColorization(size=(32, 32))
    multitask, outcome, found = step(task, rows)
    for name, values in outcome.metrics.items():
        found[f"metric {name}"] = sum_over_ranks(torch.stack(values))
    before = task.centroids.clone()
    for _ in range(SAMPLES // (64 * (CLIPS - 1)) + 1):
        multitask.after_step({"task": [outcome.carry]}, LATE)
    assert not torch.equal(task.centroids, before)
    return found | {"centroids": task.centroids.clone()}


def test_two_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    first, second = on_two_ranks(colour, CLIPS, tmp_path)
    assert torch.equal(first["centroids"], second["centroids"])
    assert_same(first, colour(range(CLIPS)))


def predict(rows: range) -> dict[str, torch.Tensor]:
    """Loss and gradients with a judge that says "true" too often, and whose turn it is after the step."""
    torch.manual_seed(0)
    task = TooTrusting(frames=4, steps=3, size=(32, 32), width=32, code=16, network="mcnet", adversarial=0.02)
    multitask, outcome, found = step(task, rows)
    multitask.after_step({"task": [outcome.carry]}, LATE)
    return found | {"turns": task.turns.learning.clone()}


def test_two_ranks_agree_whose_turn_it_is(tmp_path: Path) -> None:
    first, second = on_two_ranks(predict, CLIPS, tmp_path)
    assert first["turns"].tolist() == second["turns"].tolist() == [1.0, 0.0]
    assert_same(first, predict(range(CLIPS)))
