"""Small heads on top of encoders: projections to a common space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Projection(nn.Sequential):
    """Two linear layers with LayerNorm and ReLU between, [B, inputs] -> [B, outputs]."""

    def __init__(self, inputs: int, outputs: int, hidden: int | None = None) -> None:
        hidden = hidden or max(inputs, outputs)
        super().__init__(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class MapProjection(nn.Module):
    """A feature map [B, C, h, w] to unit vectors a place, [B, D, h, w]; 1 x 1 convolutions, so places stay apart."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 1)
        self.conv_2 = nn.Conv2d(outputs, outputs, 1)

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        """Project every place."""
        return F.normalize(self.conv_2(torch.relu(self.conv_1(torch.relu(self.norm(level))))).float(), dim=1)


class TimeKeepingProjection(nn.Module):
    """A map with time as its last axis, [B, C, t], to [B, D] without losing what happened when.

    Pooling over time would throw away the very thing that synchronisation is about.
    """

    def __init__(self, inputs: int, outputs: int, steps: int, hidden: int = 256) -> None:
        super().__init__()
        self.steps = steps
        self.norm = nn.GroupNorm(1, inputs)
        self.reduce = nn.Conv1d(inputs, 64, 3, padding=1)
        self.project = Projection(64 * steps, outputs, hidden)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Project a series; another length is resampled to `steps`."""
        series = self.reduce(torch.relu(self.norm(series)))
        if series.shape[-1] != self.steps:
            series = F.interpolate(series, size=self.steps, mode="linear", align_corners=False)
        return torch.as_tensor(self.project(torch.relu(series).flatten(1)))


class Temperature(nn.Module):
    """A learned temperature in [0.01, 0.5]; divides similarities."""

    def __init__(self, start: float = 0.07) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.tensor(start).log())

    def forward(self, similarity: torch.Tensor) -> torch.Tensor:
        """Divide in float32."""
        return similarity.float() / self.log_value.exp().clamp(0.01, 0.5)
