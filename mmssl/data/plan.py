"""What a global batch is made of: quotas of the sources, a rank's slice; and the plan said before a run starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmssl.data.order import OrderName
from mmssl.data.sources import IndexedSource, Place, Source
from mmssl.errors import UserError


@dataclass(frozen=True)
class SourcePlan:
    """One source of a plan.

    Args:
        name: the source's name.
        shards, samples: how many it has.
        quota: samples that it gives to a global batch.
        order: "epochs" or "resampled".
        cut_short: names of its shards that end within a sample.
    """

    name: str
    shards: int
    samples: int
    quota: int
    order: OrderName = "epochs"
    cut_short: tuple[str, ...] = ()

    @property
    def batches_per_epoch(self) -> float:
        """Global batches in which the source is seen once; its rest opens the next epoch."""
        return self.samples / self.quota


@dataclass(frozen=True)
class Plan:
    """What a stream will do, said before it starts.

    Args:
        sources: the sources.
        batch_size: clips of a global batch.
        world: ranks.
        repeat: whether epoch follows epoch.
        decoder: the decoder and why it.
    """

    sources: tuple[SourcePlan, ...]
    batch_size: int
    world: int
    repeat: bool = True
    decoder: str = ""

    @property
    def samples(self) -> int:
        """Samples in all sources."""
        return sum(source.samples for source in self.sources)

    @property
    def shards(self) -> int:
        """Shards of all sources."""
        return sum(source.shards for source in self.sources)

    @property
    def batches_per_epoch(self) -> float:
        """Global batches in which the first source is seen once."""
        return self.sources[0].batches_per_epoch

    @property
    def negatives(self) -> int:
        """Other clips that an anchor meets in its global batch."""
        return self.batch_size - 1

    def epochs(self, batches: int) -> dict[str, float]:
        """Epochs of each source in so many global batches."""
        return {source.name: batches / source.batches_per_epoch for source in self.sources}

    def describe(self, batches: int | None = None) -> str:
        """The plan as text, with the epochs that so many global batches make."""
        lines = []
        for source in self.sources:
            an = "a nominal" if source.order == "resampled" else "an"
            passes = f"{an} epoch every {source.batches_per_epoch:.1f} batches" if self.repeat else "one pass"
            if source.order == "resampled":
                passes = f"drawn with replacement, {passes}"
            if batches is not None and self.repeat:
                passes += f", {self.epochs(batches)[source.name]:.2f} epochs in {batches} batches"
            lines.append(
                f"{source.name}: {source.samples} samples in {_shards(source.shards)}, "
                f"{source.quota} of each batch, {passes}"
            )
        share = self.batch_size // self.world
        ranks = f" on {self.world} ranks, {share} clips each" if self.world > 1 else ""
        lines.append(f"global batch of {self.batch_size} clips{ranks}; an anchor meets {self.negatives} others in it")
        if cut := [name for source in self.sources for name in source.cut_short]:
            more = f" and {len(cut) - 3} more" if len(cut) > 3 else ""
            lines.append(
                f"{_shards(len(cut))} {'is' if len(cut) == 1 else 'are'} cut short: {', '.join(cut[:3])}{more} "
                "(whole samples are read; copy again what is not whole)"
            )
        if self.decoder:
            lines.append(f"decoder: {self.decoder}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe()


def _shards(count: int) -> str:
    return f"{count} shard{'s' * (count != 1)}"


def quotas(sources: Sequence[Source], batch_size: int) -> list[int]:
    """Samples that each source gives to a global batch.

    Raises:
        UserError: two sources share a name, or the quotas do not add up to the batch size.
    """
    if not sources:
        raise UserError("no source of data: give `data.shards`")
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise UserError(f"two sources share a name ({', '.join(names)}); draws go by it, so name them apart")
    if len(sources) == 1 and sources[0].quota in (None, batch_size):
        return [batch_size]
    given = [source.quota or 0 for source in sources]
    if min(given) < 1 or sum(given) != batch_size:
        said = ", ".join(f"{source.name}: {source.quota}" for source in sources)
        raise UserError(f"the quotas of the sources ({said}) must be positive and sum to the batch size {batch_size}")
    return given


def check_world(batch_size: int, rank: int, world: int) -> None:
    """Refuse a global batch that does not divide by the ranks, naming the nearest that does."""
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= rank < world:
        raise UserError(f"rank {rank} is not one of {world} ranks (0 to {world - 1})")
    if batch_size % world:
        nearest = max(world, round(batch_size / world) * world)
        raise UserError(f"batch_size {batch_size} does not divide by {world} ranks; the nearest that does is {nearest}")


@lru_cache(maxsize=8)
def interleaving(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Source and row within the source of each row of a global batch, two int64 [sum of counts].

    The sources lie evenly in the batch, so that every rank's slice has its share of each.
    """
    sources = np.repeat(np.arange(len(counts)), counts)
    rows = np.concatenate([np.arange(count) for count in counts])
    places = (rows + 0.5) / np.asarray(counts)[sources]
    by_place = np.lexsort((sources, places))
    return sources[by_place], rows[by_place]


def rank_batch(
    sources: Sequence[IndexedSource],
    counts: Sequence[int],
    positions: Sequence[int],
    repeat: bool,
    rank: int = 0,
    world: int = 1,
) -> list[Place | None]:
    """A rank's samples of the global batch that begins at the sources' positions.

    Args:
        sources: the sources.
        counts: how many samples of each in the global batch.
        positions: the next sample of each, epochs laid end to end.
        repeat: whether epoch follows epoch; else rows past the end of a source are None.
        rank: whose slice; the others' samples are not looked up.
        world: how many slices there are.
    """
    share = sum(counts) // world
    mine = slice(rank * share, (rank + 1) * share)
    numbers, rows = (part[mine] for part in interleaving(tuple(counts)))
    batch: list[Place | None] = [None] * share
    for number, source in enumerate(sources):
        at = np.flatnonzero(numbers == number)
        wanted = positions[number] + rows[at]
        if not repeat:
            at, wanted = at[wanted < len(source)], wanted[wanted < len(source)]
        for row, place in zip(at.tolist(), source.places(wanted), strict=True):
            batch[row] = place
    return batch
