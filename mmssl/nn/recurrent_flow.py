"""Flow by correlation and recurrent updates: RAFT (arXiv 2003.12039), scaled to small pictures.

All pairs of places of two feature maps are compared once; a recurrent cell looks up that table around where its
estimate leads, and corrects the estimate, several times over. Differences from RAFT-small: the features are an
encoder's two finest maps (stride 4 instead of 8, two levels of the table instead of four, as small pictures move
little), normalised over each picture; the first estimate is not zero but what the table says, the mean place by
likeness (as in GMFlow, arXiv 2111.13680, here among near places), so that features learn to match from the first step;
and flow is brought to full size by the convex combinations of the large RAFT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

Levels = Mapping[int, torch.Tensor]


class RecurrentFlow(nn.Module):
    """Feature maps of two frames -> estimates of the flow between them, each better than the one before.

    Args:
        widths: channels of the encoder's maps by stride; the two finest are read.
        features: channels that are compared.
        hidden: channels of the recurrent state, and of what it is given of the first frame.
        iterations: updates.
        radius: cells to each side of the estimate that are looked up.
        levels: resolutions of the table.
    """

    def __init__(
        self,
        widths: Mapping[int, int],
        features: int = 64,
        hidden: int = 48,
        iterations: int = 4,
        radius: int = 3,
        levels: int = 2,
    ) -> None:
        super().__init__()
        self.strides = sorted(widths)[:2]
        self.stride = self.strides[0]
        self.iterations, self.radius, self.levels, self.hidden = iterations, radius, levels, hidden
        read = sum(widths[stride] for stride in self.strides)
        self.compare = nn.Conv2d(read, features, 1)
        self.context = nn.Conv2d(read, 2 * hidden, 3, padding=1)
        self.seen = nn.Conv2d(levels * (2 * radius + 1) ** 2, 64, 1)
        self.moved = nn.Conv2d(2, 32, 3, padding=1)
        self.motion = nn.Conv2d(96, hidden - 2, 3, padding=1)
        self.gates = nn.Conv2d(3 * hidden, 2 * hidden, 3, padding=1)
        self.candidate = nn.Conv2d(3 * hidden, hidden, 3, padding=1)
        self.correction = nn.Sequential(nn.Conv2d(hidden, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 2, 3, padding=1))
        self.blend = nn.Sequential(nn.Conv2d(hidden, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 9 * self.stride**2, 1))

    def forward(self, first: Levels, second: Levels) -> torch.Tensor:
        """Float32 [1 + iterations, N, 2, H, W], pixels; H and W are the maps' sides times the finest stride."""
        one, two = self._read(first), self._read(second)
        table = self._table(self._compared(one), self._compared(two))
        state, given = self.context(one).split(self.hidden, dim=1)
        state, given = torch.tanh(state), torch.relu(given)
        flow = self._matched(table, one)  # in cells of the finest map
        found = [self.stride * F.interpolate(flow, scale_factor=self.stride, mode="bilinear", align_corners=False)]
        for _ in range(self.iterations):
            flow = flow.detach()
            seen = torch.relu(self.seen(self._look_up(table, flow)))
            moved = torch.relu(self.moved(flow))
            motion = torch.cat([torch.relu(self.motion(torch.cat([seen, moved], dim=1))), flow], dim=1)
            state = self._update(state, torch.cat([given, motion], dim=1))
            flow = flow + self.correction(state).float()
            found.append(self._full_size(flow, self.blend(state)))
        return torch.stack(found)

    def _read(self, levels: Levels) -> torch.Tensor:
        fine, coarse = (levels[stride] for stride in self.strides)
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.relu(torch.cat([fine, coarse.to(fine.dtype)], dim=1))

    def _compared(self, read: torch.Tensor) -> torch.Tensor:
        """Features of zero mean and unit spread over each picture: what all places share would hide what tells them
        apart, as every likeness were nearly the same.
        """
        found = self.compare(read).float()
        centred = found - found.mean(dim=(2, 3), keepdim=True)
        unit: torch.Tensor = centred * torch.rsqrt(centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5)
        return unit

    def _table(self, one: torch.Tensor, two: torch.Tensor) -> list[torch.Tensor]:
        """Likeness of every place of the first map to every place of the second: [N h w, 1, h', w'] by resolution."""
        rows, channels, height, width = one.shape
        with torch.autocast(one.device.type, enabled=False):  # rounded to bfloat16, near places were all alike
            likeness = one.flatten(2).transpose(1, 2) @ two.flatten(2) / channels**0.5
        levels = [likeness.reshape(rows * height * width, 1, height, width)]
        for _ in range(self.levels - 1):
            levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True))
        return levels

    def _matched(self, table: Sequence[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
        """The first estimate: the mean of the places around, each weighted by its likeness (softmax)."""
        rows, _, height, width = like.shape
        side = 2 * self.radius + 1
        seen = self._look_up(table[:1], torch.zeros(rows, 2, height, width, device=like.device))
        share = seen.softmax(dim=1).view(rows, side, side, height, width)
        steps = torch.arange(-self.radius, self.radius + 1, device=like.device, dtype=share.dtype)
        x, y = share.sum(dim=1), share.sum(dim=2)  # [N, side, h, w]
        return torch.stack([(part * steps[:, None, None]).sum(dim=1) for part in (x, y)], dim=1)

    def _look_up(self, table: Sequence[torch.Tensor], flow: torch.Tensor) -> torch.Tensor:
        """[N, levels (2 r + 1)^2, h, w]: the table around the places that flow leads to."""
        rows, _, height, width = flow.shape
        y, x = torch.meshgrid(
            torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
        )
        places = torch.stack([x, y]) + flow  # [N, 2, h, w]
        places = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        steps = torch.arange(-self.radius, self.radius + 1, device=flow.device, dtype=flow.dtype)
        around = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
        found = []
        for number, level in enumerate(table):
            # A cell of a coarser level has its middle between the cells that it is the mean of.
            at = (places + 0.5) / 2**number - 0.5 + around
            sides = torch.tensor([level.shape[-1], level.shape[-2]], device=flow.device)
            grid = (2 * at + 1) / sides - 1
            seen = F.grid_sample(level, grid, mode="bilinear", align_corners=False)
            found.append(seen.reshape(rows, height, width, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2).contiguous()

    def _update(self, state: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        keep, use = torch.sigmoid(self.gates(torch.cat([state, given], dim=1))).split(self.hidden, dim=1)
        new = torch.tanh(self.candidate(torch.cat([use * state, given], dim=1)))
        updated: torch.Tensor = state + keep * (new - state)
        return updated

    def _full_size(self, flow: torch.Tensor, blend: torch.Tensor) -> torch.Tensor:
        """Each pixel's flow is a convex combination of the nine cells around it."""
        rows, _, height, width = flow.shape
        side = self.stride
        share = (0.25 * blend.float()).view(rows, 1, 9, side, side, height, width).softmax(dim=2)
        padded = F.pad(side * flow, (1, 1, 1, 1), mode="replicate")
        around = F.unfold(padded, 3).view(rows, 2, 9, 1, 1, height, width)
        full = (share * around).sum(dim=2)  # [N, 2, s, s, h, w]
        return full.permute(0, 1, 4, 2, 5, 3).reshape(rows, 2, side * height, side * width)
