"""Random draws as a function of (seed, epoch, source, key, visit, task, name), never of a generator's state.

A sample's draws therefore stay the same whatever other tasks, workers or ranks a run has. The numbers come from a
counter-based hash: 64-bit integer mixing in wrapping arithmetic (the finaliser of SplitMix64; Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). The same code runs on numpy arrays in the
workers and on int64 tensors on any device, with the same bits.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_ALL = (1 << 64) - 1
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9 as int64
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB as int64


def hash_name(text: str) -> int:
    """Stable int64 of a string (the first eight bytes of BLAKE2b), equal in every process and Python."""
    data = text.encode(errors="surrogatepass")  # keys of tars may be any bytes
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def _shift(x: Any, bits: int) -> Any:
    """Logical right shift of int64 values (the arithmetic one drags the sign along)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Any) -> Any:
    """Hash int64 values (numpy array or tensor) into well spread int64 values."""
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def sample_seed(seed: int, epoch: int, source: str, key: str, visit: int = 0) -> int:
    """Int64 that all draws of one sample in one epoch start from."""
    return hash_name(f"{seed}\x1f{epoch}\x1f{source}\x1f{key}\x1f{visit}")


def uniform_numpy(seeds: np.ndarray, name: str, count: int = 1) -> np.ndarray:
    """Float64 [B, count] in [0, 1) for int64 seeds [B]; the same numbers as `Draws.uniform` on tensors."""
    counters = np.arange(count, dtype=np.int64)
    with np.errstate(over="ignore"):
        base = mix(np.asarray(seeds, dtype=np.int64)[:, None] ^ np.int64(hash_name(name)))
        bits = mix(base + counters[None, :] * np.int64(_GOLDEN))
        return np.asarray(_shift(bits, 11), dtype=np.float64) * 2.0**-53


def uniform_of(seed: int, name: str, count: int = 1) -> list[float]:
    """The numbers of `uniform_numpy` for one seed, in Python's integers: a tenth of its time for a few of them."""
    base = _mixed((seed ^ hash_name(name)) & _ALL)
    return [(_mixed((base + number * _GOLDEN) & _ALL) >> 11) * 2.0**-53 for number in range(count)]


def _mixed(x: int) -> int:
    """`mix` of one integer, without sign."""
    x = (x + _GOLDEN) & _ALL
    x = ((x ^ (x >> 30)) * _MIX_1) & _ALL
    x = ((x ^ (x >> 27)) * _MIX_2) & _ALL
    return x ^ (x >> 31)


def uniform_at(seed: int, name: str, counters: np.ndarray) -> np.ndarray:
    """Float64 [N] in [0, 1): number `counters[i]`, int64 [N], of the numbers that `uniform_numpy` counts from 0."""
    with np.errstate(over="ignore"):
        base = mix(np.array([seed], dtype=np.int64) ^ np.int64(hash_name(name)))
        bits = mix(base + np.asarray(counters, dtype=np.int64) * np.int64(_GOLDEN))
        return np.asarray(_shift(bits, 11), dtype=np.float64) * 2.0**-53


class Draws:
    """The random draws of a batch for one task.

    Args:
        seeds: int64 [B], one `sample_seed` per sample, on the device where the draws are wanted.
        task: the task's name; two tasks never share draws unless they ask for `shared()`.
    """

    def __init__(self, seeds: torch.Tensor, task: str = "") -> None:
        self.seeds = seeds
        self.task = task

    def for_task(self, task: str) -> Draws:
        """The same samples, another task's draws."""
        return Draws(self.seeds, task)

    def shared(self) -> Draws:
        """Draws that all tasks agree on (for augmentations that several tasks share, so that they share a forward)."""
        return Draws(self.seeds, "shared")

    def __len__(self) -> int:
        return len(self.seeds)

    def bits(self, name: str, count: int) -> torch.Tensor:
        """Int64 [B, count], all 64 bits random."""
        import torch

        counters = torch.arange(count, dtype=torch.int64, device=self.seeds.device)
        base = mix(self.seeds[:, None] ^ hash_name(f"{self.task}/{name}"))
        return torch.as_tensor(mix(base + counters[None, :] * _GOLDEN))

    def uniform(self, name: str, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Float64 [B, *shape] in [low, high), 53 random bits each."""
        count = math.prod(shape)
        unit = _shift(self.bits(name, count), 11).double() * 2.0**-53
        scaled: torch.Tensor = low + (high - low) * unit
        return scaled.reshape(len(self), *shape)

    def normal(self, name: str, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Float64 [B, *shape], standard normal (Box-Muller)."""
        import torch

        pair = self.uniform(name, (2, math.prod(shape)))
        radius = torch.sqrt(-2.0 * torch.log1p(-pair[:, 0]))
        return (radius * torch.cos(2.0 * math.pi * pair[:, 1])).reshape(len(self), *shape)

    def bernoulli(self, name: str, probability: float, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Bool [B, *shape], true with the given probability."""
        return self.uniform(name, shape) < probability

    def integers(self, name: str, high: int, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Int64 [B, *shape] in [0, high)."""
        return (self.uniform(name, shape) * high).long().clamp_(max=high - 1)

    def permutation(self, name: str, n: int) -> torch.Tensor:
        """Int64 [B, n], a permutation of 0..n-1 for each sample."""
        return self.uniform(name, (n,)).argsort(dim=1, stable=True)

    def choice(self, name: str, weights: torch.Tensor, count: int = 1) -> torch.Tensor:
        """Int64 [B, count]: indices drawn with replacement, in proportion to `weights` >= 0, float [B, n].

        A row of zeros is drawn evenly.
        """
        import torch

        weights = weights.double()
        empty = weights.sum(dim=1, keepdim=True) <= 0
        weights = torch.where(empty, torch.ones_like(weights), weights)
        edges = weights.cumsum(dim=1)
        aim = self.uniform(name, (count,)) * edges[:, -1:]
        return torch.searchsorted(edges, aim, right=True).clamp_(max=weights.shape[1] - 1)
