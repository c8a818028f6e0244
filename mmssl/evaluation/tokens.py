"""Token features of a frozen encoder: its last feature map, pooled to a bounded number of places, for attentive probes.

V-JEPA (arXiv 2404.08471) and AIM (arXiv 2401.08541) let a probe attend to what the last layer says of each place
instead of the average. A convolutional encoder's last layer is its coarsest level; a clip's map is pooled to a bounded
number of cells of space and time by mean and by maximum, side by side as in the encoders' own vectors: what is rare
within a cell drowns in its mean alone. Stored in float16 (larger values are held at the largest of float16).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from mmssl.errors import UserError
from mmssl.nn.features import Features

TOKENS = 64
TIMES = 4
GIGABYTES = 4.0


def token_grid(shape: tuple[int, ...], limit: int) -> tuple[int, int, int]:
    """The grid, at most `limit` cells, that a map [h, w] or [t, h, w] is pooled to: up to 4 times, then space alike.

    >>> token_grid((16, 6, 6), 64), token_grid((6, 6), 64), token_grid((1, 12, 12), 64)
    ((4, 4, 4), (1, 6, 6), (1, 8, 8))
    """
    times = min(shape[0], TIMES, limit) if len(shape) == 3 else 1
    side = max(1, math.isqrt(limit // times))
    return times, min(shape[-2], side), min(shape[-1], side)


def tokens_of(features: Features, frames: int = 1, limit: int = TOKENS) -> torch.Tensor | None:
    """Float16 [B, L, C] on the CPU, L <= limit: the last map, or the last layer's tokens, of a batch; None without any.

    C is twice the map's channels where cells are pooled.

    Args:
        features: what an encoder gave.
        frames: pictures a clip, B * frames in all, of an image encoder: they become the map's time.
        limit: the most tokens a clip.

    Raises:
        UserError: a value is not finite.
    """
    if features.levels:
        stride = max(features.levels)
        maps = features.levels[stride].float()
        if maps.ndim == 4 and frames > 1:
            maps = maps.unflatten(0, (-1, frames)).transpose(1, 2)  # [B, C, T, h, w]
        grid = token_grid(tuple(maps.shape[2:]), limit)
        in_time = maps if maps.ndim == 5 else maps[:, :, None]
        pooled = F.adaptive_avg_pool3d(in_time, grid)
        if tuple(in_time.shape[2:]) != grid:
            pooled = torch.cat([pooled, F.adaptive_max_pool3d(in_time, grid)], dim=1)
        tokens = pooled.flatten(2).transpose(1, 2)
    elif features.tokens is not None:
        tokens = _pooled_tokens(features.tokens.float(), features.token_mask, frames, limit)
    else:
        return None
    if not torch.isfinite(tokens).all():
        raise UserError("the encoder gives feature maps that are not finite; its weights are broken, train it again")
    most = torch.finfo(torch.float16).max
    return tokens.clamp(-most, most).to("cpu", torch.float16)


def _pooled_tokens(tokens: torch.Tensor, mask: torch.Tensor | None, frames: int, limit: int) -> torch.Tensor:
    """Neighbouring tokens averaged to at most `limit`, over the frames of a clip too; masked ones do not count."""
    keep = torch.ones(tokens.shape[:2], device=tokens.device) if mask is None else mask.float()
    tokens, keep = (x.unflatten(0, (-1, frames)).flatten(1, 2) for x in (tokens * keep[..., None], keep))
    count = min(limit, tokens.shape[1])
    total = F.adaptive_avg_pool1d(tokens.transpose(1, 2), count)
    weight = F.adaptive_avg_pool1d(keep[:, None], count)
    return (total / weight.clamp(min=1e-6)).transpose(1, 2)


class TokenStore:
    """Tokens of several bundles, gathered batch by batch, within a bound of memory that is checked at the first batch.

    Args:
        bundles: how many.
        limit: the most tokens a clip and view; 0 stores nothing.
        gigabytes: the bound, of all bundles together.
    """

    def __init__(self, bundles: int, limit: int, gigabytes: float = GIGABYTES) -> None:
        self.limit, self.gigabytes = limit, gigabytes
        self._parts: list[list[np.ndarray]] = [[] for _ in range(bundles)]

    def add(self, batch: Sequence[np.ndarray | None], clips: int) -> None:
        """Keep the tokens float16 [n, V, L, C] of one batch by all bundles (None of a bundle without).

        Raises:
            UserError: the tokens of all `clips` clips would not fit into the bound.
        """
        found = [tokens for tokens in batch if tokens is not None]
        if not any(self._parts):
            needed = sum(tokens[0].nbytes for tokens in found) * clips / 2**30
            if needed > self.gigabytes:
                _, views, count, width = found[0].shape
                raise UserError(
                    f"the attentive probe would hold {needed:.2g} GiB of token features ({clips} clips x {views} "
                    f"view(s) x {count} tokens x {width} channels x {len(found)} encoders in float16), more than "
                    f"token_gigabytes={self.gigabytes:g}; give fewer tokens, views or seeds, or a larger bound"
                )
        for parts, tokens in zip(self._parts, batch, strict=True):
            if tokens is not None:
                parts.append(tokens)

    def of(self, bundle: int) -> np.ndarray | None:
        """Float16 [N, V, L, C] of all batches; None where the bundle has no tokens."""
        parts = self._parts[bundle]
        self._parts[bundle] = []
        return np.concatenate(parts) if parts else None
