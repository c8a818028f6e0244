"""Intervals, and the words that a score may be described with.

*above*: the 95 % bootstrap interval of the paired difference lies above 0; *not behind*: its lower bound is above
-2 points; *far above the floor*: at least half of (ceiling - floor); *at chance*: within the binomial 99 % interval
with at least 500 samples. Nothing else is said of a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from mmssl.randomness import uniform_numpy

RESAMPLES = 2_000
NOT_BEHIND = 0.02
CHANCE_SAMPLES = 500
_CHUNK = 250


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval.

    Args:
        mean: of all values.
        low, high: 2.5 % and 97.5 % quantile of the resampled means.
    """

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def bootstrap(values: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> Interval:
    """95 % interval of the mean of values [N] or [S, N], resampled over seeds S and over clips N at once.

    Args:
        values: float, one row a seed; NaN where a clip was not judged under a seed.
        groups: [N], clips with one value are resampled together (several frames of a clip, clips of a source).
        seed: of the resampling; the interval is a function of the values and this seed.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"values must be [N] or [S, N] with N > 0, got {np.shape(values)}")
    known = ~np.isnan(table)
    if groups is None:
        groups = np.arange(table.shape[1])
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    count = int(member.max()) + 1
    sums, sizes = _by_group(np.where(known, table, 0.0), member, count), _by_group(known, member, count)
    means = []
    for first in range(0, RESAMPLES, _CHUNK):
        rows = _multiplicities(seed, f"seeds {first}", len(table))
        columns = _multiplicities(seed, f"clips {first}", count)
        total = np.einsum("rg,rg->r", rows @ sizes, columns)
        means.append(np.einsum("rg,rg->r", rows @ sums, columns) / np.where(total > 0, total, np.nan))
    low, high = np.nanquantile(np.concatenate(means), [0.025, 0.975])
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high))


def _by_group(table: np.ndarray, member: np.ndarray, count: int) -> np.ndarray:
    """Float64 [S, G] of [S, N]: sums over the clips of each group."""
    return np.stack([np.bincount(member, row.astype(np.float64), minlength=count) for row in table])


def bootstrap_pretrainings(
    ours: np.ndarray, theirs: np.ndarray | None = None, groups: np.ndarray | None = None, seed: int = 0
) -> Interval:
    """95 % interval of a method's mean, or of the difference of two, over pretrainings, seeds and clips at once.

    A hierarchical bootstrap of a crossed design: seeds and clips are drawn as in `bootstrap`, the same for all
    pretrainings of both methods; pretrainings are drawn for each method by itself, as they have nothing in common. Of P
    pretrainings P - 1 are drawn, with replacement, which makes the variance of a mean of few right on average
    (McCarthy and Snowden 1985; drawing P of P it would be (P - 1) / P of that). A single pretraining is kept: its
    spread is in no interval, and two methods of one pretraining have the interval of `paired_difference`.

    Args:
        ours: float [P, S, N], values of each pretraining, seed and clip; NaN where a clip was not judged under a seed.
        theirs: float [Q, S, N], those of the method that is taken off, judged on the same seeds and clips.
        groups: [N], clips with one value are resampled together.
        seed: of the resampling.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (ours, theirs) if side is not None]
    known = ~np.isnan(sides[0][0])
    for side in sides:
        if side.ndim != 3 or side.shape[1:] != known.shape or not (~np.isnan(side) == known).all():
            shapes = " and ".join(str(one.shape) for one in sides)
            raise ValueError(f"all pretrainings must be judged on the same seeds and clips, [P, S, N]; got {shapes}")
    member = np.arange(known.shape[1]) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(member.max()) + 1
    sizes = _by_group(known, member, count)
    tables = [np.stack([_by_group(np.where(known, one, 0.0), member, count) for one in side]) for side in sides]
    means = []
    for first in range(0, RESAMPLES, _CHUNK):
        rows = _multiplicities(seed, f"seeds {first}", len(known))
        columns = _multiplicities(seed, f"clips {first}", count)
        total = np.einsum("rg,rg->r", rows @ sizes, columns)
        drawn = np.zeros(_CHUNK)
        for number, sums in enumerate(tables):
            draws = max(1, len(sums) - 1)
            share = _multiplicities(seed, f"pretrainings {number} {first}", len(sums), draws) / draws
            each = np.stack([np.einsum("rg,rg->r", rows @ one, columns) for one in sums], axis=1)
            drawn += (1.0, -1.0)[number] * (share * each).sum(axis=1)
        means.append(drawn / np.where(total > 0, total, np.nan))
    low, high = np.nanquantile(np.concatenate(means), [0.025, 0.975])
    whole = [sums.mean(axis=0).sum() / sizes.sum() for sums in tables]
    return Interval(float(whole[0] - sum(whole[1:])), float(low), float(high))


