"""Where an encoder answers in a frame: energy of its maps by stage, and attention where it attends.

*Energy* of a stage is the root mean square of its channels at each place, the map that attention transfer matches
(Zagoruyko and Komodakis, "Paying more attention to attention", arXiv 1612.03928, with p = 2). It says how strongly the
stage answers there; not why, not for which class, and not that the pooled feature depends on it. Networks with random
weights have such maps too (they follow contrast), which is why theirs are always shown beside.

*Rollout* (Abnar and Zuidema, "Quantifying attention flow in transformers", arXiv 2005.00928) multiplies the layers'
attention, averaged over heads, with half of each token kept by its shortcut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mmssl.errors import UserError
from mmssl.nn.features import Features

ROWS_SUM = 1e-2  # how far from 1 the rows of an attention may sum (bfloat16)
MOST_SPECIAL = 16  # tokens that are no place: class, distillation and register tokens


def energy(level: torch.Tensor) -> torch.Tensor:
    """Float32 [n, t, h, w]: root mean square over the channels of a level [n, C, t, h, w]."""
    return level.float().square().mean(dim=1).sqrt()


def edge_energy(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Float32 [n, T, h, w]: mean size of the brightness gradient in each cell, of frames uint8 [n, T, 3, H, W].

    What an energy map is compared with: a map that follows it alone has found contrast, not things.
    """
    grey = torch.from_numpy(frames).float().mean(dim=2)
    down = torch.diff(grey, dim=-2, append=grey[..., -1:, :])
    right = torch.diff(grey, dim=-1, append=grey[..., -1:])
    made = nn.functional.adaptive_avg_pool2d((down.square() + right.square()).sqrt(), size)
    return np.asarray(made.numpy())


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Float64 [n]: Pearson correlation of each row's values; NaN where one is constant."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray(np.where(size > 1e-12, (a * b).sum(axis=1) / np.where(size > 1e-12, size, 1.0), np.nan))


@contextmanager
def attention_kept(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """While open, a forward of the module fills the list with its layers' attention, [B, heads, L, L] each.

    Known are `torch.nn.MultiheadAttention` (torchvision's transformers) and the attention of `transformers` models,
    whose slow implementation gives its weights; any other layer is passed by.
    """
    kept: list[torch.Tensor] = []

    def take(part: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, tuple) and len(output) > 1 and _is_attention(output[1]):
            kept.append(output[1].detach().float())

    def ask(part: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, named | {"need_weights": True, "average_attn_weights": False}

    with ExitStack() as undo:
        for part in module.modules():
            if isinstance(part, nn.MultiheadAttention):
                undo.callback(part.register_forward_pre_hook(ask, with_kwargs=True).remove)
                undo.callback(part.register_forward_hook(take).remove)
                undo.enter_context(_no_fast_path())
            elif not any(isinstance(own, nn.MultiheadAttention) for own in part.children()):
                if callable(switch := getattr(part, "set_attn_implementation", None)):
                    before = cast(Any, part).config._attn_implementation
                    switch("eager")
                    undo.callback(switch, before)
                undo.callback(part.register_forward_hook(_once(take, kept)).remove)
        yield kept


def _once(take: Any, kept: list[torch.Tensor]) -> Any:
    """A hook that does not take the tensor again that an inner module has just handed up."""

    def hook(part: nn.Module, given: Any, output: Any) -> None:
        handed_up = isinstance(output, tuple) and len(output) > 1 and isinstance(output[1], torch.Tensor)
        if handed_up and kept and output[1].shape == kept[-1].shape and torch.equal(output[1].float(), kept[-1]):
            return
        take(part, given, output)

    return hook


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """`nn.MultiheadAttention` without the fused path, which gives no weights."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _is_attention(found: Any) -> bool:
    """Whether a tensor is an attention of tokens to each other: [B, heads, L, L] with rows that sum to 1."""
    if not isinstance(found, torch.Tensor) or found.ndim != 4 or found.shape[2] != found.shape[3]:
        return False
    sums = found.detach().float().sum(dim=-1)
    return bool(((sums - 1).abs() < ROWS_SUM).all()) and bool((found >= 0).all())


def rollout(layers: list[torch.Tensor]) -> torch.Tensor:
    """Float32 [B, L, L]: how much of each input token (columns) has reached each token (rows) after all layers."""
    length = layers[0].shape[-1]
    made = torch.eye(length, device=layers[0].device).expand(len(layers[0]), -1, -1)
    for layer in layers:
        made = (layer.mean(dim=1) + torch.eye(length, device=layer.device)) / 2 @ made
    return made


def token_grid(length: int, frames: int, height: int, width: int) -> tuple[int, tuple[int, int, int]] | None:
    """(special tokens, (t, h, w)) of a sequence of tokens over pictures of such a shape, or None.

    The special ones stand first. Places are square: h / w is height / width.
    """
    for special in sorted(range(MOST_SPECIAL + 1), key=lambda n: (n != 1, n)):  # a class token is the rule
        # Pairs of frames are the rule for film (tubes), then single frames.
        for t in dict.fromkeys([max(1, frames // 2), frames, *range(frames, 0, -1)]):
            if frames % t:
                continue
            cells, rest = divmod(length - special, t)
            if rest or cells < 1:
                continue
            h = round((cells * height / width) ** 0.5)
            if h and h * (cells // h) == cells and h * width == cells // h * height:
                return special, (t, h, cells // h)
    return None


def attention_maps(layers: list[torch.Tensor], frames: int, height: int, width: int) -> torch.Tensor:
    """Float32 [B, t, h, w]: where what the class token holds comes from, or all tokens where there is none.

    Raises:
        UserError: the tokens do not lie on a grid over the picture.
    """
    reached = rollout(layers)
    found = token_grid(reached.shape[-1], frames, height, width)
    if found is None:
        raise UserError(
            f"{reached.shape[-1]} tokens lie on no grid over a picture of {height} x {width}; no map is drawn"
        )
    special, grid = found
    rows = reached[:, :1] if special else reached
    return torch.as_tensor(rows.mean(dim=1)[:, special:].unflatten(1, grid))


@torch.no_grad()
def encode_with_attention(encoder: nn.Module, x: torch.Tensor) -> tuple[Features, list[torch.Tensor]]:
    """Features of a batch, and the attention [B, heads, L, L] of each layer; a convolutional encoder has none."""
    with attention_kept(encoder) as kept:
        features = encoder(x)
    same = [layer for layer in kept if layer.shape == kept[0].shape]
    return features, same
