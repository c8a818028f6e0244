"""Flow by one pass over both frames: FlowNetSimple (arXiv 1504.06852), scaled to small pictures.

The frames are stacked and a contracting network has to find out for itself how to match them; an expanding one refines
the estimate from coarse to fine, each scale being given the estimate of the coarser one. Differences: what is stacked
are an encoder's finest maps of both frames, and the coarsest scale lies four times (not sixteen times) below them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

Levels = Mapping[int, torch.Tensor]
_SLOPE = 0.1


class StackedFlow(nn.Module):
    """Feature maps of two frames -> estimates of the flow between them, from coarse to fine.

    Args:
        widths: channels of the encoder's maps by stride; the two finest are read.
        channels: channels at the finest stride, and at half and a quarter of its resolution.
    """

    def __init__(self, widths: Mapping[int, int], channels: tuple[int, int, int] = (64, 96, 128)) -> None:
        super().__init__()
        self.strides = sorted(widths)[:2]
        self.stride = self.strides[0]
        fine, middle, coarse = channels
        read = 2 * sum(widths[stride] for stride in self.strides)
        self.contract = nn.ModuleList([_layer(read, fine), _layer(fine, middle, 2), _layer(middle, coarse, 2)])
        self.deepen = nn.ModuleList([_layer(width, width) for width in channels])
        self.expand = nn.ModuleList([_layer(coarse, middle), _layer(2 * middle + 2, fine)])
        self.estimate = nn.ModuleList(
            nn.Conv2d(width, 2, 3, padding=1) for width in (coarse, 2 * middle + 2, 2 * fine + 2)
        )

    def forward(self, first: Levels, second: Levels) -> torch.Tensor:
        """Float32 [3, N, 2, H, W], pixels; H and W are the maps' sides times the finest stride."""
        x = torch.cat([self._read(first), self._read(second)], dim=1)
        height, width = (side * self.stride for side in x.shape[-2:])
        maps = []
        for contract, deepen in zip(self.contract, self.deepen, strict=True):
            x = deepen(contract(x))
            maps.append(x)
        found = [self.estimate[0](x).float()]
        for number, expand in enumerate(self.expand):
            beside = maps[1 - number]
            size = beside.shape[-2:]
            wider = expand(F.interpolate(x, size=size, mode="nearest"))
            flow = F.interpolate(found[-1], size=size, mode="bilinear", align_corners=False)
            x = torch.cat([beside, wider, flow.to(beside.dtype)], dim=1)
            found.append(flow + self.estimate[number + 1](x).float())
        # In pixels of the frames at every scale; only the picture of the flow grows.
        return torch.stack(
            [F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False) for flow in found]
        )

    def _read(self, levels: Levels) -> torch.Tensor:
        fine, coarse = (levels[stride] for stride in self.strides)
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.relu(torch.cat([fine, coarse.to(fine.dtype)], dim=1))


def _layer(given: int, width: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(given, width, 3, stride, 1), nn.LeakyReLU(_SLOPE))
