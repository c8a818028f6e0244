"""Signs of collapsed features: standard deviation, effective rank, singular-value spectrum.

Effective rank is RankMe (Garrido et al., ICML 2023, arXiv 2210.02885): exp of the entropy of the normalised
singular values. A loss can look well while features are constant; these numbers cannot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

#: Fewer samples than this many times the dimension bound the rank from above, whatever the features are.
SAMPLES_PER_DIMENSION = 4


@dataclass(frozen=True)
class Collapse:
    """What `measure_collapse` gives.

    Args:
        std: mean over dimensions of the standard deviation of unit-length features, over 1/sqrt(D); 1 when spread
            evenly over the sphere, 0 when collapsed.
        rank: effective rank of the centred features, 1..D.
        rank_uncentred: effective rank with the mean left in; 1 when all features point one way.
        spectrum: float32 [min(N, D)], singular values of the centred features over the largest, descending.
        samples: N.
        width: D.
        warning: why the rank cannot be trusted, or empty.
    """

    std: float
    rank: float
    rank_uncentred: float
    spectrum: torch.Tensor
    samples: int
    width: int
    warning: str = ""


def feature_std(features: torch.Tensor) -> float:
    """Mean standard deviation of the dimensions of unit-length features, over 1/sqrt(D): 1 is healthy, 0 collapsed.

    Args:
        features: [N, D].
    """
    unit = torch.nn.functional.normalize(features.detach().double(), dim=1)
    return float(unit.std(dim=0, unbiased=False).mean() * math.sqrt(features.shape[1]))


def singular_values(features: torch.Tensor, centred: bool = True) -> torch.Tensor:
    """Float64 [min(N, D)], descending, of features [N, D], with the mean feature taken off if `centred`."""
    x = features.detach().double()
    if centred:
        x = x - x.mean(dim=0, keepdim=True)
    values: torch.Tensor = torch.linalg.svdvals(x)
    return values


def effective_rank(features: torch.Tensor, centred: bool = True) -> float:
    """RankMe of features [N, D]: exp of the entropy of the normalised singular values; 0 when all of them are zero.

    The original leaves the mean in; one strong common direction then hides what the others do, so both are given.
    """
    values = singular_values(features, centred)
    scale = features.detach().double().norm() * 1e-12
    values = torch.where(values > scale, values, torch.zeros_like(values))
    total = values.sum()
    if not float(total) > 0:
        return 0.0
    p = values / total
    return float(torch.exp(-(p * torch.log(p.clamp(min=1e-300))).sum()))


def measure_collapse(features: torch.Tensor) -> Collapse:
    """All of it for features [N, D], on any device and of any float type.

    Raises:
        ValueError: the features are not [N >= 2, D], or not finite.
    """
    if features.ndim != 2 or features.shape[0] < 2:
        raise ValueError(f"features must be [N >= 2, D], got {list(features.shape)}")
    if not bool(torch.isfinite(features).all()):
        bad = int((~torch.isfinite(features)).any(dim=1).sum())
        raise ValueError(f"{bad} of {len(features)} features are not finite")
    samples, width = features.shape
    values = singular_values(features)
    warning = ""
    if samples < SAMPLES_PER_DIMENSION * width:
        warning = (
            f"effective rank not reliable: {samples} samples for {width} dimensions, "
            f"{SAMPLES_PER_DIMENSION * width} are needed"
        )
    return Collapse(
        std=feature_std(features),
        rank=effective_rank(features),
        rank_uncentred=effective_rank(features, centred=False),
        spectrum=(values / values[0].clamp(min=1e-300)).float().cpu(),
        samples=samples,
        width=width,
        warning=warning,
    )
