"""Ranges of bytes of a shard, wherever it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mmssl.data.storage.url import Shard, Url
from mmssl.errors import UserError


def status(shard: Shard) -> tuple[int, int | str]:
    """(size in bytes, version) of a shard; the version changes with the contents.

    The version is the time of change in ns of a local file, the ETag or date of a remote one ("" if there is none).

    Raises:
        UserError: the shard does not exist; `MissingError`, `RefusedError` or `RemoteError` if it is remote.
    """
    if isinstance(shard, Url):
        if shard.scheme in ("http", "https"):
            from mmssl.data.storage.http_ranges import http_status

            return http_status(shard)
        from mmssl.data.storage.fsspec_ranges import fsspec_status

        return fsspec_status(shard)
    try:
        found = Path(shard).stat()
    except FileNotFoundError:
        raise UserError(f"shard '{shard}' does not exist; check the path or the range in braces") from None
    return found.st_size, found.st_mtime_ns


def read_range(shard: Shard, at: int, size: int) -> bytes:
    """The bytes [at, at + size) of a shard; fewer only where the shard ends before.

    Raises:
        UserError: the shard does not exist; `MissingError`, `RefusedError` or `RemoteError` if it is remote.
    """
    if isinstance(shard, Url):
        return b"".join(stream_range(shard, at, size))
    try:
        descriptor = os.open(shard, os.O_RDONLY)
    except FileNotFoundError:
        raise UserError(f"shard '{shard}' does not exist any more") from None
    try:
        return os.pread(descriptor, size, at)
    finally:
        os.close(descriptor)


def stream_range(url: Url, at: int, size: int, whole: bool = False) -> Iterator[bytes]:
    """The bytes of a range of a remote shard in pieces, as they come; see `read_range`.

    With `whole` a server that knows no ranges may be read from the start of the shard, however long that takes.
    """
    if url.scheme in ("http", "https"):
        from mmssl.data.storage.http_ranges import http_stream

        return http_stream(url, at, size, whole)
    from mmssl.data.storage.fsspec_ranges import fsspec_stream

    return fsspec_stream(url, at, size)
