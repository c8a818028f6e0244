"""Indexing a tar by walking its headers once, local or remote, with the conventions of webdataset."""

from __future__ import annotations

import contextlib
import json
import math
import os
from typing import Any

from mmssl.data.shards.entry import MEDIA, SampleEntry, ShardIndex
from mmssl.data.shards.tar_headers import CutShort, members
from mmssl.data.storage.shard_cache import read_cached
from mmssl.data.storage.url import Shard, Url
from mmssl.errors import UserError

_LARGEST_JSON = 1 << 20
LOCAL_WINDOW = 4 << 10
REMOTE_WINDOW, LARGEST_WINDOW = 256 << 10, 8 << 20


def walk(shard: Shard, size: int) -> ShardIndex:
    """Index a tar of `size` bytes from its headers; descriptions (.json, .cls) are read for label, duration and sound.

    Of a tar that was cut short the samples before the cut are indexed; `ShardIndex.cut_short` names the member in
    which it ends. Names are keys and nothing else: no file is ever written under one.

    Raises:
        UserError: it is no uncompressed tar, nothing before a cut is whole, or two samples have the same key.
    """
    groups: list[tuple[str, dict[str, tuple[int, int]]]] = []
    described: list[dict[str, bytes]] = []
    seen: set[str] = set()
    cut_short: str | None = None
    with ReadAhead(shard, size) as read:
        try:
            for member in members(read, size, str(shard)):
                folder, _, name = member.name.rpartition("/")
                if name.startswith("__") or "." not in name:
                    continue
                stem, extension = name.split(".", 1)
                key = f"{folder}/{stem}" if folder else stem
                extension = extension.lower()
                if member.size < 0:
                    raise UserError(f"shard '{shard}': the header of '{member.name}' is damaged; copy it again")
                if not groups or groups[-1][0] != key:
                    if key in seen:
                        raise UserError(f"shard '{shard}' has two samples with the key '{key}'")
                    seen.add(key)
                    groups.append((key, {}))
                    described.append({})
                if extension in groups[-1][1]:
                    raise UserError(f"shard '{shard}' has two members '{key}.{extension}'")
                groups[-1][1][extension] = (member.at, member.size)
                if extension in ("json", "cls") and member.size <= _LARGEST_JSON:
                    described[-1][extension] = read(member.at, member.size)
        except CutShort as cut:
            cut_short = cut.name
            _drop_torn_sample(groups, cut.name)
    samples = [
        _described(key, places, known)
        for (key, places), known in zip(groups, described, strict=False)
        if any(name in places for name in MEDIA)
    ]
    if cut_short is not None and not samples:
        raise UserError(f"shard '{shard}' is cut short within '{cut_short}', before one sample is whole; copy it again")
    return ShardIndex(shard, samples, without_media=len(groups) - len(samples), cut_short=cut_short)


def _drop_torn_sample(groups: list[tuple[str, dict[str, tuple[int, int]]]], name: str) -> None:
    """Leave out the last sample if the member in which the tar ends belongs, or may belong, to it."""
    folder, _, file = name.rpartition("/")
    stem = file.split(".", 1)[0]
    key = f"{folder}/{stem}" if folder else stem
    if groups and (groups[-1][0] == key or name.startswith("(")):
        groups.pop()


class ReadAhead:
    """Answers (at, count) with bytes of a shard, and reads ahead; a local file is opened once.

    A remote tar is read on in windows that double while the next header lies within one; behind a member larger than
    that the reading starts anew with a small window.
    """

    def __init__(self, shard: Shard, size: int) -> None:
        self.shard, self.size = shard, size
        self._descriptor = None if isinstance(shard, Url) else os.open(shard, os.O_RDONLY)
        self._window = LOCAL_WINDOW if self._descriptor is not None else REMOTE_WINDOW
        self._buffer, self._start = b"", 0

    def __call__(self, at: int, count: int) -> bytes:
        """The bytes [at, at + count), fewer at the end of the shard."""
        offset = at - self._start
        if not 0 <= offset <= len(self._buffer) - count:
            self._fill(at, count)
            offset = 0
        return self._buffer[offset : offset + count]

    def _fill(self, at: int, count: int) -> None:
        if self._descriptor is not None:
            self._buffer = os.pread(self._descriptor, max(count, self._window), at)
        else:
            reached = self._start + len(self._buffer)
            going_on = bool(self._buffer) and self._start <= at <= reached + self._window
            self._window = min(self._window * 2, LARGEST_WINDOW) if going_on else REMOTE_WINDOW
            length = max(min(max(count, self._window), self.size - at), 0)
            assert isinstance(self.shard, Url)
            self._buffer = read_cached(self.shard, at, length)
        self._start = at

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _described(key: str, places: dict[str, tuple[int, int]], known: dict[str, bytes]) -> SampleEntry:
    meta: dict[str, Any] = {}
    if "json" in known:
        with contextlib.suppress(ValueError):  # a foreign description may be anything
            found = json.loads(known["json"])
            meta = found if isinstance(found, dict) else {}
    label = meta.get("label")
    if label is None and "cls" in known:
        label = known["cls"].decode(errors="replace").strip()
    duration, has_audio, count = meta.get("duration"), meta.get("has_audio"), meta.get("n_sentences")
    return SampleEntry(
        key=key,
        members=places,
        duration=float(duration) if isinstance(duration, int | float) and 0 < duration < math.inf else None,
        has_audio=has_audio if isinstance(has_audio, bool) else None,
        label=None if label is None else str(label),
        n_sentences=count if isinstance(count, int) else None,
    )
