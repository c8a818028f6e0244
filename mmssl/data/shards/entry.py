"""What an index says of a sample, and of a shard."""

from __future__ import annotations

from dataclasses import dataclass

from mmssl.data.storage.url import Shard

MEDIA = ("mp4", "webm", "mkv", "mov", "avi", "m4v", "mpg", "ts")


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """One sample of a shard.

    `members` gives (offset of the bytes in the tar, size) for each extension. `duration` is in seconds. What a
    foreign tar does not say is None. `packets` is the place of the packet table in the file of tables beside a tar
    that has none in it.
    """

    key: str
    members: dict[str, tuple[int, int]]
    duration: float | None = None
    has_audio: bool | None = None
    label: str | None = None
    n_sentences: int | None = None
    packets: tuple[int, int] | None = None

    @property
    def media(self) -> str:
        """Extension of the member with picture and sound (``"mp4"`` in shards of mmssl)."""
        return next(extension for extension in MEDIA if extension in self.members)


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """All samples of one tar, in the order in which they lie in it; `without_media` counts those left out.

    `cut_short` names the member in which a tar ends that was not copied or written to its end.
    """

    path: Shard
    samples: list[SampleEntry]
    without_media: int = 0
    cut_short: str | None = None

    def __len__(self) -> int:
        return len(self.samples)
