"""Describing shards: how many clips, hours, labels, sound and sentences, from the indices alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mmssl.data.shards.index import read_index
from mmssl.data.shards.spec import expand_shards
from mmssl.data.storage import Shard, status


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """Facts about a set of shards; shares are of the clips whose index says it, None if none does.

    `seconds` are (shortest, median, longest) clip; `labels` counts clips by label, the most frequent first.
    """

    shards: tuple[Shard, ...]
    clips: int
    hours: float
    bytes: int
    seconds: tuple[float, float, float] | None
    labels: dict[str, int]
    unlabelled: int
    sound_share: float | None
    sentence_share: float | None
    sentences: int
    without_media: int


def describe_shards(spec: str | list[str]) -> ShardInfo:
    """Describe the shards of a specification (see `expand_shards`).

    Raises:
        UserError: a shard is missing or unreadable.
    """
    paths = expand_shards(spec)
    indices = [read_index(path) for path in paths]
    samples = [sample for index in indices for sample in index.samples]
    durations = sorted(sample.duration for sample in samples if sample.duration is not None)
    labels = Counter(sample.label for sample in samples if sample.label is not None)
    sound = [sample.has_audio for sample in samples if sample.has_audio is not None]
    counts = [sample.n_sentences for sample in samples if sample.n_sentences is not None]
    return ShardInfo(
        shards=tuple(paths),
        clips=len(samples),
        hours=sum(durations) / 3600,
        bytes=sum(status(path)[0] for path in paths),
        seconds=(durations[0], durations[len(durations) // 2], durations[-1]) if durations else None,
        labels=dict(labels.most_common()),
        unlabelled=len(samples) - sum(labels.values()),
        sound_share=sum(sound) / len(sound) if sound else None,
        sentence_share=sum(count > 0 for count in counts) / len(counts) if counts else None,
        sentences=sum(counts),
        without_media=sum(index.without_media for index in indices),
    )
