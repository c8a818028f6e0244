"""The index of a shard: where each sample's members lie in the tar, and what the order must know of them.

Beside ``train-000000.tar`` lies ``train-000000.idx``, JSON lines. The first line is the header
``{"mmssl_index": 1, "tar": name, "size": bytes, "mtime_ns": int, "samples": int, "keys": digest, ...}`` (see
`index_file.Header`), each further line one sample::

    {"key": ..., "members": {"mp4": [offset, size], ...}, "duration": seconds or null,
     "has_audio": bool or null, "n_sentences": int or null, "label": str or null}

Offsets are those of the member's bytes (not of its header), so that a sample is read with `os.pread` or with a range
request. Tars that mmssl did not write (video2dataset, plain webdataset) are indexed by walking their headers once.
The index of a remote tar, and of one whose folder cannot be written, goes to the cache folder, named after the tar's
place, size and version.

Conventions of webdataset: a sample is a run of members with one key, the key is the member's path up to the first
dot of its file name, the extension is the rest in lower case, members starting with ``__`` are skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import overload

from mmssl.data.shards.entry import MEDIA as MEDIA
from mmssl.data.shards.entry import SampleEntry as SampleEntry
from mmssl.data.shards.entry import ShardIndex as ShardIndex
from mmssl.data.shards.index_file import Header, index_of, is_index, load, read_header, save, status_in
from mmssl.data.shards.members import read_members as read_members
from mmssl.data.shards.spec import expand_shards as expand_shards
from mmssl.data.shards.walk import walk
from mmssl.data.storage.cache_folder import cache_folder
from mmssl.data.storage.ranges import status as status_of
from mmssl.data.storage.url import Shard, Url
from mmssl.errors import UserError

Status = tuple[int, int | str]  # size in bytes, and a version that changes with the contents


@overload
def index_path(tar_path: Path) -> Path: ...
@overload
def index_path(tar_path: Url) -> Url: ...
def index_path(tar_path: Shard) -> Shard:
    """Where the index of a tar lies: the same name with the suffix ``.idx``."""
    return tar_path.with_suffix(".idx")


def cached_index_path(shard: Shard, status: Status) -> Path:
    """Where the index of a tar lies that is remote or whose folder cannot be written."""
    place = str(shard) if isinstance(shard, Url) else os.path.abspath(shard)
    name = "\x1f".join((place, *map(str, status)))
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return cache_folder() / "indices" / f"{digest}.idx"


def index_places(shard: Shard, status: Status) -> Iterator[Path]:
    """Where a stored index of the tar may lie on this machine, in the order in which they are looked at."""
    if isinstance(shard, Path):
        yield index_path(shard)
    yield cached_index_path(shard, status)


def find_header(shard: Shard, status: Status) -> Header | None:
    """The header of a stored index of the tar with this status; None if there is none that says all a plan needs."""
    for place in index_places(shard, status):
        header = read_header(place)
        if header is not None and header.status == status:
            return header
    return None


def read_index(shard: Shard, *, store: bool = True) -> ShardIndex:
    """Return the index of a tar: the stored one if it is of this tar, else a new one made by walking the headers.

    A stored index holds if size and modification time are the tar's; with another time (a copied shard) its
    offsets are compared with the headers. With `store` a new index is kept beside the tar, or in the cache folder
    where the tar's folder cannot be written.

    Raises:
        UserError: the tar is missing, empty, compressed, or holds no sample with video; `RemoteError` if it cannot be
            fetched.
    """
    if isinstance(shard, Url):
        from mmssl.data.shards.remote_index import read_remote_index

        return read_remote_index(shard, store=store)
    shard = Path(shard)
    status = status_of(shard)
    beside = load(index_path(shard))
    for stored in (beside, load(cached_index_path(shard, status))):
        if stored is not None and status_in(stored[0]) == status:
            return index_of(shard, stored)
    walked = walk(shard, status[0])
    if beside is not None and beside[0].get("size") == status[0] and _same_members(beside[1], walked.samples):
        walked = ShardIndex(shard, beside[1], walked.without_media, walked.cut_short)
    if not walked.samples:
        raise UserError(f"shard '{shard}' holds no sample with video (members {', '.join(MEDIA)})")
    if store:
        keep_index(walked, status)
    return walked


def keep_index(index: ShardIndex, status: Status) -> None:
    """Store an index beside its tar, or in the cache folder if it is remote or another program's index lies there."""
    header = Header.of(index, status)
    for place in index_places(index.path, status):
        cached = place.parent == cache_folder() / "indices"
        if not cached and place.exists() and not is_index(place):
            continue
        with contextlib.suppress(OSError):  # a read-only folder: at worst the index is made again next time
            if cached:
                place.parent.mkdir(parents=True, exist_ok=True)
            save(place, index.path.name, header, index.samples)
            return


def write_index(
    tar_path: Path,
    samples: Iterable[SampleEntry],
    *,
    to: Path | None = None,
    without_media: int = 0,
    cut_short: str | None = None,
) -> Path:
    """Write the index of `tar_path` (which must be complete) beside it, or at `to`; the file appears whole."""
    target = to or index_path(tar_path)
    index = ShardIndex(tar_path, list(samples), without_media, cut_short)
    save(target, target.with_suffix(".tar").name, Header.of(index, status_of(tar_path)), index.samples)
    return target


def _same_members(a: list[SampleEntry], b: list[SampleEntry]) -> bool:
    return len(a) == len(b) and all(x.key == y.key and x.members == y.members for x, y in zip(a, b, strict=True))
