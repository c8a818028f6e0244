"""An encoder with a linear layer on top, and its answers to evenly spread views and crops of clips.

Several views in time and crops along the longer side of each: arXiv 1711.07971, arXiv 1812.03982.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mmssl.evaluation.crops import even_crops
from mmssl.evaluation.footage import Footage
from mmssl.nn.features import Features


class Pooled(nn.Module):
    """What an encoder gives for a whole clip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Features) -> torch.Tensor:
        """[B, D]."""
        pooled: torch.Tensor = features.pooled
        return pooled


class Classifier(nn.Module):
    """An encoder of clips, what is taken from its features, and a linear layer: frames -> logits.

    Args:
        encoder: of modality video, or image (the vectors of a view's frames are averaged).
        classes: C.
        start: from `Features` to a vector of `start.width`; the pooled vector unless given.
        seed: of the linear layer's weights, normal with a spread of 0.01.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, encoder: nn.Module, classes: int, start: nn.Module | None = None, seed: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.modality = str(encoder.modality)
        self.start = start if start is not None else Pooled(int(encoder.width))  # type: ignore[arg-type]
        width = int(self.start.width)  # type: ignore[arg-type]
        self.linear = nn.Linear(width, classes)
        with torch.no_grad():
            drawn = torch.randn(classes, width, generator=torch.Generator().manual_seed(seed))
            self.linear.weight.copy_(0.01 * drawn)
            self.linear.bias.zero_()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(()))

    def vectors(self, frames: torch.Tensor) -> torch.Tensor:
        """Float [B, D] of frames [B, T, 3, H, W] in [0, 1], before the linear layer."""
        if self.modality == "image":
            rows, count = frames.shape[:2]
            made = self.start(self.encoder(frames.flatten(0, 1)))
            return torch.as_tensor(made).float().reshape(rows, count, -1).mean(dim=1)
        return torch.as_tensor(self.start(self.encoder(frames.transpose(1, 2)))).float()

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Float logits [B, C]."""
        return torch.as_tensor(self.linear((self.vectors(frames) - self.mean) / self.spread)).float()

    @torch.no_grad()
    def standardise(self, vectors: torch.Tensor) -> None:
        """Take the mean of vectors [N, D] off from now on, and divide by their spread over all dimensions.

        So one learning rate means about the same to encoders whose vectors are large and small. The spread is one
        number: a dimension that hardly moves before training is not blown up.
        """
        self.mean.copy_(vectors.mean(dim=0))
        spread = (vectors - self.mean).square().mean().sqrt()
        self.spread.copy_(spread if float(spread) > 1e-8 else torch.ones(()))

    def parts(self) -> list[nn.Module]:
        """First to last, for `layerwise_groups`."""
        return [self.encoder, self.start, self.linear]


@dataclass(frozen=True)
class Machine:
    """Where and in which numbers classifiers run."""

    device: torch.device
    bfloat16: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Context of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


def frozen_vectors(
    model: Classifier, footage: Footage, rows: np.ndarray, *, views: int, machine: Machine, batch_size: int = 16
) -> np.ndarray:
    """Float32 [n, V, D]: what stands before the linear layer, of evenly spread views and the middle crop."""
    return _over_views(model.to(machine.device).vectors, model, footage, rows, views, 1, machine, batch_size)


def predict(
    model: Classifier,
    footage: Footage,
    rows: np.ndarray,
    *,
    views: int,
    crops: int,
    machine: Machine,
    batch_size: int = 16,
) -> np.ndarray:
    """Float64 [n, V * K, C]: probabilities of every view and crop of the clips `rows`, in their order."""

    def probabilities(frames: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(model(frames)).double().softmax(dim=1)

    return _over_views(probabilities, model, footage, rows, views, crops, machine, batch_size)


@torch.inference_mode()
def _over_views(
    function: Callable[[torch.Tensor], torch.Tensor],
    model: nn.Module,
    footage: Footage,
    rows: np.ndarray,
    views: int,
    crops: int,
    machine: Machine,
    batch_size: int,
) -> np.ndarray:
    model.eval()
    place_of = {row: place for place, row in enumerate(rows.tolist())}
    made: list[np.ndarray | None] = [None] * len(rows)
    for frames, some in footage.views(rows, views, batch_size):
        found = []
        for view in frames.to(machine.device).unbind(1):
            for crop in even_crops(view, crops):
                with machine.autocast():
                    found.append(function(crop.float() / 255.0))
        for row, values in zip(some.tolist(), torch.stack(found, dim=1).cpu().numpy(), strict=True):
            made[place_of[row]] = values
    return np.stack([values for values in made if values is not None])
