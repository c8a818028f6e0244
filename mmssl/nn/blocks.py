"""Residual blocks of the small encoders, for pictures (2-D) and clips (3-D) alike.

Pre-activation residual blocks (He et al., "Identity mappings in deep residual networks", arXiv 1603.05027) with
GroupNorm (arXiv 1803.08494): no statistics across the batch, so none of a batch's other rows can leak an answer.
Their convolutions have standardised weights (Qiao et al., "Micro-batch training with batch-channel normalization and
weight standardization", arXiv 1903.10520): a filter of zero mean answers to contrast and not to the plain background,
which else fills the groups' statistics. It gives GroupNorm the speed of BatchNorm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with groups of 16 channels, or one group where that does not divide."""
    return nn.GroupNorm(channels // 16 if channels % 16 == 0 else 1, channels)


def standardised(weight: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Filters [outputs, ...] of zero mean and, before `gain` [outputs, 1, ...], of unit length; in float32."""
    with torch.autocast(weight.device.type, enabled=False):
        filters = weight.float().flatten(1)
        centred = filters - filters.mean(dim=1, keepdim=True)
        unit = centred * torch.rsqrt(centred.square().sum(dim=1, keepdim=True) + 1e-6)
        return torch.as_tensor(unit.reshape(weight.shape) * gain)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with standardised weights and a gain for each output."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The gain of a ReLU network: variance is kept over the layers.
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 2.0**0.5))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve [B, C, H, W]."""
        return torch.as_tensor(self._conv_forward(input, standardised(self.weight, self.gain), self.bias))


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` with standardised weights, whose bfloat16 gradient on the CPU can be trusted.

    oneDNN 3.12 (torch 2.14, AVX512-BF16) reads memory that it has not written when it makes the weight gradient of a
    clip with fewer frames than the kernel spans, and more than one: the gradient is noise up to 1e35, another in every
    run. Such small clips are convolved in float32.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1, 1), 2.0**0.5))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve [B, C, T, H, W]."""
        weight = standardised(self.weight, self.gain)
        frames = input.shape[2]
        if 1 < frames < self.kernel_size[0] and input.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return torch.as_tensor(self._conv_forward(input.float(), weight, self.bias))
        return torch.as_tensor(self._conv_forward(input, weight, self.bias))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, [B, C, ...] -> [B, C', ...].

    Args:
        inputs, outputs: channels.
        kernels: kernel size of each convolution, e.g. ``((1, 3, 3), (3, 1, 1))`` for a (2+1)-D block.
        stride: stride of the block.
    """

    def __init__(
        self, inputs: int, outputs: int, kernels: tuple[tuple[int, ...], tuple[int, ...]], stride: tuple[int, ...]
    ) -> None:
        super().__init__()
        three_d = len(stride) == 3
        convolution: Any = Conv3d if three_d else Conv2d
        first, second = kernels
        self.norm_1 = group_norm(inputs)
        self.conv_1 = convolution(inputs, outputs, first, stride, tuple(k // 2 for k in first), bias=False)
        self.norm_2 = group_norm(outputs)
        self.conv_2 = convolution(outputs, outputs, second, 1, tuple(k // 2 for k in second), bias=False)
        # A strided 1 x 1 convolution: pooling a channels-last clip costs more on a CPU than the block's convolutions.
        self.shortcut: nn.Module = nn.Identity()
        if max(stride) > 1 or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        y = self.conv_1(torch.relu(self.norm_1(x)))
        y = self.conv_2(torch.relu(self.norm_2(y)))
        return torch.as_tensor(self.shortcut(x) + y)
