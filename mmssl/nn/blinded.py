"""Encoders that are shown nothing: what is left of a score when the input that carries the answer is taken away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from mmssl.nn.encoders import Encoders

#: input -> modalities of the encoders that see it
SEEN_BY = {"picture": ("image", "video", "flow"), "sound": ("audio",), "text": ("text",)}


@contextlib.contextmanager
def blinded(encoders: Encoders, what: str, *others: nn.Module) -> Iterator[None]:
    """Inside, the encoders of one input are given zeros in its place: grey or black pictures, silence, padding.

    The input is taken away where the encoders meet it, not in the batch: what a task makes of the batch before (which
    clips are loud enough to take part, what a decoder has to restore) stays as it is. Masks stay too.

    Args:
        encoders: the bundle.
        what: "picture", "sound" or "text".
        others: modules that may hold encoders of their own, such as a task with a teacher; those are blinded as well.
    """

    def blank(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (torch.zeros_like(given[0]), *given[1:])

    if what not in SEEN_BY:
        raise ValueError(f"an input is {', '.join(SEEN_BY)}, got {what!r}")
    within = [encoders[name] for name in encoders.names()] + [m for other in others for m in other.modules()]
    chosen = {module for module in within if getattr(module, "modality", None) in SEEN_BY[what]}
    hooks = [encoder.register_forward_pre_hook(blank) for encoder in chosen]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
