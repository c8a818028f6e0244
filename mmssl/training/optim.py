"""The optimizer over encoders and heads: AdamW or SGD, no weight decay for norms, biases and temperatures.

AdamW: Loshchilov and Hutter, arXiv 1711.05101.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from mmssl.errors import UserError
from mmssl.nn.encoders import Encoders
from mmssl.tasks.base import MultiTask
from mmssl.training.schedule import ScheduleSettings, multiplier


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer and its learning rate.

    Args:
        name: "adamw" or "sgd".
        lr: peak learning rate, > 0.
        weight_decay: decay of matrices and kernels; vectors and scalars are not decayed.
        betas: moments of AdamW.
        momentum: momentum of SGD.
        schedule: how the rate moves over the steps.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    momentum: float = 0.9
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"optimizer.lr must be > 0, got {self.lr}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay must be >= 0, got {self.weight_decay}")


def decays(parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices and kernels, not to norms, biases and temperatures."""
    return parameter.ndim > 1


def parameter_groups(multitask: MultiTask) -> list[dict[str, Any]]:
    """Groups of all trained parameters: the encoders', then what each task's `parameter_groups()` asks for.

    Each group is split in two, with and without decay. A task's group may carry options of its own (``lr``...).

    Raises:
        ValueError: a trained parameter is in no group or in two (an error of the task).
    """
    asked: list[tuple[str, dict[str, Any]]] = [
        (f"encoders.{name}", {"params": list(multitask.encoders[name].parameters())})
        for name in multitask.encoders.names()
    ]
    for name, task in multitask.tasks.items():
        asked += [(f"tasks.{name}", dict(group)) for group in task.parameter_groups()]
    groups: list[dict[str, Any]] = []
    owner: dict[int, str] = {}
    for part, options in asked:
        trained = [p for p in options.pop("params") if p.requires_grad]
        for parameter in trained:
            if id(parameter) in owner:
                raise ValueError(
                    f"a parameter of shape {list(parameter.shape)} is in a group of {owner[id(parameter)]} "
                    f"and in one of {part}; each parameter belongs to one group"
                )
            owner[id(parameter)] = part
        for decayed in (True, False):
            chosen = [p for p in trained if decays(p) is decayed]
            if chosen:
                undecayed = {} if decayed else {"weight_decay": 0.0}
                groups.append({"params": chosen, "part": part, **options, **undecayed})
    for name, parameter in multitask.named_parameters():
        if parameter.requires_grad and id(parameter) not in owner:
            raise ValueError(f"the parameter {name} is in no group; its task's parameter_groups() leaves it out")
    return groups


def make_optimizer(multitask: MultiTask, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer over `parameter_groups(multitask)`; each group keeps its peak rate as ``peak_lr``."""
    groups = parameter_groups(multitask)
    optimizer: torch.optim.Optimizer
    if settings.name == "adamw":
        optimizer = torch.optim.AdamW(groups, settings.lr, settings.betas, weight_decay=settings.weight_decay)
    else:
        optimizer = torch.optim.SGD(groups, settings.lr, settings.momentum, weight_decay=settings.weight_decay)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def untrained(encoders: Encoders, optimizer: torch.optim.Optimizer) -> list[str]:
    """What no task has given a gradient so far: a sentence for each encoder of which parts are as they started.

    Tasks that work on maps leave what lies behind them (a last stage, the projection) untrained, while probes read the
    pooled vector at the very end. Empty with an optimizer that keeps no moments (SGD without momentum).
    """
    told: list[str] = []
    if not optimizer.state:
        return told
    for name in encoders.names():
        parameters = [(n, p) for n, p in encoders[name].named_parameters() if p.requires_grad]
        left = [(n, p) for n, p in parameters if p not in optimizer.state]
        if left:
            parts = sorted({re.sub(r"^([^.]+(\.\d+)?).*", r"\1", n) for n, _ in left})  # norm, project, stages.2
            share = sum(p.numel() for _, p in left) / sum(p.numel() for _, p in parameters)
            told.append(
                f"no task trains {', '.join(parts)} of the encoder '{name}' ({share:.0%} of its weights): its pooled "
                "vector, which probes read, lies behind weights that are as they started"
            )
    return told


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, total: int, settings: ScheduleSettings) -> float:
    """Set every group's rate for this step; returns the first group's."""
    factor = multiplier(step, total, settings)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


def load_moments(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Take the moments from a saved optimizer; rates and decay stay as the settings of this run say.

    Raises:
        UserError: the saved optimizer was of other parameters.
    """
    fresh = optimizer.state_dict()
    sizes = [[len(group["params"]) for group in state["param_groups"]] for state in (fresh, saved)]
    if sizes[0] != sizes[1]:
        raise UserError(
            "the checkpoint's optimizer holds other parameter groups than this run's; resume with the encoders, tasks "
            "and optimizer that the run was started with (its config.yaml)"
        )
    optimizer.load_state_dict({"state": saved["state"], "param_groups": fresh["param_groups"]})
