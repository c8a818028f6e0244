"""The index of a remote shard: kept locally, else the file beside the tar, else made by walking its headers."""

from __future__ import annotations

from typing import Any

from mmssl.data.shards.entry import MEDIA, SampleEntry, ShardIndex
from mmssl.data.shards.index import cached_index_path, index_path, keep_index
from mmssl.data.shards.index_file import index_of, load, parse
from mmssl.data.shards.walk import walk
from mmssl.data.storage import MissingError, RefusedError, Url, read_range, status
from mmssl.errors import UserError


def read_remote_index(url: Url, *, store: bool = True) -> ShardIndex:
    """Return the index of a remote tar; what is fetched or made is kept for the next time, with `store`.

    The file beside the tar is taken if it says the tar's size. Its time of change is that of another machine, so no
    headers are compared.

    Raises:
        UserError: the tar is compressed or holds no sample with video.
        RemoteError: it is missing, refused or cannot be fetched.
    """
    size, version = status(url)
    found = load(cached_index_path(url, (size, version)))
    if found is not None:
        return index_of(url, found)
    found = _beside(url)
    if found is not None and found[0].get("size") == size:
        index = index_of(url, found)
    else:
        index = walk(url, size)
    if not index.samples:
        raise UserError(f"shard '{url}' holds no sample with video (members {', '.join(MEDIA)})")
    if store:
        keep_index(index, (size, version))
    return index


def _beside(url: Url) -> tuple[dict[str, Any], list[SampleEntry]] | None:
    """The index beside the tar; None if there is none that can be read."""
    place = index_path(url)
    try:
        size, _ = status(place)
        return parse(read_range(place, 0, size))
    except (MissingError, RefusedError):  # stores refuse what is not there to those who may not list
        return None
