"""Dense predictive coding on one and on two ranks, with unequal masks: same loss, same gradients, same metrics."""

from __future__ import annotations

from pathlib import Path

import torch

from mmssl.distributed import sum_over_ranks
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.contrastive.dense_predictive_coding import DensePredictiveCoding
from tests.batches import World, small_encoders
from tests.contract.rows import changed
from tests.two_ranks import assert_same, mean_over_ranks, on_two_ranks

CLIPS = 8


def learn(rows: range) -> dict[str, torch.Tensor]:
    """Loss, gradients and summed metrics, averaged and summed over ranks as training does."""
    torch.manual_seed(0)
    task = DensePredictiveCoding(size=(32, 32), width=32)
    multitask = MultiTask(small_encoders(0, 32), {"task": task}).eval()
    weight = torch.tensor([1.0, 1, 1, 0, 1, 0, 0, 1])[list(rows)]
    batch = changed(World(CLIPS, multitask.window, seed=4).batch(rows), weight=weight)
    total, outcomes = multitask(batch, Moment(0, 1, 0, 0.0))
    total.backward()
    found = {f"gradient {n}": p.grad for n, p in multitask.named_parameters() if p.grad is not None}
    found["loss"] = outcomes["task"].loss
    found = mean_over_ranks(found)
    for metric, values in outcomes["task"].metrics.items():
        found[f"metric {metric}"] = sum_over_ranks(torch.stack(values))
    return found


def test_two_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    apart, _ = on_two_ranks(learn, CLIPS, tmp_path)
    together = learn(range(CLIPS))
    assert float(together["loss"].detach()) > 0
    assert float(together["metric top1"][1]) == 5.0
    assert_same(apart, together)
