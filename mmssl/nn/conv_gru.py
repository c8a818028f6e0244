"""ConvGRU: a gated recurrent unit whose products are convolutions (Ballas et al., "Delving deeper into convolutional
networks for learning video representations", arXiv 1511.06432).
"""

from __future__ import annotations

import torch
from torch import nn


class ConvGRUCell(nn.Module):
    """``z, r = sigmoid(W [x, h])``, ``h' = (1 - z) h + z tanh(U [x, r h])``.

    Args:
        inputs: channels of what comes in.
        width: channels of the state.
        kernel: side of the convolutions; 1 keeps every place to itself.
    """

    def __init__(self, inputs: int, width: int, kernel: int = 1) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.Conv2d(inputs + width, 2 * width, kernel, padding=kernel // 2)
        self.offer = nn.Conv2d(inputs + width, width, kernel, padding=kernel // 2)
        for layer in (self.gates, self.offer):
            nn.init.orthogonal_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def start(self, x: torch.Tensor) -> torch.Tensor:
        """A state of zeros for what comes in, [B, C, h, w]."""
        return x.new_zeros(len(x), self.width, *x.shape[-2:])

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The next state, [B, width, h, w]."""
        update, reset = torch.sigmoid(self.gates(torch.cat([x, state.to(x.dtype)], dim=1))).chunk(2, dim=1)
        offer = torch.tanh(self.offer(torch.cat([x, (reset * state).to(x.dtype)], dim=1)))
        return torch.lerp(state.to(offer.dtype), offer, update.to(offer.dtype))
