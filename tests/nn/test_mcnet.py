"""MCnet: what its memory is fed, over the past and of its own frames."""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.mcnet import MCNet

FRAMES, STEPS = 5, 4


def network_of(seed: int = 0) -> MCNet:
    torch.manual_seed(seed)
    return MCNet(6, 16, 16, FRAMES, STEPS)


def fed(network: MCNet, motion: torch.Tensor, content: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The codes of the future, and what the memory was fed: first the past's differences, then the future's."""
    found: list[torch.Tensor] = []
    watch = network.memory.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0]))
    with watch, torch.no_grad():
        return network(motion, content), found


def test_a_film_that_stands_still_feeds_nothing() -> None:
    """No change in the past, none made: the memory is fed zeros from the first step to the last."""
    network = network_of()
    for last in (network.combine[-1], network.residual):
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    motion, content = torch.randn(2, 6, 1, 4, 3).expand(-1, -1, FRAMES, -1, -1), torch.randn(2, 16, 4, 3)
    made, inputs = fed(network, motion, content)
    assert len(inputs) >= FRAMES - 1 + STEPS - 1
    assert all(not x.any() for x in inputs)
    with torch.no_grad():
        torch.testing.assert_close(made, network.content(content)[:, None].expand_as(made))


def test_made_changes_are_read_as_those_of_the_past_are() -> None:
    """What is fed back is the change from frame to frame, the first of them from the content, by the same encoder."""
    network = network_of()
    motion, content = torch.randn(2, 6, FRAMES, 4, 3), torch.randn(2, 16, 4, 3)
    made, inputs = fed(network, motion, content)
    with torch.no_grad():
        frames = [network.content(content), *made.unbind(dim=1)]
        for step in range(STEPS - 1):
            wanted = network.motion(network.feedback(frames[step + 1] - frames[step]))
            torch.testing.assert_close(inputs[FRAMES - 1 + step], wanted, atol=1e-5, rtol=1e-4)


def test_many_steps_do_not_blow_up() -> None:
    """Frames that grow do not make their changes grow: after 200 steps with large weights these are no larger."""
    network = network_of()
    network.steps = 200
    with torch.no_grad():
        network.residual.weight.mul_(10)
    made, _ = fed(network, torch.randn(2, 6, FRAMES, 4, 3), torch.randn(2, 16, 4, 3))
    sizes = made.diff(dim=1).square().mean(dim=(0, 2, 3, 4)).sqrt()
    assert float(sizes[-1]) < 2 * float(sizes[0])
