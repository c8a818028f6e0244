"""Ranges of bytes of object stores (s3, gs) through fsspec, in pieces: one that breaks costs no more than itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from mmssl.data.storage.errors import Interrupted, MissingError, RefusedError
from mmssl.data.storage.patience import Patience
from mmssl.data.storage.url import Url
from mmssl.errors import UserError

PIECE, SMALLEST_PIECE = 8 << 20, 256 << 10
LONGEST_SETUP = 60.0  # seconds for making a client, credentials found included
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
_FINAL = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound", "NoRegionError")
_making = threading.Lock()
Result = TypeVar("Result")


class Stalled(Interrupted):
    """A piece that did not come in time."""


def file_system(url: Url) -> Any:
    """The fsspec file system of an address; one a process and settings.

    Raises:
        UserError: the package for it is not installed, or an option is unknown.
    """
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False, **url.settings.options}
    if url.scheme == "s3":
        ours = {
            "connect_timeout": url.settings.timeout,
            "read_timeout": url.settings.timeout,
            "retries": {"total_max_attempts": 1},  # tries are counted here
            "max_pool_connections": 32,
        }
        options["config_kwargs"] = ours | dict(options.get("config_kwargs", {}))
    try:
        with _making:
            system = fsspec.filesystem(url.scheme, **options)
    except ImportError as error:
        package = _PACKAGES[url.scheme]
        raise UserError(
            f"'{url}': {url.scheme}:// needs the package {package} ({error}); pip install 'mmssl[remote]'"
        ) from None
    except (TypeError, ValueError) as error:
        raise _unknown_option(url, error) from None
    if url.scheme == "s3":
        system.retries = 1
    return system


def _unknown_option(url: Url, error: Exception) -> UserError:
    names = ", ".join(url.settings.options)  # the values may be secret
    return UserError(f"'{url}': remote.options ({names}) are not those of {url.scheme}:// ({error})")


def fsspec_status(url: Url) -> tuple[int, str]:
    """(size, version) of an object.

    Raises:
        RemoteError: there is no such object, or the store does not answer.
    """
    system = file_system(url)
    info: dict[str, Any] = patiently(url, partial(_within, system, "info", url))
    if info.get("type") == "directory":
        raise MissingError(f"shard '{url}' does not exist: it is a folder")
    version = next(
        (info[name] for name in ("ETag", "etag", "md5Hash", "LastModified", "updated") if info.get(name)), ""
    )
    return int(info["size"]), str(version)


def fsspec_stream(url: Url, at: int, size: int) -> Iterator[bytes]:
    """The bytes [at, at + size) in pieces, fewer if the object ends before; a piece that fails is read again.

    A piece that does not come within the time limit is tried again at half its size.

    Raises:
        RemoteError: the patience of the settings is used up, or the store refuses.
    """
    system = file_system(url)
    patience = Patience(url.settings, str(url))
    reached, end, piece = at, at + size, PIECE
    while reached < end:
        stop = min(reached + piece, end)
        try:
            data: bytes = attempt(url, partial(_within, system, "cat_file", url, start=reached, end=stop))
        except Interrupted as error:
            if isinstance(error, Stalled):
                piece = min(piece, max(piece // 2, SMALLEST_PIECE))
            elif reached >= fsspec_status(url)[0]:  # stores answer with an error past the end
                return
            patience.wait(error)
            continue
        data = data[: stop - reached]
        if data:
            reached += len(data)
            yield data
            patience.progress(len(data))
        if reached < stop:  # the object ends here, or the answer was cut short
            end = min(end, fsspec_status(url)[0])
            if reached < end:
                patience.wait(Interrupted(f"the answer ended after byte {reached} of {stop}"))


def _within(system: Any, method: str, url: Url, **named: Any) -> Any:
    """Call a method of a file system, for at most `timeout` seconds where it is asynchronous inside."""
    if getattr(system, "async_impl", False):
        from fsspec.asyn import sync

        if hasattr(system, "set_session"):  # a client is made once, from files, which takes a busy machine seconds
            sync(system.loop, system.set_session, timeout=max(LONGEST_SETUP, url.settings.timeout))
        return sync(system.loop, getattr(system, f"_{method}"), url.address, timeout=url.settings.timeout, **named)
    return getattr(system, method)(url.address, **named)


def patiently(url: Url, call: Callable[[], Result]) -> Result:
    """Run one call of a file system, again and again while the settings allow."""
    patience = Patience(url.settings, str(url))
    while True:
        try:
            return attempt(url, call)
        except Interrupted as error:
            patience.wait(error)


def attempt(url: Url, call: Callable[[], Result]) -> Result:
    """Run one call of a file system; what it raises becomes an error of the storage.

    Raises:
        RemoteError: the store refuses for good.
        Interrupted: the call may be made again.
    """
    try:
        return call()
    except FileNotFoundError:
        raise MissingError(f"shard '{url}' does not exist in the store; check the address") from None
    except PermissionError as error:
        raise RefusedError(f"shard '{url}' may not be read ({error}); check rights and credentials") from None
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise _unknown_option(url, error) from None
    except (NameError, AttributeError):
        raise
    except Exception as error:  # each store and each of its libraries has its own
        name = type(error).__name__
        if name in _FINAL:
            raise RefusedError(
                f"shard '{url}' may not be read ({error}); set credentials, or remote.options={{anon: true}} for a "
                "public bucket"
            ) from None
        if name in ("FSTimeoutError", "TimeoutError"):
            raise Stalled(f"no answer for {url.settings.timeout:g} s") from None
        raise Interrupted(f"{name}: {error}" if str(error) else name) from None
