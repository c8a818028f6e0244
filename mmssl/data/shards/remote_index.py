"""The index of a remote shard: kept locally, else the file beside the tar, else made by walking its headers."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmssl.data.shards.entry import MEDIA, SampleEntry, ShardIndex
from mmssl.data.shards.index import index_path, load, read_index, save
from mmssl.data.shards.walk import walk
from mmssl.data.storage import MissingError, RefusedError, Shard, Url, read_range, status
from mmssl.data.storage.cache_folder import cache_folder
from mmssl.data.storage.listing import THREADS
from mmssl.errors import UserError


def read_indices(shards: Sequence[Shard]) -> list[ShardIndex]:
    """The indices of shards in their order, those of remote ones many at a time.

    Raises:
        UserError: see `read_index`.
    """
    if not any(isinstance(shard, Url) for shard in shards):
        return [read_index(shard) for shard in shards]
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(read_index, shards))


def kept_index_path(url: Url, size: int, version: int | str) -> Path:
    """Where the index of a remote tar of this size and version is kept."""
    said = "\x1f".join((str(url), str(size), str(version)))
    digest = hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return cache_folder() / "indices" / f"{digest}.idx"


def read_remote_index(url: Url, *, store: bool = True) -> ShardIndex:
    """Return the index of a remote tar; what is fetched or made is kept for the next time, with `store`.

    The file beside the tar is taken if it says the tar's size. Its time of change is that of another machine, so no
    headers are compared.

    Raises:
        UserError: the tar is compressed or holds no sample with video.
        RemoteError: it is missing, refused or cannot be fetched.
    """
    size, version = status(url)
    kept = kept_index_path(url, size, version)
    found = load(kept)
    if found is not None:
        return _index(url, found)
    found = _beside(url)
    if found is not None and found[0].get("size") == size:
        index = _index(url, found)
    else:
        index = walk(url, size)
    if not index.samples:
        raise UserError(f"shard '{url}' holds no sample with video (members {', '.join(MEDIA)})")
    if store:
        header = {"size": size, "version": version, "without_media": index.without_media, "cut_short": index.cut_short}
        with contextlib.suppress(OSError):  # at worst it is made again next time
            kept.parent.mkdir(parents=True, exist_ok=True)
            save(kept, url.name, header, index.samples)
    return index


def _index(url: Url, found: tuple[dict[str, Any], list[SampleEntry]]) -> ShardIndex:
    header, samples = found
    return ShardIndex(url, samples, int(header.get("without_media", 0)), header.get("cut_short"))


def _beside(url: Url) -> tuple[dict[str, Any], list[SampleEntry]] | None:
    """The index beside the tar; None if there is none that can be read."""
    place = index_path(url)
    try:
        size, _ = status(place)
        content = read_range(place, 0, size)
    except (MissingError, RefusedError):  # stores refuse what is not there to those who may not list
        return None
    with tempfile.NamedTemporaryFile(suffix=".idx") as file:
        file.write(content)
        file.flush()
        return load(Path(file.name))
