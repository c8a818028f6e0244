"""Gradients that go the other way, for two parts of a network that pull against each other."""

from __future__ import annotations

from typing import Any

import torch


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return -grad


def reversed_gradient(x: torch.Tensor) -> torch.Tensor:
    """`x` as it is; its gradient with the other sign (Ganin and Lempitsky, arXiv 1409.7495)."""
    made: torch.Tensor = _Reversed.apply(x)
    return made
