"""A teacher: a copy of a module that follows it as an exponential moving average (Mean Teacher, arXiv 1703.01780)."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Teacher(nn.Module):
    """A copy whose weights move towards those of its student and are trained by nothing else.

    The weights are buffers: they are saved with the task, and no optimizer, gradient norm or gradient exchange sees
    them. What the student keeps in buffers of its own (running statistics) is copied at the start; after that the
    teacher's come from its own forwards. Whatever it computes carries no gradient.

    Args:
        student: the module to copy; it is not kept.
        momentum: share of the old value that a step keeps, in [0, 1].
    """

    def __init__(self, student: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}")
        self.momentum = momentum
        self.copied = copy.deepcopy(student)
        for module in self.copied.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach().clone())

    @torch.no_grad()
    def forward(self, *given: torch.Tensor) -> object:
        """What the copy gives."""
        return self.copied(*given)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move towards the student; once after every optimizer step."""
        mine = dict(self.copied.named_buffers())
        for name, parameter in student.named_parameters():
            mine[name].lerp_(parameter.detach().to(mine[name].dtype), 1 - self.momentum)
