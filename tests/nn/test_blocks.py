"""Blocks of the small encoders: the gradient of short clips in bfloat16."""

from __future__ import annotations

import pytest
import torch

from mmssl.nn.blocks import Conv3d


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("kernel", [(3, 1, 1), (3, 3, 3), (5, 1, 1)])
def test_bfloat16_weight_gradient_of_short_clips_is_that_of_float32(frames: int, kernel: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    layer = Conv3d(32, 32, kernel, 1, tuple(k // 2 for k in kernel), bias=False)
    clips = torch.randn(4, 32, frames, 4, 4).bfloat16().float().contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.bfloat16())
    wanted = torch.autograd.grad(layer(clips).square().sum(), layer.weight)[0]
    for _ in range(4):
        dirt = torch.full((200_000,), 1e30)  # what unwritten memory may hold
        del dirt
        with torch.autocast("cpu", torch.bfloat16):
            made = layer(clips)
        found = torch.autograd.grad(made.float().square().sum(), layer.weight)[0]
        assert float((found - wanted).abs().max()) < 0.02 * float(wanted.abs().max())
