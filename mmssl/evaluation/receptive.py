"""What part of the input a cell of an encoder's map can see, found by asking the encoder itself.

A column of the input is set to NaN; the cells that come out as NaN have seen it. Whatever the encoder is built of, that
is exact, but for layers that join all places by statistics (normalisations), which are passed through unchanged
meanwhile: through them every cell sees a little of everything. Convolutions run in their plain implementation, as fast
ones may let a NaN spread within their tiles.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmssl.errors import UserError

NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
AT_ONCE = 16  # columns that are asked for together


@dataclass(frozen=True)
class Fields:
    """What each cell of a map sees, axis by axis.

    Args:
        axes: for each of (time,) height and width: (first, past the last) input place of each cell.
    """

    axes: tuple[tuple[tuple[int, int], ...], ...]

    def box(self, cell: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """(first, past the last) along each axis of what a cell sees, cut at the input's borders."""
        return tuple(axis[place] for axis, place in zip(self.axes, cell, strict=True))

    @property
    def largest(self) -> tuple[int, ...]:
        """The longest side along each axis."""
        return tuple(max(stop - start for start, stop in axis) for axis in self.axes)


@torch.no_grad()
def receptive_fields(encoder: Any, stride: int, shape: tuple[int, ...]) -> Fields:
    """What the cells of a level see of an input of such a shape.

    Args:
        encoder: of images [B, 3, H, W], spectrograms [B, 1, M, F] or video [B, 3, T, H, W].
        stride: of the level.
        shape: of one input, without the batch.

    Raises:
        UserError: the encoder has no such level.
    """
    if stride not in encoder.strides:
        raise UserError(f"no level at stride {stride}; the encoder has {', '.join(map(str, encoder.strides))}")
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(shape, generator=generator)
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    with _places_apart(encoder):
        cells = encoder(base[None].to(device)).levels[stride].shape[2:]
        axes = []
        for axis in range(len(shape) - len(cells), len(shape)):  # time is the first, and some levels have none
            small = _small(base, axis).to(device)
            seen: list[torch.Tensor] = []
            for first in range(0, shape[axis], AT_ONCE):
                asked = range(first, min(first + AT_ONCE, shape[axis]))
                batch = small.expand(len(asked), *small.shape).clone()
                for row, place in enumerate(asked):
                    batch[row].select(axis, place).fill_(float("nan"))
                level = encoder(batch).levels[stride].isnan().any(dim=1)  # bool [n, (t,) h, w]
                own = level.ndim - len(shape) + axis
                others = [dim for dim in range(1, level.ndim) if dim != own]
                seen.append(level.any(dim=others) if others else level)
            touched = torch.cat(seen).cpu()  # bool [places, cells]
            axes.append(tuple(_extent(touched[:, cell]) for cell in range(touched.shape[1])))
    return Fields(tuple(axes))


def _small(base: torch.Tensor, axis: int) -> torch.Tensor:
    """The input cut short along time where another axis is asked for: axes do not depend on each other."""
    return base[:, :1] if base.ndim == 4 and axis != 1 else base


def _extent(touched: torch.Tensor) -> tuple[int, int]:
    places = torch.nonzero(touched).flatten()
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


@contextmanager
def _places_apart(encoder: nn.Module) -> Iterator[None]:
    """While open, normalisations pass their input on and convolutions are the plain ones."""

    def through(module: nn.Module, given: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(given[0])

    was_training = encoder.training
    encoder.eval()
    hooks = [part.register_forward_hook(through) for part in encoder.modules() if isinstance(part, NORMS)]
    try:
        backends = (torch.backends.mkldnn, torch.backends.nnpack, torch.backends.cudnn)
        with ExitStack() as plain, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some builds warn of settings that they restore
            for backend in backends:
                plain.enter_context(backend.flags(enabled=False))
            yield
    finally:
        for hook in hooks:
            hook.remove()
        encoder.train(was_training)
