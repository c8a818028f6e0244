"""What lies where: shards of a folder or glob of an object store, and whether all that are named are there."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from mmssl.data.storage.url import Url
from mmssl.errors import UserError

THREADS = 16
_GLOB = "*?["


def list_shards(url: Url) -> list[Url]:
    """The shard of an address, or all ``*.tar`` of a folder or glob, sorted.

    Raises:
        UserError: an http address that is a folder or a glob (its servers list nothing), or one that matches nothing.
    """
    if url.scheme in ("http", "https"):
        if any(sign in url.path for sign in _GLOB) or url.address.endswith("/") or not url.suffix:
            raise UserError(
                f"'{url}': an http server lists no files; name each shard, for instance with a range in braces "
                "(train-{000000..000127}.tar)"
            )
        return [url]
    is_glob = any(sign in url.address for sign in _GLOB)
    if url.suffix == ".tar" and not is_glob:
        return [url]
    from mmssl.data.storage.fsspec_ranges import file_system, patiently

    pattern = url.address if is_glob else url.address.rstrip("/") + "/*.tar"
    found: list[Any] = patiently(url, partial(file_system(url).glob, pattern))
    shards = [Url(f"{url.scheme}://{key}", url.settings) for key in sorted(found)]
    if not shards:
        raise UserError(f"no shard matches '{url}'" if is_glob else f"the folder '{url}' holds no shards (*.tar)")
    return shards


def missing_of(urls: Iterable[Url]) -> list[Url]:
    """Those that the servers do not have, asked many at once.

    Raises:
        RemoteError: a server does not say.
    """
    urls = list(urls)
    if not urls:
        return []
    with ThreadPoolExecutor(min(THREADS, len(urls))) as threads:
        there = list(threads.map(Url.exists, urls))
    return [url for url, exists in zip(urls, there, strict=True) if not exists]
