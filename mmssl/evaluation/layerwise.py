"""Learning rates that fall from the last layer of an encoder to its first, for fine-tuning.

Layer-wise learning rate decay: Howard and Ruder, "Universal language model fine-tuning", arXiv 1801.06146; as in BEiT
(arXiv 2106.08254) a layer is a block of the encoder, and what stands before, between or after blocks is one layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
#: how the classes of repeated blocks are called in mmssl, torchvision, timm and transformers
_BLOCK = re.compile(r"(Block|Layer|Bottleneck|MBConv|InvertedResidual)(V?\d)?([123]?d)?$", re.IGNORECASE)


def layer_depths(encoder: nn.Module) -> dict[str, int]:
    """Depth of every parameter by its name: 0 for the stem, then a number for each block, in the order they are held.

    A block is a member of a `Sequential`, `ModuleList` or `ModuleDict` whose class is named as blocks are
    (``ResidualBlock``, ``BasicBlock``, ``EncoderBlock``, ``VideoMAELayer``, ``Bottleneck``, ...) and that lies in no
    other block. What stands between two blocks is one layer: patch, class and position embeddings, a stem of
    convolution and norm, the last norm with the projection. An encoder without blocks has a layer for each module that
    holds parameters of its own.

    Args:
        encoder: the encoder; its modules must be registered in the order they are run, as they are in all these
            libraries.
    """
    blocks = dict(_blocks(encoder, "", held=False))
    depths: dict[str, int] = {}
    depth, before = -1, None
    for name, _ in encoder.named_parameters():  # a module's own before those of its children
        block = next((b for b in _prefixes(name) if b in blocks), "") if blocks else name.rpartition(".")[0]
        if block != before:
            depth, before = depth + 1, block
        depths[name] = depth
    return depths


def layerwise_groups(
    parts: Sequence[nn.Module], lr: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Optimizer groups of parts that follow one another (encoder, head): `lr` at the last layer, falling downwards.

    The layer d of L (0 the stem) has the rate ``lr * layer_decay ** (L - 1 - d)``. Vectors and scalars are not decayed.

    Args:
        parts: modules, first to last; depths go on from one to the next.
        lr: rate of the last layer, > 0.
        layer_decay: in (0, 1]; 1 gives all layers one rate.
        weight_decay: of matrices and kernels.
    """
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    first = 0
    for part in parts:
        depths = layer_depths(part)
        for name, parameter in part.named_parameters():
            if parameter.requires_grad:
                found.setdefault((first + depths[name], parameter.ndim > 1), []).append(parameter)
        first += max(depths.values(), default=-1) + 1
    return [
        {
            "params": parameters,
            "lr": lr * layer_decay ** (first - 1 - depth),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in sorted(found.items(), key=lambda item: item[0])
    ]


def _blocks(module: nn.Module, prefix: str, held: bool) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of the outermost blocks; `held` says that the module is a member of a container."""
    if held and not isinstance(module, CONTAINERS) and _BLOCK.search(type(module).__name__):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _blocks(child, f"{prefix}.{name}" if prefix else name, isinstance(module, CONTAINERS))


def _prefixes(name: str) -> Iterator[str]:
    """The modules that a parameter lies in, innermost first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name
