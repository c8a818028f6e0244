"""Blocks of the small encoders: standardised weights, and the gradient of short clips in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmssl.nn.blocks import Conv2d, Conv3d


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


@pytest.mark.parametrize(("ours", "plain"), [(Conv2d, nn.Conv2d), (Conv3d, nn.Conv3d)])
def test_weights_are_standardised_as_the_formula_says(ours: type[nn.Module], plain: type[nn.Module]) -> None:
    """Qiao et al., arXiv 1903.10520, in float64: mean 0 and variance 1 / fan-in for each output, times its gain."""
    torch.manual_seed(0)
    dimensions = 2 if ours is Conv2d else 3
    layer, reference = ours(4, 6, 3, 1, 1), plain(4, 6, 3, 1, 1).double()
    with torch.no_grad():
        layer.gain.uniform_(0.5, 2.0)
        weight = layer.weight.double().flatten(1)
        centred = weight - weight.mean(dim=1, keepdim=True)
        unit = centred / (centred.var(dim=1, unbiased=False, keepdim=True) * weight.shape[1]).sqrt()
        reference.weight.copy_((unit * layer.gain.double().flatten(1)).reshape(layer.weight.shape))
        reference.bias.copy_(layer.bias)
        x = torch.randn(2, 4, *(5,) * dimensions)
        torch.testing.assert_close(layer(x).double(), reference(x.double()), atol=1e-4, rtol=1e-4)
        even = torch.full_like(x, 0.7)  # a plain background says nothing
        inside = (slice(None), slice(None), *(slice(1, -1),) * dimensions)
        torch.testing.assert_close(
            layer(even)[inside], layer.bias.reshape(1, -1, *(1,) * dimensions).expand_as(layer(even)[inside])
        )
