"""From codes of future frames to pictures: a decoder with skips from the last frame's maps, and how its picture is put
together from what stays, what moves and what comes into sight.

A future frame is the last one, warped by a flow that is predicted (Liu et al., "Video frame synthesis using deep voxel
flow", arXiv 1702.02463), with new pixels painted where a predicted mask says so (Vondrick et al., "Generating videos
with scene dynamics", arXiv 1609.02612). How the maps of two past frames match each other (the correlation layer of
FlowNet, arXiv 1504.06852) is given to the decoder: it says from the first step on what has moved where to, which a net
left to find it by itself learns after it has learned to blur.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mmssl.nn.blocks import group_norm

MASK_BIAS = -3.0  # at the start a twentieth is painted: the prediction begins as a copy of the last frame


class Parts(NamedTuple):
    """What a future frame is made of; K steps."""

    flow: torch.Tensor  # float32 [B, K, 2, H, W], (x, y) in pixels: where in the last frame each pixel comes from
    mask: torch.Tensor  # float32 [B, K, 1, H, W] in [0, 1], how much is painted
    paint: torch.Tensor  # float32 [B, K, 3, H, W] in [0, 1]


class Matching(nn.Module):
    """Where each cell of a map was in an earlier one: correlations over a window, and the displacement they speak for.

    Args:
        reach: largest displacement in cells.
    """

    def __init__(self, reach: int = 3) -> None:
        super().__init__()
        self.reach = reach
        self.width = (2 * reach + 1) ** 2
        self.sharpness = nn.Parameter(torch.tensor(math.log(10.0)))
        along = torch.arange(-reach, reach + 1).float()
        shifts = torch.stack([along.repeat(len(along)), along.repeat_interleave(len(along))])
        self.register_buffer("shifts", shifts, persistent=False)
        self.shifts: torch.Tensor  # [2, width], (x, y)

    def forward(self, now: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Float32 [B, 2, h, w], (x, y) in cells, and float32 [B, width, h, w] in [-1, 1], of maps [B, C, h, w].

        Where all places look alike (or the maps are constant) the displacement is 0.
        """
        with torch.autocast(now.device.type, enabled=False):
            # What all places have in common matches everywhere.
            now, before = (
                functional.normalize(x.float() - x.float().mean(dim=(2, 3), keepdim=True), dim=1, eps=1e-3)
                for x in (now, before)
            )
            height, width = now.shape[-2:]
            padded = functional.pad(before, (self.reach,) * 4)
            matches = torch.stack(
                [
                    (now * padded[..., y : y + height, x : x + width]).sum(dim=1)
                    for y in range(2 * self.reach + 1)
                    for x in range(2 * self.reach + 1)
                ],
                dim=1,
            )
            chosen = (matches * self.sharpness.exp()).softmax(dim=1)
            return torch.einsum("bshw,ds->bdhw", chosen, self.shifts), matches


