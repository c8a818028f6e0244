"""The files of a known data set: where its videos and lists lie, which listed ones are missing, and a list's digest.

A data set is found below a folder whatever its videos' folders are called: people unpack archives in many ways. What
a list names is looked for by file name without suffix and letter case, in Unicode's composed form.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmssl.data.corpora.source import Listing, Segment, Source, Unusable, key_of, with_unique_keys
from mmssl.data.media import VIDEO_SUFFIXES
from mmssl.data.subtitles import decode_text
from mmssl.errors import UserError

_SHOWN = 3
_LISTED_DIGESTS = 20  # annotation files whose digests build.json holds one by one


def plain(name: str) -> str:
    """A file name as it is compared: composed Unicode, lower case."""
    return unicodedata.normalize("NFC", name).lower()


@dataclass(frozen=True)
class Tree:
    """All files below a folder, hidden ones left out; links to folders are followed, each folder once.

    `videos` maps the stem of a video (as `plain` spells it) to its paths relative to `root`, sorted; `others` maps
    the whole name of every other file likewise.
    """

    root: Path
    videos: dict[str, list[str]]
    others: dict[str, list[str]]

    @classmethod
    def of(cls, root: Path) -> Tree:
        """Walk a folder.

        Raises:
            UserError: it is none.
        """
        if not root.is_dir():
            raise UserError(f"source '{root}' is no folder; name the folder of the data set")
        videos: dict[str, list[str]] = defaultdict(list)
        others: dict[str, list[str]] = defaultdict(list)
        seen: set[str] = set()
        for folder, below, files in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
            if real in seen:
                continue
            seen.add(real)
            relative = Path(folder).relative_to(root)
            for name in files:
                if not name.startswith("."):
                    stem, suffix = os.path.splitext(name)
                    known = suffix.lower() in VIDEO_SUFFIXES
                    (videos if known else others)[plain(stem if known else name)].append((relative / name).as_posix())
        return cls(root, *({name: sorted(paths) for name, paths in found.items()} for found in (videos, others)))

    def video(self, name: str, below: str | None = None) -> str | None:
        """The path of the video of that stem, in a folder called `below` where several have it; None if none has."""
        found = self.videos.get(plain(name), [])
        if below is not None and len(found) > 1:
            wanted = plain(below)
            found = [path for path in found if wanted in (plain(part) for part in path.split("/")[:-1])] or found
        return found[0] if found else None

    def other(self, name: str) -> Path | None:
        """The file of that name (letter case ignored), the one with the shortest path where several have it."""
        found = self.others.get(plain(name), [])
        return self.root / min(found, key=lambda path: (path.count("/"), path)) if found else None

    def need(self, name: str, what: str) -> Path:
        """The file of that name.

        Args:
            name: of the file.
            what: what it is and where people get it, for the message.

        Raises:
            UserError: there is none.
        """
        found = self.other(name)
        if found is None:
            raise UserError(f"list file missing: there is no '{name}' below '{self.root}' ({what})")
        return found


def text_of(path: Path) -> str:
    """The text of a list, whatever its encoding; the byte order mark is left out.

    Raises:
        UserError: it cannot be read or is no text.
    """
    try:
        text, _ = decode_text(path.read_bytes())
    except OSError as error:
        raise UserError(f"list '{path}' cannot be read ({error.strerror})") from None
    if text is None:
        raise UserError(f"list '{path}' is no text")
    return text.lstrip("\ufeff")


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list with their numbers, without the spaces and line ends around them; empty ones left out."""
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


