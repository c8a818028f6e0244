"""What a map must be compared with: maps that need no model, and the model given the wrong sound.

The centre disc, the whole frame and random maps know nothing of the clip; motion saliency sees the picture alone;
another clip's sound, of another kind, shows how much the model listens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mmssl.randomness import sample_seed, uniform_numpy

BLUR = 0.03  # of the picture's width: standard deviation of the smoothing of the frame difference


def motion_saliency(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Float64 [N, H, W]: smoothed absolute difference of two frames.

    Args:
        before: uint8 [N, 3, H, W].
        after: likewise, a moment later.
    """
    change = np.abs(after.astype(np.float64) - before.astype(np.float64)).mean(axis=1)
    width = change.shape[-1]
    reach = max(1, round(3 * BLUR * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (BLUR * width)) ** 2)
    kernel /= kernel.sum()
    x = torch.from_numpy(change)[:, None]
    k = torch.from_numpy(kernel)
    x = torch.nn.functional.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = torch.nn.functional.conv2d(x, k[None, None, None, :])
    x = torch.nn.functional.conv2d(x, k[None, None, :, None])
    return np.asarray(x[:, 0].numpy())


def random_maps(keys: Sequence[str], shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Float64 [N, h, w], uniform, a function of (seed, key)."""
    seeds = np.array([sample_seed(seed, 0, "localization", key) for key in keys], dtype=np.int64)
    return uniform_numpy(seeds, "random map", shape[0] * shape[1]).reshape(-1, *shape)


def other_sounds(keys: Sequence[str], kinds: Sequence[str | None], sources: Sequence[str], seed: int = 0) -> np.ndarray:
    """Int64 [N]: for each clip one of another kind of sound and another source, drawn from (seed, key); -1 if none.

    Args:
        keys: the clips' keys.
        kinds: what sounds in each; clips whose kind is not known count as of one kind of their own each.
        sources: the file each was cut from.
        seed: of the draw.
    """
    named = np.array([f"?{i}" if kind is None else f"={kind}" for i, kind in enumerate(kinds)])
    _, kind = np.unique(named, return_inverse=True)
    _, source = np.unique(np.array(sources), return_inverse=True)
    seeds = np.array([sample_seed(seed, 0, "localization", key) for key in keys], dtype=np.int64)
    draws = uniform_numpy(seeds, "other sound")[:, 0]
    chosen = np.full(len(keys), -1, dtype=np.int64)
    for row in range(len(keys)):
        possible = np.flatnonzero((kind != kind[row]) & (source != source[row]))
        if len(possible):
            chosen[row] = possible[int(draws[row] * len(possible))]
    return chosen
