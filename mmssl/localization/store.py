"""Maps of a whole film on the disk, and what is asked of all of them at once, found part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PART_VALUES = 1 << 20  # values of the maps that are looked at together
_HALF = 16  # bits


class MapStore:
    """Float32 maps [h, w], one after another, in a file without a name: it is gone when nobody uses it, whatever ends.

    Args:
        folder: on whose disk it lies; the system's for temporary files unless given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the array maps it, and outlives this object
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def append(self, maps: np.ndarray) -> None:
        """Add maps [N, h, w], all of one size."""
        self._shape = maps.shape[1:]
        self._file.write(np.ascontiguousarray(maps, dtype=np.float32).tobytes())
        self._count += len(maps)

    def array(self) -> np.ndarray:
        """Float32 [N, h, w] that lies on the disk: only what is looked at is read. N must be larger than 0."""
        self._file.flush()
        return np.memmap(self._file, np.float32, "r", shape=(self._count, *self._shape))


def parts(maps: np.ndarray) -> Iterator[slice]:
    """Slices of [N, h, w] that together are all of it, each of about `PART_VALUES` values at most."""
    step = max(PART_VALUES // max(int(np.prod(maps.shape[1:])), 1), 1)
    return (slice(begin, begin + step) for begin in range(0, len(maps), step))


def value_range(maps: np.ndarray) -> tuple[float, float]:
    """(median, maximum) of all values of float32 [N, h, w], exactly as numpy gives them, part by part.

    The median is found by counting: how often each upper half of the bits occurs, then, within the halves that hold
    the middle, each lower half.
    """
    if maps.size <= PART_VALUES:
        return float(np.median(maps)), float(maps.max())
    ranks = ((maps.size - 1) // 2, maps.size // 2)
    upper, high = np.zeros(1 << _HALF, np.int64), -np.inf
    for part in parts(maps):
        values = np.asarray(maps[part])
        high = max(high, float(values.max()))
        if np.isnan(values).any():
            return float("nan"), float("nan")
        upper += np.bincount(_ordered(values) >> _HALF, minlength=1 << _HALF)
    before = np.cumsum(upper) - upper
    halves = [int(np.searchsorted(before, rank, side="right")) - 1 for rank in ranks]
    lower = {half: np.zeros(1 << _HALF, np.int64) for half in halves}
    for part in parts(maps):
        keys = _ordered(np.asarray(maps[part]))
        for half, counts in lower.items():
            counts += np.bincount(keys[keys >> _HALF == half] & 0xFFFF, minlength=1 << _HALF)
    middle = []
    for rank, half in zip(ranks, halves, strict=True):
        rest = int(np.searchsorted(np.cumsum(lower[half]), rank - before[half], side="right"))
        middle.append(half << _HALF | rest)
    return float(np.mean(_values(np.array(middle, dtype=np.int64)))), high


def _ordered(values: np.ndarray) -> np.ndarray:
    """Int64 [N]: the bits of float32 values, changed so that they rise as the values do."""
    bits = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32).astype(np.int64)
    return np.where(bits >> 31 == 1, 0xFFFFFFFF - bits, bits | 1 << 31)


def _values(ordered: np.ndarray) -> np.ndarray:
    """Float32 [N]: back from `_ordered`."""
    bits = np.where(ordered >> 31 == 1, ordered & 0x7FFFFFFF, 0xFFFFFFFF - ordered)
    return bits.astype(np.uint32).view(np.float32)
