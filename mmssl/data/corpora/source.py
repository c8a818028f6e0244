"""What a corpus lists: media files, and the segments of them that become clips."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

LONGEST_KEY = 60
KEY = re.compile(r"[0-9A-Za-z_-]{1,70}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a media file, in seconds on the clock a player shows; `end` None is the end of the file.

    `truth` and `extra` are JSON values carried into the description of the clips. `key` names the first clip.
    `dense` is the file with the dense truth of the media file, in which frames count from its beginning. `folds` says
    on which side ("train", "val", "test") of each official fold the clips are; a fold that is not named has them on
    neither. `group` names what was recorded together: clips of one group belong on one side of any split.
    """

    start: float = 0.0
    end: float | None = None
    key: str | None = None
    label: str | None = None
    split: str | None = None
    subtitles: Path | None = None
    truth: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    dense: Path | None = None
    folds: dict[str, str] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A media file: `name` is its path relative to the corpus, `key` the stem of its clips' keys.

    `mark` names the data set and its annotations (see `mmssl.data.corpora.files.Annotations`) in the description of
    the clips. `sound` is the file with the sound of a still picture.
    """

    path: Path
    name: str
    key: str
    segments: tuple[Segment, ...] = (Segment(),)
    mark: dict[str, Any] = field(default_factory=dict)
    sound: Path | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something that a corpus lists and that cannot become a clip, with a short cause."""

    name: str
    cause: str
    message: str
    start: float | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The sources of a corpus, what cannot be used, and how many files were passed over by suffix.

    `record` says of a known data set its name and the digests of its annotation files.
    """

    sources: tuple[Source, ...]
    unusable: tuple[Unusable, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)
    record: dict[str, Any] | None = None


def key_of(name: str) -> str:
    """Make a key ([0-9A-Za-z_-], 60 characters at most) of a relative path: suffix off, the rest spelled plainly."""
    stem = name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    key = re.sub(r"[^0-9A-Za-z_-]+", "_", plain).strip("_")
    if not key:
        return f"clip-{digest(name)}"
    return key if len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 9]}-{digest(name)}"


def digest(name: str) -> str:
    """Return eight hexadecimal digits that tell apart names whose plain spellings are alike."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]


def with_unique_keys(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Append a digest of the name to every key that more than one source has (letter case ignored)."""
    listed = list(sources)
    uses = Counter(source.key.lower() for source in listed)
    return tuple(
        replace(source, key=f"{source.key}-{digest(source.name)}") if uses[source.key.lower()] > 1 else source
        for source in listed
    )