def bootstrap_score(
    score: Callable[[np.ndarray, np.ndarray], float],
    seeds: int,
    clips: int,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """95 % interval of a score that is no mean over clips, such as a mean IoU or an average precision.

    Args:
        score: of (float64 [S], float64 [N]): how often each seed and each clip counts.
        seeds: S.
        clips: N.
        groups: [N], clips with one value are resampled together.
        seed: of the resampling.
        resamples: how many.
    """
    if seeds < 1 or clips < 1:
        raise ValueError(f"at least one seed and one clip are needed, got {seeds} and {clips}")
    member = np.arange(clips) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(member.max()) + 1
    found: list[float] = []
    for first in range(0, resamples, _CHUNK):
        rows = _multiplicities(seed, f"seeds {first}", seeds)
        columns = _multiplicities(seed, f"clips {first}", count)
        for row, column in zip(rows[: resamples - first], columns, strict=False):
            found.append(score(row, column[member]))
    low, high = np.nanquantile(np.array(found), [0.025, 0.975])
    return Interval(float(score(np.ones(seeds), np.ones(clips))), float(low), float(high))


def _multiplicities(seed: int, name: str, n: int, draws: int | None = None) -> np.ndarray:
    """Float64 [_CHUNK, n]: how often each of n things is drawn in a resample of `draws` (else n), with replacement."""
    many = n if draws is None else draws
    places = uniform_numpy(np.array([seed], dtype=np.int64), f"bootstrap {name}", _CHUNK * many).reshape(_CHUNK, many)
    index = (places * n).astype(np.int64) + np.arange(_CHUNK)[:, None] * n
    return np.bincount(index.ravel(), minlength=_CHUNK * n).reshape(_CHUNK, n).astype(np.float64)


def paired_difference(a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> Interval:
    """95 % interval of mean(a - b), paired by seed and clip: both [N] or [S, N]."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired difference needs the same seeds and clips, got {a.shape} and {b.shape}")
    return bootstrap(a - b, groups, seed)


def verdict(difference: Interval, margin: float = NOT_BEHIND) -> str:
    """What may be said of a paired difference: 'above', 'not behind', 'behind' or 'undecided'."""
    if difference.low > 0:
        return "above"
    if difference.low > -margin:
        return "not behind"
    if difference.high < 0:
        return "behind"
    return "undecided"


def far_above_floor(score: float, floor: float, ceiling: float) -> bool:
    """Whether a score has gone at least half of the way from floor to ceiling (the ceiling may be the lower one)."""
    if floor == ceiling:
        raise ValueError(f"floor and ceiling are both {floor}")
    return (score - floor) / (ceiling - floor) >= 0.5


def chance_interval(chance: float, samples: int) -> tuple[float, float]:
    """The rates that 99 % of guessers stay within: exact binomial, at most 0.5 % on either side."""
    if not 0 < chance < 1:
        raise ValueError(f"chance must lie between 0 and 1, got {chance}")
    n = np.arange(samples + 1)
    log_factorial = np.array([math.lgamma(k + 1.0) for k in n])
    log_pmf = log_factorial[-1] - log_factorial - log_factorial[::-1]
    log_pmf = log_pmf + n * math.log(chance) + (samples - n) * math.log1p(-chance)
    cdf = np.cumsum(np.exp(log_pmf))
    low = int(np.searchsorted(cdf, 0.005))
    high = int(np.searchsorted(cdf, 0.995))
    return low / samples, min(high, samples) / samples


def at_chance(rate: float, chance: float, samples: int) -> bool:
    """Whether a rate of hits lies in `chance_interval`.

    Raises:
        ValueError: fewer than 500 samples, where nearly every rate would pass.
    """
    if samples < CHANCE_SAMPLES:
        raise ValueError(f"'at chance' needs at least {CHANCE_SAMPLES} samples, got {samples}")
    low, high = chance_interval(chance, samples)
    return low <= rate <= high
