"""Parameter groups: what is decayed, whose group a parameter is in, and what a checkpoint may change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mmssl.errors import UserError
from mmssl.nn.encoders import Encoders
from mmssl.training.optim import OptimizerSettings, load_moments, make_optimizer, set_learning_rate, untrained
from mmssl.training.schedule import ScheduleSettings
from tests.training.stand_ins import UpOrDown, tiny_multitask


class Warm(UpOrDown):
    """With a temperature, and a head that learns faster."""

    def setup(self, encoders: Encoders) -> None:
        super().setup(encoders)
        self.temperature = nn.Parameter(torch.zeros(()))
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": self.head.parameters(), "lr": 0.5}, {"params": [self.temperature, self.frozen]}]


def test_norms_biases_and_temperatures_are_not_decayed() -> None:
    multitask = tiny_multitask(turn=Warm())
    optimizer = make_optimizer(multitask, OptimizerSettings(weight_decay=0.3, lr=0.1))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    names = {name: decay.get(id(p)) for name, p in multitask.named_parameters()}
    layers = "encoders.parts.image.layers"
    assert {n for n, d in names.items() if d == 0.3} == {
        f"{layers}.1.weight", "encoders.parts.image.project.weight", "heads.turn.head.weight"
    }  # fmt: skip
    assert names["heads.turn.temperature"] == names[f"{layers}.2.weight"] == names[f"{layers}.1.bias"] == 0.0
    assert names["heads.turn.frozen"] is None


def test_a_group_keeps_its_own_rate_under_the_schedule() -> None:
    optimizer = make_optimizer(tiny_multitask(turn=Warm()), OptimizerSettings(name="sgd", lr=0.1))
    set_learning_rate(optimizer, 50, 100, ScheduleSettings(warmup=0.0))
    rates = {group["part"]: set() for group in optimizer.param_groups}
    for group in optimizer.param_groups:
        rates[group["part"]].add(round(group["lr"], 6))
    assert rates == {"encoders.image": {0.05}, "tasks.turn": {0.25, 0.05}}


def test_a_parameter_left_out_or_taken_twice_is_an_error() -> None:
    class Forgets(Warm):
        def parameter_groups(self) -> list[dict[str, Any]]:
            return super().parameter_groups()[:1]

    class Doubles(Warm):
        def parameter_groups(self) -> list[dict[str, Any]]:
            return [*super().parameter_groups(), {"params": [self.temperature]}]

    with pytest.raises(ValueError, match=r"heads\.turn\.temperature is in no group"):
        make_optimizer(tiny_multitask(turn=Forgets()), OptimizerSettings())
    with pytest.raises(ValueError, match=r"a parameter of shape \[\] is in a group of tasks\.turn and in one of"):
        make_optimizer(tiny_multitask(turn=Doubles()), OptimizerSettings())


def step(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def test_saved_moments_do_not_bring_back_the_old_rate() -> None:
    old = make_optimizer(tiny_multitask(), OptimizerSettings(lr=0.1, weight_decay=0.3))
    step(old)
    new = make_optimizer(tiny_multitask(), OptimizerSettings(lr=0.01, weight_decay=0.2))
    load_moments(new, old.state_dict())
    assert {group["peak_lr"] for group in new.param_groups} == {0.01}
    assert {group["weight_decay"] for group in new.param_groups} == {0.2, 0.0}
    moments = [state["exp_avg"] for state in new.state.values()]
    assert moments
    assert all(torch.allclose(m, torch.full_like(m, 0.1)) for m in moments)


def test_moments_of_other_parameters_are_refused() -> None:
    old = make_optimizer(tiny_multitask(turn=Warm()), OptimizerSettings())
    with pytest.raises(UserError, match="holds other parameter groups than this run's"):
        load_moments(make_optimizer(tiny_multitask(), OptimizerSettings()), old.state_dict())


def test_parts_of_encoders_that_no_task_trains_are_named() -> None:
    multitask = tiny_multitask()
    image = multitask.encoders["image"]
    image.stages = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)])
    optimizer = make_optimizer(multitask, OptimizerSettings())
    assert untrained(multitask.encoders, optimizer) == []  # nothing is known before the first step
    for parameter in (*image.layers.parameters(), *image.stages[0].parameters()):
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    (told,) = untrained(multitask.encoders, optimizer)
    left = sum(p.numel() for p in (*image.stages[1].parameters(), *image.project.parameters()))
    share = left / sum(p.numel() for p in image.parameters())
    assert told.startswith(f"no task trains project, stages.1 of the encoder 'image' ({share:.0%} of its weights)")
    for parameter in image.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert untrained(multitask.encoders, optimizer) == []
