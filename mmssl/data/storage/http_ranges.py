"""Ranges of bytes over http(s), going on from the byte reached when a connection breaks."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import time
from collections.abc import Iterator

from mmssl.data.storage.errors import Interrupted, MissingError, RefusedError, RemoteError
from mmssl.data.storage.http_connections import Answer, request, said
from mmssl.data.storage.patience import Patience
from mmssl.data.storage.url import Url

CHUNK = 256 << 10
LARGEST_SKIP = 16 << 20  # read and thrown away of a server that knows no ranges, a range
_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)")
_PASSING = frozenset({408, 425, 429})


def http_status(url: Url) -> tuple[int, str]:
    """(size, version) of a file: the length that the server says, and its ETag or date of change.

    Raises:
        RemoteError: the server does not say, or has no such file.
    """
    patience = Patience(url.settings, str(url))
    while True:
        try:
            answer = request("HEAD", url.address, {}, url.settings.timeout)
            answer.body.read()
            answer.close()
            if answer.status == 200 and answer.headers.get("Content-Length", "").isdigit():
                return int(answer.headers["Content-Length"]), _version(answer)
            if answer.status not in (200, 403, 405, 501):  # a signed address may allow GET alone
                _refuse(answer, url)
            return _status_by_get(url)
        except Interrupted as error:
            patience.wait(error)


def _status_by_get(url: Url) -> tuple[int, str]:
    answer = request("GET", url.address, {"Range": "bytes=0-0"}, url.settings.timeout)
    try:
        if answer.status == 416:  # the first byte of an empty file
            return 0, _version(answer)
        if answer.status == 206:
            total = _RANGE.match(answer.headers.get("Content-Range", ""))
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer.body.read()
            if total and total[3] != "*":
                return int(total[3]), _version(answer)
        elif answer.status == 200 and answer.headers.get("Content-Length", "").isdigit():
            return int(answer.headers["Content-Length"]), _version(answer)
        elif answer.status != 200:
            _refuse(answer, url)
    finally:
        answer.close()
    raise RemoteError(f"'{url}': the server does not say how long it is; copy the shard first")


def http_stream(url: Url, at: int, size: int, whole: bool = False) -> Iterator[bytes]:
    """The bytes [at, at + size) in pieces, fewer if the file ends before; broken connections are made good.

    A server that knows no ranges is read from the start of the file: as far as 16 MiB, or with `whole` any length.

    Raises:
        RemoteError: the patience of the settings is used up, or the server refuses.
    """
    patience = Patience(url.settings, str(url))
    reached, end = at, at + size
    version: str | None = None
    while reached < end:
        try:
            answer = request("GET", url.address, {"Range": f"bytes={reached}-{end - 1}"}, url.settings.timeout)
            try:
                if answer.status == 416:
                    return  # the file ends here
                start, stop, total = _extent(answer, url)
                if version is not None and _version(answer) != version:
                    raise RemoteError(f"'{url}' was replaced by another file while it was read; start again")
                version = _version(answer)
                if start > reached or (start < reached and answer.status == 206):
                    raise Interrupted(f"byte {reached} was asked for, byte {start} came")
                if reached - start > LARGEST_SKIP and not whole:
                    raise RemoteError(
                        f"'{url}': the server knows no ranges of bytes, each clip would be read from the start of the "
                        "shard; give a folder for whole shards (remote.cache), or copy the shards"
                    )
                if total is not None:
                    end = min(end, total)
                for piece in _body(answer, min(stop, end) - start, url.settings.timeout):
                    new = piece[max(reached - start, 0) :]
                    start += len(piece)
                    if new:
                        reached += len(new)
                        yield new
                    patience.progress(len(new))
            finally:
                answer.close()
            if reached < end:
                raise Interrupted(f"the answer ended after byte {reached} of {end}")
        except Interrupted as error:
            patience.wait(error)


def _extent(answer: Answer, url: Url) -> tuple[int, int, int | None]:
    """(first byte, byte after the last, size of the file if known) of an answer's body."""
    if answer.status == 206:
        found = _RANGE.match(answer.headers.get("Content-Range", ""))
        if found is None:
            raise Interrupted("an answer without Content-Range")
        return int(found[1]), int(found[2]) + 1, None if found[3] == "*" else int(found[3])
    if answer.status == 200:
        length = answer.headers.get("Content-Length", "")
        if not length.isdigit():
            raise RemoteError(f"'{url}': the server knows neither ranges of bytes nor the file's length; copy it first")
        return 0, int(length), int(length)
    _refuse(answer, url)
    raise AssertionError


def _body(answer: Answer, size: int, timeout: float) -> Iterator[bytes]:
    """The first `size` bytes of a body as they come; less if it ends before."""
    while size > 0:
        try:
            piece = answer.body.read1(min(size, CHUNK))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Interrupted(said(error, timeout)) from None
        if not piece:
            return
        size -= len(piece)
        yield piece
    # The end of the body was not met yet, but with it the connection can be used again.
    if answer.body.length == 0:
        answer.body.close()


def _version(answer: Answer) -> str:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""


def _refuse(answer: Answer, url: Url) -> None:
    """Raise what an answer's status means."""
    status = answer.status
    if status in (404, 410):
        raise MissingError(f"shard '{url}' does not exist (the server answers {status}); check the address")
    if status in (401, 403):
        raise RefusedError(f"shard '{url}' may not be read (the server answers {status}); check rights and credentials")
    if status >= 500 or status in _PASSING:
        raise Interrupted(f"the server answers {status}", _retry_after(answer.headers.get("Retry-After")))
    raise RemoteError(f"shard '{url}' cannot be read: the server answers {status} {answer.body.reason}")


def _retry_after(text: str | None) -> float | None:
    """Seconds that a server asks to wait, given as a number or a date."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None
