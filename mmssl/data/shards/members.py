"""Reading the members of a sample: bytes at known places of a tar, without walking it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmssl.data.shards.entry import SampleEntry
from mmssl.data.shards.local_reader import LocalReader
from mmssl.data.storage.url import Shard, Url
from mmssl.errors import UserError

LARGEST_GAP = 64 << 10  # read along with the members around it rather than left out for a request more

_OF_THREAD = threading.local()  # one reader each: another thread may not close what this one reads


def read_members(shard: Shard, entry: SampleEntry, extensions: Iterable[str] | None = None) -> dict[str, bytes]:
    """Read the members of a sample (all, or those of `extensions` that it has) without walking the tar.

    Of a remote shard, members that lie together are one request.

    Raises:
        UserError: the shard is missing or ends before the member does; `RemoteError` if it cannot be fetched.
    """
    wanted = entry.members if extensions is None else [name for name in extensions if name in entry.members]
    places = {name: entry.members[name] for name in wanted}
    members = _read_remote(shard, places) if isinstance(shard, Url) else _read_local(shard, places)
    for name, data in members.items():
        if len(data) != places[name][1]:
            raise UserError(
                f"shard '{shard}' ends within '{entry.key}.{name}': it changed after it was indexed; "
                "run 'mmssl shards check' on it"
            )
    return members


def read_packets(shard: Shard, entry: SampleEntry) -> bytes | None:
    """The packet table of a sample that lies beside its shard; None where it has none or it cannot be read."""
    if entry.packets is None:
        return None
    tables, places = shard.with_suffix(".pkt"), {"pkt": entry.packets}
    try:
        return (_read_remote(tables, places) if isinstance(tables, Url) else _read_local(tables, places))["pkt"]
    except (UserError, OSError):  # a copy without its tables: the clip is read through the demuxer
        return None


def _read_local(tar_path: Path, places: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
    reader = getattr(_OF_THREAD, "reader", None)
    if reader is None:
        reader = _OF_THREAD.reader = LocalReader()
    found: dict[str, bytes] = reader.read(tar_path, places)
    return found


def _read_remote(url: Url, places: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
    from mmssl.data.storage.shard_cache import read_cached

    found: dict[str, bytes] = {}
    for first, end, names in _runs(places):
        data = read_cached(url, first, end - first)
        for name in names:
            at, size = places[name]
            found[name] = data[at - first : at - first + size]
    return {name: found[name] for name in places}


def _runs(places: Mapping[str, tuple[int, int]]) -> list[tuple[int, int, list[str]]]:
    """(first byte, byte after the last, members) of the members that lie together."""
    runs: list[tuple[int, int, list[str]]] = []
    for name, (at, size) in sorted(places.items(), key=lambda item: item[1]):
        if runs and at - runs[-1][1] <= LARGEST_GAP:
            first, end, names = runs[-1]
            runs[-1] = (first, max(end, at + size), [*names, name])
        else:
            runs.append((at, at + size, [name]))
    return runs
