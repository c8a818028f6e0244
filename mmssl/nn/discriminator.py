"""A judge of whole clips, for predictions that look like films and not like their mean: the adversarial term of MCnet
(Villegas et al., arXiv 1706.08033; the network is that of DCGAN, Radford, Metz, Chintala, arXiv 1511.06434).

The judge is shown all past frames with the future ones behind them as channels, true or predicted. Departures from
the published code: GroupNorm for BatchNorm, under which rows of a batch judge each other, and a map averaged to 4 x 4
places before the last layer, so that any size of picture goes in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from mmssl import distributed
from mmssl.losses.precision import in_float32
from mmssl.nn.blocks import group_norm

MARGIN = 0.3  # errors below it are too good to go on, errors above 1 - 0.3 too bad; cross-entropy in nats
PLACES = 4


class Discriminator(nn.Module):
    """How much a clip looks like a true one: a logit.

    Args:
        frames: past and future frames together.
        width: channels of the first of four layers; each has twice those of the one before.
    """

    def __init__(self, frames: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        entering = 3 * frames
        for depth in range(4):
            leaving = width * 2**depth
            layers.append(nn.Conv2d(entering, leaving, 5, stride=2, padding=2))
            if depth:
                layers.append(group_norm(leaving))
            layers.append(nn.LeakyReLU(0.2))
            entering = leaving
        self.layers = nn.Sequential(*layers)
        self.judge = nn.Linear(entering * PLACES**2, 1)

    def forward(self, past: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        """[B] of past [B, 3, T, H, W] and future [B, K, 3, H, W], both in [0, 1]."""
        film = torch.cat([past.transpose(1, 2), future], dim=1).flatten(1, 2) * 2 - 1
        places = functional.adaptive_avg_pool2d(self.layers(film), PLACES)
        logit: torch.Tensor = self.judge(places.flatten(1)).squeeze(1)
        return logit


def fixed(judge: Discriminator, past: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
    """[B], as `judge` says it; the gradient goes to the future alone and not into the judge."""
    parameters = {name: parameter.detach() for name, parameter in judge.named_parameters()}
    logit: torch.Tensor = functional_call(judge, parameters, (past, future))
    return logit


@in_float32
def judged(logits: torch.Tensor, true: bool) -> torch.Tensor:
    """[B]: cross-entropy, in nats, of logits [B] against "true" or "made"."""
    wanted = torch.ones_like(logits) if true else torch.zeros_like(logits)
    return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


class Turns(nn.Module):
    """Whose turn it is to learn: the judge pauses once it is too good, the maker once the judge is too bad.

    A pause lasts until the other is to pause as well; then both go on. As published, from the errors over a step's
    global batch; there measured again after the step, here those of the step itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("learning", torch.ones(2))
        self.learning: torch.Tensor  # float32 [2], 1 or 0: the judge, the maker

    @torch.no_grad()
    def update(self, carries: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """After a step, from the carries ("real", "made" and "weight", all gathered) of its micro-batches."""
        weight = torch.cat([carry["weight"] for carry in carries])
        if not bool((weight > 0).any()):
            return
        errors = [torch.cat([carry[name] for carry in carries]) for name in ("real", "made")]
        of_real, of_made = (float((error * weight).sum() / weight.sum()) for error in errors)
        judge, maker = (bool(learning) for learning in self.learning)
        judge = judge and min(of_real, of_made) >= MARGIN
        maker = maker and max(of_real, of_made) <= 1 - MARGIN
        both = not judge and not maker
        self.learning.copy_(torch.tensor([float(judge or both), float(maker or both)]))


def carried(real: torch.Tensor, made: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `Turns.update` needs of a batch: errors [B] on true and made clips and the clips' weight, of all ranks."""
    return {
        name: distributed.gather(values.detach().float())
        for name, values in (("real", real), ("made", made), ("weight", weight))
    }
