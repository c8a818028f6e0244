"""ConvLSTM and ConvGRU against their formulas, written out place by place."""

from __future__ import annotations

import torch

from mmssl.nn.conv_gru import ConvGRUCell
from mmssl.nn.conv_lstm import ConvLSTMCell


def stirred(cell: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return cell


def window(x: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """The 3 x 3 neighbourhood, zeros beyond the edge; [C, 3, 3]."""
    return torch.nn.functional.pad(x, (1, 1, 1, 1))[:, row : row + 3, column : column + 3]


def test_conv_lstm_equals_the_formula_of_the_paper() -> None:
    cell = stirred(ConvLSTMCell(2, 3).double())
    assert isinstance(cell, ConvLSTMCell)
    x, hidden, memory = (torch.randn(1, c, 3, 4, dtype=torch.float64) for c in (2, 3, 3))
    new_hidden, new_memory = cell(x, (hidden, memory))
    wi, wf, wg, wo = cell.gates.weight.chunk(4)
    assert cell.gates.bias is not None
    bi, bf, bg, bo = cell.gates.bias.chunk(4)
    pi, pf, po = cell.peepholes.flatten(1)
    for row in range(3):
        for column in range(4):
            around = torch.cat([window(x[0], row, column), window(hidden[0], row, column)])
            c = memory[0, :, row, column]

            def product(w: torch.Tensor, b: torch.Tensor, around: torch.Tensor = around) -> torch.Tensor:
                return (w * around).sum(dim=(1, 2, 3)) + b

            i = torch.sigmoid(product(wi, bi) + pi * c)
            f = torch.sigmoid(product(wf, bf) + pf * c)
            c = f * c + i * torch.tanh(product(wg, bg))
            o = torch.sigmoid(product(wo, bo) + po * c)
            torch.testing.assert_close(new_memory[0, :, row, column], c)
            torch.testing.assert_close(new_hidden[0, :, row, column], o * torch.tanh(c))


def test_conv_gru_with_kernel_one_is_torchs_gru_at_every_place() -> None:
    """But for torch's reset gate, which is applied behind the product with the state: with `r = 1` both agree."""
    cell = stirred(ConvGRUCell(2, 3).double())
    assert isinstance(cell, ConvGRUCell)
    assert cell.gates.bias is not None
    assert cell.offer.bias is not None
    reference = torch.nn.GRUCell(2, 3).double()
    with torch.no_grad():
        cell.gates.weight[3:] = 0.0
        cell.gates.bias[3:] = 50.0  # the reset gate is open
        gates, offer = cell.gates.weight.flatten(1), cell.offer.weight.flatten(1)
        # torch keeps the old state by its update gate, we take the new one by ours: the sign turns.
        reference.weight_ih.copy_(torch.cat([gates[3:, :2], -gates[:3, :2], offer[:, :2]]))
        reference.weight_hh.copy_(torch.cat([gates[3:, 2:], -gates[:3, 2:], offer[:, 2:]]))
        reference.bias_ih.copy_(torch.cat([cell.gates.bias[3:], -cell.gates.bias[:3], cell.offer.bias]))
        reference.bias_hh.zero_()
    x, state = (torch.randn(2, c, 3, 4, dtype=torch.float64) for c in (2, 3))
    made = cell(x, state).permute(0, 2, 3, 1).flatten(0, 2)
    wanted = reference(*(v.permute(0, 2, 3, 1).flatten(0, 2) for v in (x, state)))
    torch.testing.assert_close(made, wanted)


def test_the_reset_gate_of_conv_gru_forgets_the_state() -> None:
    cell = stirred(ConvGRUCell(2, 3).double())
    assert isinstance(cell, ConvGRUCell)
    assert cell.gates.bias is not None
    with torch.no_grad():
        cell.gates.weight.zero_()
        cell.gates.bias[:3], cell.gates.bias[3:] = 50.0, -50.0  # all new, nothing of the old
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    one, two = (cell(x, torch.randn(2, 3, 3, 4, dtype=torch.float64)) for _ in range(2))
    torch.testing.assert_close(one, two)
