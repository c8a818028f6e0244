"""Small heads on top of encoders: projections to a common space."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from mmssl.errors import UserError
from mmssl.nn.blocks import group_norm


class Projection(nn.Sequential):
    """Two linear layers with LayerNorm and ReLU between, [B, inputs] -> [B, outputs]."""

    def __init__(self, inputs: int, outputs: int, hidden: int | None = None) -> None:
        hidden = hidden or max(inputs, outputs)
        super().__init__(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class MapProjection(nn.Module):
    """A feature map [B, C, h, w] to a vector a place, [B, D, h, w]; 1 x 1 convolutions, so places stay apart."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = group_norm(inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 1)
        self.conv_2 = nn.Conv2d(outputs, outputs, 1)

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        """Project every place."""
        return torch.as_tensor(self.conv_2(torch.relu(self.conv_1(torch.relu(self.norm(level))))))


class TimeKeepingProjection(nn.Module):
    """A series [B, C, t, ...] to [B, D, steps, ...]: a vector for each of `steps` equal parts of its time.

    Pooling over time would throw away the very thing that synchronisation is about. What follows the time axis (places
    of a picture) stays apart.
    """

    def __init__(self, inputs: int, outputs: int, steps: int, hidden: int = 64) -> None:
        super().__init__()
        self.steps = steps
        self.norm = group_norm(inputs)
        self.reduce = nn.Conv2d(inputs, hidden, (3, 1), padding=(1, 0))
        self.project = nn.Conv2d(hidden, outputs, 1)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Project a series; another length is averaged, or interpolated, to `steps`."""
        flat = series.flatten(3) if series.ndim > 3 else series[..., None]
        flat = torch.relu(self.reduce(torch.relu(self.norm(flat))))
        count = flat.shape[2]
        if count > self.steps:
            flat = F.adaptive_avg_pool2d(flat, (self.steps, flat.shape[3]))
        elif count < self.steps:
            flat = F.interpolate(flat, size=(self.steps, flat.shape[3]), mode="bilinear", align_corners=False)
        made = self.project(flat)
        return torch.as_tensor(made.reshape(*made.shape[:3], *series.shape[3:]))


class BatchStandardisation(nn.Module):
    """Every channel of the *gathered* embeddings to mean 0 and variance 1 over the valid rows (arXiv 1502.03167).

    Embeddings of an untrained head share one large common part; InfoNCE then first shrinks what little tells them
    apart, and stays at log N for hundreds of steps. Taking the common part out starts the head where it can learn.

    The task gathers and this layer never does: all ranks see the statistics of the whole global batch, as one process
    would, and no group of rows has statistics of its own that could leak which rows belong together. In evaluation
    running means are used.

    Args:
        channels: D.
        momentum: share of a step in the running statistics.
    """

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.mean: torch.Tensor
        self.variance: torch.Tensor

    def forward(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Standardise [N, D, ...] in float32; rows of weight 0 (float [N]) have no part in the statistics."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            mean, variance = self.mean, self.variance
            if self.training:
                used = torch.ones(len(x), device=x.device) if weight is None else (weight > 0).float()
                if float(used.sum()) > 1:  # one row alone has no spread
                    mean, variance = self._statistics(x.flatten(2) if x.ndim > 2 else x[:, :, None], used)
            shape = (1, -1) + (1,) * (x.ndim - 2)
            return (x - mean.reshape(shape)) * torch.rsqrt(variance.reshape(shape) + 1e-5)

    def _statistics(self, flat: torch.Tensor, used: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        share = (used / (used.sum() * flat.shape[2]))[:, None, None]
        mean = (flat * share).sum(dim=(0, 2))
        variance = ((flat - mean[None, :, None]).square() * share).sum(dim=(0, 2))
        with torch.no_grad():
            self.mean.lerp_(mean.detach(), self.momentum)
            self.variance.lerp_(variance.detach(), self.momentum)
        return mean, variance


class _Bounded(torch.autograd.Function):
    """A value kept in bounds, whose gradient passes inside them, and outside them where descent leads back."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, low: float, high: float) -> torch.Tensor:
        ctx.save_for_backward(value)
        ctx.bounds = low, high
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (value,) = ctx.saved_tensors
        low, high = ctx.bounds
        outward = ((value <= low) & (grad > 0)) | ((value >= high) & (grad < 0))
        return torch.where(outward, torch.zeros_like(grad), grad), None, None


class Temperature(nn.Module):
    """A learned temperature that divides similarities, in [0.01, 2] (`LOWEST`, `HIGHEST`).

    It can leave its bounds again: a plain clamp has no gradient outside them, so that a temperature which an optimizer
    step has carried past a bound would stay there for ever.

    Args:
        start: at the start.
        setting: whose value `start` is, for the message.

    Raises:
        UserError: the start lies outside the bounds.
    """

    LOWEST: ClassVar[float] = 0.01
    HIGHEST: ClassVar[float] = 2.0

    def __init__(self, start: float = 0.07, setting: str = "temperature") -> None:
        super().__init__()
        self.check(start, setting)
        self.log_value = nn.Parameter(torch.tensor(start).log())

    @classmethod
    def check(cls, start: float, setting: str) -> None:
        """Raise a UserError unless a learned temperature may start there."""
        if not cls.LOWEST <= start <= cls.HIGHEST:
            raise UserError(
                f"{setting} is learned within [{cls.LOWEST:g}, {cls.HIGHEST:g}], it cannot start at {start}"
            )

    @property
    def value(self) -> torch.Tensor:
        """The temperature, a float32 scalar."""
        logarithm: torch.Tensor = _Bounded.apply(self.log_value.float(), math.log(self.LOWEST), math.log(self.HIGHEST))
        return logarithm.exp()

    def forward(self, similarity: torch.Tensor) -> torch.Tensor:
        """Divide in float32."""
        return similarity.float() / self.value
