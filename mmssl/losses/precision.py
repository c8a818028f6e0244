"""Losses are computed in float32 even under autocast: logits scaled by a temperature overflow or round in bfloat16."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch

P = ParamSpec("P")


def in_float32(loss: Callable[P, torch.Tensor]) -> Callable[P, torch.Tensor]:
    """Run a loss outside autocast on tensors of at least float32 (float64 stays as it is)."""

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> torch.Tensor:
        def raised(value: Any) -> Any:
            if isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16):
                return value.float()
            return value

        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        device = tensors[0].device.type if tensors else "cpu"
        with torch.autocast(device, enabled=False):
            return loss(*[raised(a) for a in args], **{k: raised(v) for k, v in kwargs.items()})  # type: ignore[arg-type]

    return wrapped
