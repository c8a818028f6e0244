"""What heads that sort frames or clips need: features that keep where things are, and the classifier over pairs.

Pairs of presented slots through a shared layer and all pairs together through a classifier: Lee et al., "Unsupervised
representation learning by sorting sequences", ICCV 2017, arXiv 1708.01246.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mmssl.nn.features import Features
from mmssl.ops.permutations import slot_pairs


class PlacedFeature(nn.Module):
    """One vector of a picture or of a clip: its pooled vector and its map on a coarse grid, through a dense layer.

    A pooled vector alone loses where things are, and the order of a motion is about where.

    Args:
        encoder: of pictures or of clips; its level widths and strides are read, it is not kept.
        side: side of the pictures in pixels; the map is the coarsest with two cells for each of the grid's, or the
            finest there is.
        width: of the vector.
        grid: cells a side.
        steps: parts in time; 0 for pictures.
    """

    def __init__(self, encoder: Any, side: int, width: int, grid: int = 8, steps: int = 0) -> None:
        super().__init__()
        enough = [stride for stride in encoder.strides if side >= 2 * grid * stride]
        self.stride = max(enough, default=min(encoder.strides))
        self.grid, self.steps = grid, steps
        entering = encoder.level_widths[self.stride]
        squeezed = max(8, width // 8)
        conv = nn.Conv3d if steps else nn.Conv2d
        # One group: levels of any width come in, before their last normalisation.
        self.squeeze = nn.Sequential(nn.GroupNorm(1, entering), nn.ReLU(), conv(entering, squeezed, 1))
        self.join = nn.Linear(encoder.width + squeezed * max(steps, 1) * grid * grid, width)

    def forward(self, features: Features) -> torch.Tensor:
        """Float [N, width] of features of N pictures or clips."""
        level = self.squeeze(features.levels[self.stride])
        if self.steps:
            cells = functional.adaptive_avg_pool3d(level, (self.steps, self.grid, self.grid))
        else:
            cells = functional.adaptive_avg_pool2d(level, self.grid)
        return torch.as_tensor(self.join(torch.cat([features.pooled, cells.flatten(1)], dim=1)))


def without_common(parts: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """Vectors [B, n, width] less what the n parts of a clip have in common, normalised.

    The common part says nothing of the order and would drown what does. Only for where every order shows all parts:
    their mean tells of those that are not shown.
    """
    return torch.as_tensor(norm(parts - parts.mean(dim=1, keepdim=True)))


def about_the_ends(parts: torch.Tensor) -> torch.Tensor:
    """Vectors [B, n, width] about the middle of the first two, which are the ends, in units of half their distance.

    Float32. The ends come out opposite and of length 1 a channel (root mean square); what lies between them is short.
    """
    with torch.autocast(parts.device.type, enabled=False):
        about = parts.float() - parts[:, :2].float().mean(dim=1, keepdim=True)
        size = about[:, 0].square().mean(dim=1).add(1e-6).sqrt()
        return torch.as_tensor(about / size[:, None, None])


class OrderClassifier(nn.Module):
    """Classes of the orders in which n parts of a clip are shown in n slots.

    The shared layer sees two parts and their absolute difference. The classifier on the concatenated pairs is a sum
    over pairs of slots, so it is taken once for every two parts in every pair of slots, and each shown order picks its
    terms: a further order costs next to nothing.

    Args:
        parts: n.
        classes: of orders.
        width: of a part and of a pair.
        dropout: share of the pair features dropped in training.
    """

    def __init__(self, parts: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("pairs", slot_pairs(parts), persistent=False)
        self.pairs: torch.Tensor
        self.classes = classes
        self.norm = nn.LayerNorm(width)
        # The pair layer on two concatenated parts, as its two halves.
        self.earlier = nn.Linear(width, width)
        self.later = nn.Linear(width, width, bias=False)
        self.between = nn.Linear(width, width, bias=False)
        self.drop = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, len(self.pairs) * classes)

    def forward(self, parts: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Float32 logits [B, K, classes].

        Args:
            parts: float [B, n, width], in the order of time.
            order: int64 [B, K, n], which part each slot shows.
        """
        clips, count = parts.shape[:2]
        parts = without_common(parts, self.norm)
        between = self.between((parts[:, :, None] - parts[:, None, :]).abs())
        pairs = self.earlier(parts)[:, :, None] + self.later(parts)[:, None, :] + between
        pairs = self.drop(torch.relu(pairs))
        terms = self.classifier(pairs).float().reshape(clips, -1, self.classes)  # [B, n * n * pairs, classes]
        first, second = order[..., self.pairs[:, 0]], order[..., self.pairs[:, 1]]  # [B, K, pairs]
        place = (first * count + second) * len(self.pairs) + torch.arange(len(self.pairs), device=first.device)
        picked = terms.gather(1, place.flatten(1)[..., None].expand(-1, -1, self.classes))
        return torch.as_tensor(picked.reshape(clips, order.shape[1], len(self.pairs), self.classes).sum(dim=2))