class FutureDecoder(nn.Module):
    """Codes [B, K, C, h, w] of future frames -> `Parts`, by way of the last frame's maps at finer strides.

    Args:
        width: C.
        stride: pixels a cell of the codes.
        matches: channels of the matching's correlations.
        skips: channels of the last frame's maps, by stride; those finer than `stride` are used.
    """

    def __init__(self, width: int, stride: int, matches: int, skips: Mapping[int, int]) -> None:
        super().__init__()
        self.strides = sorted((s for s in skips if s < stride), reverse=True)
        self.finest = self.strides[-1] if self.strides else stride
        self.enter = nn.ModuleDict(
            {
                str(s): nn.Sequential(nn.GroupNorm(1, skips[s]), nn.Conv2d(skips[s], width, 3, padding=1))
                for s in self.strides
            }
        )
        self.blocks = nn.ModuleDict(
            {
                str(s): nn.Sequential(group_norm(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
                for s in self.strides
            }
        )
        self.match = nn.Conv2d(2 + matches, width, 3, padding=1)
        # The straight way: a velocity in pixels to a velocity in pixels.
        self.carry_on = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        nn.init.zeros_(self.carry_on.weight)
        self.norm = group_norm(width)
        self.out = nn.Conv2d(width, 3 + 3 * self.finest**2, 1)
        with torch.no_grad():
            self.out.weight[:3] = 0.0
            assert self.out.bias is not None
            self.out.bias[:2], self.out.bias[2] = 0.0, MASK_BIAS

    def forward(
        self,
        codes: torch.Tensor,
        content: Mapping[int, torch.Tensor],
        velocity: torch.Tensor,
        matches: torch.Tensor,
        size: tuple[int, int],
    ) -> Parts:
        """Decode.

        Args:
            codes: [B, K, C, h, w].
            content: [B, C', h', w'] by stride: the maps of the last frame.
            velocity: float32 [B, 2, h', w'], (x, y) where the last frame's pixels came from, in pixels a frame.
            matches: float32 [B, matches, h', w'], the correlations behind it.
            size: (height, width) of the pictures.
        """
        rows, steps = codes.shape[:2]
        x = codes.flatten(0, 1)
        for stride in self.strides:
            skip = self.enter[str(stride)](content[stride])
            x = functional.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = (x.unflatten(0, (rows, steps)) + skip[:, None]).flatten(0, 1)
            x = x + self.blocks[str(stride)](x)
        seen = self.match(torch.cat([velocity, matches], dim=1))
        seen = functional.interpolate(seen, size=x.shape[-2:], mode="bilinear", align_corners=False)
        x = (x.unflatten(0, (rows, steps)) + seen[:, None]).flatten(0, 1)
        made = self.out(torch.relu(self.norm(x))).float()
        coarse = functional.interpolate(made[:, :3], size=size, mode="bilinear", align_corners=False)
        paint = functional.pixel_shuffle(made[:, 3:], self.finest)
        if paint.shape[-2:] != size:
            paint = functional.interpolate(paint, size=size, mode="bilinear", align_corners=False)
        carried = functional.interpolate(
            self.carry_on(velocity).float(), size=size, mode="bilinear", align_corners=False
        )
        coarse, paint = (part.unflatten(0, (rows, steps)) for part in (coarse, paint))
        # What moves goes on moving: the flow is a velocity times the time since the last frame.
        since = torch.arange(1, steps + 1, device=codes.device)[:, None, None, None]
        flow = (coarse[:, :, :2] + carried[:, None]) * since
        return Parts(flow=flow, mask=torch.sigmoid(coarse[:, :, 2:]), paint=torch.sigmoid(paint))


def warp(frame: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """A frame as seen from where its pixels come from, bilinearly; beyond the edge the edge is repeated.

    Args:
        frame: float32 [B, C, H, W].
        flow: float32 [B, K, 2, H, W], (x, y) in pixels.

    Returns:
        Float32 [B, K, C, H, W]; pixel (x, y) of step k is the frame's at ``(x, y) + flow[k, :, y, x]``.
    """
    steps, (height, width) = flow.shape[1], frame.shape[-2:]
    with torch.autocast(frame.device.type, enabled=False):
        x = torch.arange(width, device=frame.device) + flow[:, :, 0]
        y = torch.arange(height, device=frame.device)[:, None] + flow[:, :, 1]
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
        # One tall grid a clip: the frame is not copied for every step.
        taken = functional.grid_sample(
            frame.float(), grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False
        )
        return torch.as_tensor(taken.unflatten(2, (steps, height)).transpose(1, 2))


def compose(last: torch.Tensor, parts: Parts) -> torch.Tensor:
    """Float32 [B, K, 3, H, W]: the future frames, from the last frame [B, 3, H, W] in [0, 1]."""
    return torch.lerp(warp(last, parts.flow), parts.paint, parts.mask)