@dataclass(frozen=True)
class Annotations:
    """The annotation files of a data set and their digest.

    `sha256` is that of the file where there is one; of several it is the SHA-256 of their lines
    ``{sha256}  {name}``, sorted by name, as sha256sum prints them.
    """

    name: str
    digests: dict[str, str]

    @classmethod
    def of(cls, name: str, root: Path, paths: Iterable[Path]) -> Annotations:
        """Read the files; `name` is the data set's. Files called alike are told apart by their folders."""
        given = list(paths)
        uses = Counter(path.name for path in given)
        called = {path.name if uses[path.name] == 1 else path.relative_to(root).as_posix(): path for path in given}
        return cls(name, {key: hashlib.sha256(called[key].read_bytes()).hexdigest() for key in sorted(called)})

    @property
    def sha256(self) -> str | None:
        """The digest of all; None where there are no annotation files."""
        if len(self.digests) < 2:
            return next(iter(self.digests.values()), None)
        lines = "".join(f"{digest}  {name}\n" for name, digest in self.digests.items())
        return hashlib.sha256(lines.encode()).hexdigest()

    def mark(self) -> dict[str, Any]:
        """What the description of each clip says: ``corpus``, and ``annotations`` where there are annotation files."""
        if self.sha256 is None:
            return {"corpus": self.name}
        only = next(iter(self.digests)) if len(self.digests) == 1 else f"{len(self.digests)} files"
        return {"corpus": self.name, "annotations": {"file": only, "sha256": self.sha256}}

    def record(self) -> dict[str, Any]:
        """What `build.json` says: the same, and the digest of each file where they are few."""
        mark = self.mark()
        if "annotations" in mark and len(self.digests) <= _LISTED_DIGESTS:
            mark["annotations"]["files"] = self.digests
        return mark


class Found:
    """The listed clips of a data set, gathered one by one; what is listed and not there is counted."""

    def __init__(self, name: str, root: Path, allow_missing: bool) -> None:
        self.name, self.root, self.allow_missing = name, root, allow_missing
        self._segments: dict[str, list[Segment]] = {}
        self._sounds: dict[str, Path] = {}
        self._missing: list[str] = []
        self.unusable: list[Unusable] = []
        self.ignored: dict[str, int] = {}

    def add(self, listed: str, path: str | None, *segments: Segment, sound: Path | None = None) -> None:
        """Add a clip.

        Args:
            listed: how the list names it.
            path: relative to the root; None if there is no such file.
            segments: what becomes of it.
            sound: the file with its sound, where it is a still picture.
        """
        if path is None:
            self._missing.append(listed)
            return
        self._segments.setdefault(path, []).extend(segments)
        if sound is not None:
            self._sounds[path] = sound

    def pass_over(self, tree: Tree) -> None:
        """Count the videos of the tree that nothing has named."""
        others = sum(path not in self._segments for paths in tree.videos.values() for path in paths)
        if others:
            self.ignored["videos that no list names"] = others

    def listing(self, annotations: Annotations) -> Listing:
        """All that was found.

        Raises:
            UserError: files are missing and may not be, or none is there.
        """
        missing, total = len(self._missing), len(self._missing) + len(self._segments)
        if missing and (not self.allow_missing or not self._segments):
            shown = ", ".join(f"'{name}'" for name in self._missing[:_SHOWN])
            way = (
                "is this the folder that holds the videos?"
                if not self._segments
                else "get them, or set allow_missing to build without them"
            )
            raise UserError(
                f"{self.name}: {missing} of the {total} files that the lists name are not below '{self.root}', the "
                f"first are {shown}; {way}"
            )
        sources = [
            Source(self.root / path, path, key_of(path), tuple(segments), annotations.mark(), self._sounds.get(path))
            for path, segments in self._segments.items()
        ]
        sources.sort(key=lambda source: source.name)
        gone = [Unusable(name, "file missing", f"{self.name} lists it, and it is not there") for name in self._missing]
        return Listing(with_unique_keys(sources), (*self.unusable, *gone), self.ignored, annotations.record())


def without_labels(listing: Listing) -> Listing:
    """The listing with no labels."""
    sources = [replace(s, segments=tuple(replace(g, label=None) for g in s.segments)) for s in listing.sources]
    return replace(listing, sources=tuple(sources))


def natural(names: Sequence[str]) -> list[str]:
    """Names sorted with their numbers by value."""
    return sorted(names, key=lambda name: (int(name) if name.isdigit() else -1, name))
