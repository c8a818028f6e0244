"""ConvLSTM and its encoder-forecaster (Shi et al., "Convolutional LSTM network: a machine learning approach for
precipitation nowcasting", arXiv 1506.04214).
"""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import nn

State = tuple[torch.Tensor, torch.Tensor]  # hidden state and memory, [B, C, h, w] each


class ConvLSTMCell(nn.Module):
    """One step of a ConvLSTM with peepholes.

    ``i, f = sigmoid(W x + W h + p * C)``, ``C' = f * C + i * tanh(..)``, ``o = sigmoid(.. + p * C')``,
    ``H' = o * tanh(C')``. The peepholes are one weight a channel: the paper's, one for every place too, would fix the
    size of the picture.

    Args:
        inputs: channels of what comes in.
        width: channels of the state.
        kernel: side of the convolutions.
    """

    def __init__(self, inputs: int, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.Conv2d(inputs + width, 4 * width, kernel, padding=kernel // 2)
        self.peepholes = nn.Parameter(torch.zeros(3, width, 1, 1))

    def start(self, x: torch.Tensor) -> State:
        """A state of zeros for what comes in, [B, C, h, w]: nothing is kept from clip to clip."""
        zeros = x.new_zeros(len(x), self.width, *x.shape[-2:])
        return zeros, zeros

    def forward(self, x: torch.Tensor, state: State) -> State:
        """The next state."""
        hidden, memory = state
        enter, forget, offer, leave = self.gates(torch.cat([x, hidden.to(x.dtype)], dim=1)).chunk(4, dim=1)
        enter = torch.sigmoid(enter + self.peepholes[0] * memory)
        forget = torch.sigmoid(forget + self.peepholes[1] * memory)
        memory = forget * memory + enter * torch.tanh(offer)
        leave = torch.sigmoid(leave + self.peepholes[2] * memory)
        return leave * torch.tanh(memory), memory


class ConvLSTM(nn.Module):
    """Layers of ConvLSTM that read the past and, from the state they are left in, write the future.

    The forecasting layers start from the states of the encoding layers and are given nothing more.

    Args:
        motion: channels of the motion code of each past frame.
        content: channels of the code of the last frame.
        width: channels a future frame, and of every state.
        frames: past frames.
        steps: future frames.
        layers: ConvLSTM layers.
    """

    def __init__(self, motion: int, content: int, width: int, frames: int, steps: int, layers: int = 2) -> None:
        super().__init__()
        self.steps = steps
        widths = [motion] + [width] * layers
        self.reading = nn.ModuleList(ConvLSTMCell(a, b) for a, b in itertools.pairwise(widths))
        # The first writing layer is given the code of the last frame, which stays what it is.
        widths = [content] + [width] * layers
        self.writing = nn.ModuleList(ConvLSTMCell(a, b) for a, b in itertools.pairwise(widths))
        self.join = nn.Conv2d(layers * width, width, 1)

    def forward(self, motion: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """[B, steps, width, h, w] from motion [B, C, frames, h, w] and content [B, C', h, w]."""
        states = [cast(ConvLSTMCell, cell).start(content) for cell in self.reading]
        for x in motion.unbind(dim=2):
            for number, cell in enumerate(self.reading):
                states[number] = cell(x, states[number])
                x = states[number][0]
        made = []
        for _ in range(self.steps):
            x = content
            for number, cell in enumerate(self.writing):
                states[number] = cell(x, states[number])
                x = states[number][0]
            made.append(self.join(torch.cat([hidden for hidden, _ in states], dim=1)))
        return torch.stack(made, dim=1)
