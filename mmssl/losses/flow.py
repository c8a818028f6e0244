"""Loss of a sequence of flow estimates: later ones count more (RAFT, arXiv 2003.12039)."""

from __future__ import annotations

import torch


def sequence_l1(
    flows: torch.Tensor, truth: torch.Tensor, known: torch.Tensor, gamma: float = 0.8, most: float = 400.0
) -> torch.Tensor:
    """Float32 [N]: sum over estimates k of ``gamma ** (K - 1 - k)`` times the mean absolute error of row n.

    Args:
        flows: float [K, N, 2, H, W], the estimates in their order.
        truth: float [N, 2, H, W].
        known: bool [N, H, W]; the mean is over the known pixels and both components, 0 in a row without any.
        gamma: weight of an estimate over that of the next one.
        most: pixels whose true flow is longer than this take no part.
    """
    counted = known & (torch.linalg.vector_norm(truth.float(), dim=1) < most)
    error = (flows.float() - truth.float()).abs().mean(dim=2)  # [K, N, H, W]
    error = torch.where(counted, error, torch.zeros_like(error)).flatten(2).sum(dim=2)
    error = error / counted.flatten(1).sum(dim=1).clamp(min=1)
    powers = torch.arange(len(flows) - 1, -1, -1, device=flows.device, dtype=torch.float32)
    weight = torch.full_like(powers, gamma).pow(powers)
    return torch.as_tensor((error * weight[:, None]).sum(dim=0))
