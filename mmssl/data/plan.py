"""What a global batch is made of: quotas of the sources, a rank's slice; and the plan said before a run starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmssl.data.sources import IndexedSource, Place, Source
from mmssl.errors import UserError


@dataclass(frozen=True)
class Plan:
    """What a stream will do, said before it starts.

    Args:
        sources: (name, shards, samples, quota) of each source.
        batch_size: clips of a global batch.
        world: ranks.
        repeat: whether epoch follows epoch.
        decoder: the decoder and why it.
    """

    sources: tuple[tuple[str, int, int, int], ...]
    batch_size: int
    world: int
    repeat: bool = True
    decoder: str = ""

    @property
    def samples(self) -> int:
        """Samples in all sources."""
        return sum(samples for _, _, samples, _ in self.sources)

    @property
    def shards(self) -> int:
        """Shards of all sources."""
        return sum(shards for _, shards, _, _ in self.sources)

    @property
    def batches_per_epoch(self) -> float:
        """Global batches in which the first source is seen once; its rest opens the next epoch."""
        _, _, samples, quota = self.sources[0]
        return samples / quota

    def __str__(self) -> str:
        lines = []
        for name, shards, samples, quota in self.sources:
            passes = f"an epoch every {samples / quota:.1f} batches" if self.repeat else "one pass"
            lines.append(
                f"{name}: {samples} samples in {shards} shard{'s' * (shards != 1)}, {quota} of each batch, {passes}"
            )
        share = self.batch_size // self.world
        ranks = f" on {self.world} ranks, {share} clips each" if self.world > 1 else ""
        lines.append(f"global batch of {self.batch_size} clips{ranks}")
        if self.decoder:
            lines.append(f"decoder: {self.decoder}")
        return "\n".join(lines)


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


def global_batch(
    sources: Sequence[IndexedSource], counts: Sequence[int], positions: Sequence[int], repeat: bool
) -> list[Place | None]:
    """The samples of the global batch that begins at the sources' positions.

    The sources lie evenly in the batch, so that every rank's slice has its share of each.

    Args:
        sources: the sources.
        counts: how many samples of each.
        positions: the next sample of each, epochs laid end to end.
        repeat: whether epoch follows epoch; else rows past the end of a source are None.
    """
    rows: list[tuple[float, int, Place | None]] = []
    for number, (source, count, position) in enumerate(zip(sources, counts, positions, strict=True)):
        for row in range(count):
            over = not repeat and position + row >= len(source)
            rows.append(((row + 0.5) / count, number, None if over else source.sample(position + row)))
    rows.sort(key=lambda row: row[:2])
    return [place for _, _, place in rows]
