"""Gradient difference loss: a predicted picture must be as sharp as the true one, at the same places (Mathieu, Couprie,
LeCun, "Deep multi-scale video prediction beyond mean square error", arXiv 1511.05440; used by MCnet, 1706.08033).
"""

from __future__ import annotations

import torch

from mmssl.losses.precision import in_float32


@in_float32
def gradient_difference(made: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """How unlike the steps between neighbouring pixels are in size.

    Args:
        made: float [..., C, H, W].
        true: float [..., C, H, W].

    Returns:
        [...]: mean of ``| |step of true| - |step of made| |`` over the steps down, plus the same over those across.
    """
    down, across = (
        (true.diff(dim=dim).abs() - made.diff(dim=dim).abs()).abs().mean(dim=(-3, -2, -1)) for dim in (-2, -1)
    )
    return down + across
