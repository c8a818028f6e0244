"""What every encoder gives, and the protocol that all encoders follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch


@dataclass(frozen=True, eq=False)
class Features:
    """An encoder's output.

    Args:
        pooled: [B, D], the clip's vector.
        levels: feature maps by stride: [B, C, h, w] for pictures and spectrograms, [B, C, t, h, w] for video.
        tokens: [B, L, D] for token encoders, else None.
        token_mask: bool [B, L], True where a token is real, with `tokens`.
    """

    pooled: torch.Tensor
    levels: dict[int, torch.Tensor] = field(default_factory=dict)
    tokens: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None


@runtime_checkable
class Encoder(Protocol):
    """An encoder of one modality.

    Attributes:
        modality: image, video, audio, flow, text or graph.
        width: D of `Features.pooled`.
        strides: strides of `Features.levels`, finest first.
        level_widths: channels of each level, by stride.

    Calls take: image [B, 3, H, W] and video [B, 3, T, H, W] RGB float in [0, 1] (normalised inside); audio log-mel
    [B, 1, M, F] from `frontend(waveform)`; flow [B, 2, T, H, W] in pixels a second, at the pixels of the picture; text
    token ids int64 [B, L] with a mask bool [B, L].
    """

    modality: str
    width: int
    strides: tuple[int, ...]
    level_widths: dict[int, int]

    def __call__(self, x: torch.Tensor, *more: torch.Tensor) -> Features:
        """Encode a batch."""
        ...
