"""Networks that predict codes of the future, and how a future frame is put together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmssl.nn.conv_lstm import ConvLSTM
from mmssl.nn.future import FutureDecoder, Matching, Parts, compose, warp
from mmssl.nn.mcnet import MCNet
from mmssl.nn.simvp import SimVP

NETWORKS: list[type[nn.Module]] = [SimVP, MCNet, ConvLSTM]


@pytest.mark.parametrize("kind", NETWORKS)
def test_codes_of_any_number_of_steps(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = kind(6, 16, 16, 5, 7)
    motion, content = torch.randn(2, 6, 5, 4, 3), torch.randn(2, 16, 4, 3)
    made = network(motion, content)
    assert made.shape == (2, 7, 16, 4, 3)
    torch.testing.assert_close(network(motion[1:], content[1:]), made[1:])  # each clip by itself
    torch.testing.assert_close(network(motion, content), made)  # nothing is kept from call to call
    made.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_order_of_the_past_matters(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = kind(6, 16, 16, 5, 2)
    motion, content = torch.randn(2, 6, 5, 4, 3), torch.randn(2, 16, 4, 3)
    assert not torch.allclose(network(motion.flip(2), content), network(motion, content), atol=1e-4)


def test_mcnet_reads_differences_alone() -> None:
    """The same constant on the maps of all past frames changes no future."""
    torch.manual_seed(0)
    network = MCNet(6, 16, 16, 5, 3)
    motion, content = torch.randn(2, 6, 5, 4, 3), torch.randn(2, 16, 4, 3)
    torch.testing.assert_close(network(motion + 0.7, content), network(motion, content), atol=1e-5, rtol=1e-5)


def test_warp_takes_pixels_from_where_the_flow_points() -> None:
    frame = torch.rand(2, 3, 6, 8)
    flow = torch.zeros(2, 2, 2, 6, 8)
    flow[:, 1, 0], flow[:, 1, 1] = 2.0, -1.0  # x + 2, y - 1
    made = warp(frame, flow)
    torch.testing.assert_close(made[:, 0], frame, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made[:, 1, :, 1:, :6], frame[:, :, :5, 2:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made[:, 1, :, 1:, 7], frame[:, :, :5, 7], atol=1e-5, rtol=1e-5)  # the edge again
    half = torch.zeros(2, 1, 2, 6, 8)
    half[:, :, 0] = 0.5
    torch.testing.assert_close(
        warp(frame, half)[:, 0, :, :, :-1], (frame[..., :-1] + frame[..., 1:]) / 2, atol=1e-5, rtol=1e-5
    )


def test_matching_finds_where_things_were() -> None:
    torch.manual_seed(0)
    before = torch.randn(2, 32, 12, 12)
    now = before.roll((2, -1), dims=(2, 3))  # down by 2, left by 1
    displacement, matches = Matching()(now, before)
    inner = displacement[..., 3:-3, 3:-3]
    wanted = torch.tensor([1.0, -2.0])[:, None, None].expand_as(inner)  # it was to the right, and above
    torch.testing.assert_close(inner, wanted, atol=0.1, rtol=0)
    assert float(matches.abs().max()) <= 1.0 + 1e-5
    still, _ = Matching()(torch.ones(2, 32, 12, 12), torch.ones(2, 32, 12, 12))
    assert float(still.detach().abs().max()) < 1e-6


def test_what_is_painted_and_what_is_warped() -> None:
    last, paint = torch.rand(1, 3, 4, 4), torch.rand(1, 1, 3, 4, 4)
    mask = torch.zeros(1, 1, 1, 4, 4)
    mask[..., :2, :] = 1.0
    made = compose(last, Parts(torch.zeros(1, 1, 2, 4, 4), mask, paint))
    torch.testing.assert_close(made[..., :2, :], paint[..., :2, :])
    torch.testing.assert_close(made[:, 0, :, 2:], last[:, :, 2:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 48), (30, 45)])
def test_the_decoder_begins_with_a_copy_of_the_last_frame(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    decoder = FutureDecoder(16, 8, 49, {4: 5, 8: 6, 16: 7})
    content = {s: torch.randn(2, c, -(-size[0] // s), -(-size[1] // s)) for s, c in ((4, 5), (8, 6), (16, 7))}
    place = content[4].shape[-2:]
    codes = torch.randn(2, 3, 16, *content[8].shape[-2:])
    parts = decoder(codes, content, torch.randn(2, 2, *place), torch.randn(2, 49, *place), size)
    assert parts.paint.shape == (2, 3, 3, *size)
    assert parts.mask.shape == (2, 3, 1, *size)
    assert not parts.flow.any()
    assert float(parts.mask.max()) < 0.06
