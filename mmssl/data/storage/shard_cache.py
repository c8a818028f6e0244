"""Whole remote shards kept in a bounded folder that all processes of a machine share.

A shard is fetched under a lock into a temporary file that takes its full length from the start (so that others count
it), made durable and renamed. The shards read least recently make room; whoever has one open reads on. Shards in use
make no room: where the folder is too small for what is read at a time, ranges are read instead of fetching the same
shards again and again. A folder that cannot be used costs one warning and no sample.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from mmssl.data.storage.errors import RemoteError
from mmssl.data.storage.ranges import read_range, status, stream_range
from mmssl.data.storage.url import Url

IN_USE_SECONDS = 60.0  # a shard read within them makes no room for another
TOUCH_SECONDS = 5.0  # between two notes that a shard is read
MOST_OPEN = 64
WAIT_SECONDS = 0.02  # between two tries to lock
_LOCKS = 256
_caches: dict[Path, ShardCache] = {}
_caches_lock = threading.Lock()


def read_cached(url: Url, at: int, size: int) -> bytes:
    """`read_range` through the cache that the settings of the address name, if they name one."""
    folder = url.settings.cache
    if folder is None:
        return read_range(url, at, size)
    with _caches_lock:
        cache = _caches.setdefault(folder, ShardCache(folder, url.settings.cache_bytes))
    return cache.read(url, at, size)


class ShardCache:
    """The shards in one folder, as one process sees them; safe for threads, and for other processes beside it.

    Args:
        folder: where they lie; it is made.
        most_bytes: limit of all files in it.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _OpenShard] = OrderedDict()  # by address
        self._names: dict[str, tuple[str, int]] = {}  # address -> (file name, size) of the version first seen
        self._without: dict[str, float] = {}  # address -> when to try again to keep it
        self._warned = False

    def read(self, url: Url, at: int, size: int) -> bytes:
        """The bytes [at, at + size), fetching the whole shard first if there is room for it."""
        shard = self._opened(url)
        if shard is None:
            return read_range(url, at, size)
        try:
            return shard.read(at, size)
        except OSError as error:  # the folder's disk fails
            self._warn(error)
            return read_range(url, at, size)

    def _opened(self, url: Url) -> _OpenShard | None:
        with self._lock:
            if (shard := self._open.get(url.address)) is not None:
                self._open.move_to_end(url.address)
                return shard
            if time.monotonic() < self._without.get(url.address, 0.0):
                return None
            named = self._names.get(url.address)
        if named is None:
            size, version = status(url)
            said = f"{url.scheme}://{url.path}\n{url}\n{size}\n{version}"
            named = f"{hashlib.blake2b(said.encode(), digest_size=12).hexdigest()}-{url.name}", size
        try:
            descriptor = self._find_or_fetch(url, *named)
        except BlockingIOError:  # whoever fetches it is stuck
            descriptor = None
        except OSError as error:
            self._warn(error)
            descriptor = None
        with self._lock:
            self._names[url.address] = named
            if descriptor is None:
                self._without[url.address] = time.monotonic() + IN_USE_SECONDS
                return None
            # Where another thread was faster, its file is used and this one closed with its last reference.
            shard = self._open.setdefault(url.address, _OpenShard(descriptor, self.folder / named[0]))
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)  # closed when the last reader lets go of it
            return shard

    def _find_or_fetch(self, url: Url, name: str, size: int) -> int | None:
        """A descriptor of the shard's file; None if it must be done without.

        Raises:
            OSError: the folder cannot be used.
        """
        path = self.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return _open_touched(path)
        if size > self.most_bytes:
            self._warn(f"remote.cache_bytes ({self.most_bytes}) is less than one shard ('{url}' has {size})")
            return None
        with self._locked(self._lock_path(name), url.settings.budget_seconds):  # others wait here while one fetches
            with contextlib.suppress(FileNotFoundError):
                return _open_touched(path)
            part = path.with_name(f"{name}.part")
            descriptor = -1
            try:
                with self._locked(self.folder / "lock", url.settings.budget_seconds):
                    if not self._make_room(size, part):
                        return None
                    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
                    os.ftruncate(descriptor, size)
                _fetch(url, descriptor, size)
                os.fsync(descriptor)
                # Locked, as room is made by names listed first and looked at after: a file renamed between would count
                # as none.
                with self._locked(self.folder / "lock", url.settings.budget_seconds):
                    os.replace(part, path)
                _sync(self.folder)
                return descriptor
            except BaseException:
                if descriptor >= 0:
                    os.close(descriptor)
                    part.unlink(missing_ok=True)
                raise

    def _make_room(self, size: int, part: Path) -> bool:
        """Remove the shards read least recently until `size` bytes fit; whether they do. The folder is locked."""
        files = []
        for entry in os.scandir(self.folder):
            if entry.name != "lock" and entry.is_file() and entry.name != part.name:
                with contextlib.suppress(FileNotFoundError):
                    files.append((entry.stat().st_mtime, entry.stat().st_size, Path(entry.path)))
        taken = sum(bytes_ for _, bytes_, _ in files)
        for used, bytes_, path in sorted(files):
            if taken + size <= self.most_bytes:
                break
            if path.suffix == ".part":
                if not self._is_abandoned(path, self._lock_path(part.name)):
                    continue
            elif time.time() - used < IN_USE_SECONDS:
                continue
            path.unlink(missing_ok=True)
            taken -= bytes_
        return taken + size <= self.most_bytes

    def _is_abandoned(self, part: Path, held: Path) -> bool:
        """Whether nobody is fetching into a temporary file any more; `held` is the lock that is held here."""
        if self._lock_path(part.name) == held:  # files share locks: with this one nobody else fetches
            return True
        try:
            with self._locked(self._lock_path(part.name), 0.0):
                return True
        except BlockingIOError:
            return False

    @contextlib.contextmanager
    def _locked(self, path: Path, patience: float) -> Iterator[None]:
        """Hold the lock of a file; it goes with the process, however that ends.

        Raises:
            BlockingIOError: another holds it, and nothing was fetched into the folder for `patience` seconds.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            newest, since = 0, time.monotonic()
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if (found := self._newest_part()) != newest:
                        newest, since = found, time.monotonic()
                    if time.monotonic() - since >= patience:
                        raise
                    time.sleep(WAIT_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _newest_part(self) -> int:
        """When something was last fetched into the folder, by whatever process."""
        times = [0]
        for path in self.folder.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                times.append(path.stat().st_mtime_ns)
        return max(times)

    def _lock_path(self, name: str) -> Path:
        folder = self.folder / "locks"
        folder.mkdir(exist_ok=True)
        return folder / f"{int(name[:8], 16) % _LOCKS:02x}"

    def _warn(self, why: object) -> None:
        with self._lock:
            if self._warned:
                return
            self._warned = True
        warnings.warn(f"shards are not kept in '{self.folder}' but read by ranges: {why}", stacklevel=2)


class _OpenShard:
    """A shard's file held open, so that it can be read after it made room; closed with the last reference."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self._path = path
        self._touched = time.monotonic()

    def read(self, at: int, size: int) -> bytes:
        if time.monotonic() - self._touched > TOUCH_SECONDS:
            self._touched = time.monotonic()
            with contextlib.suppress(OSError):  # it made room, or belongs to another user
                os.utime(self._path)
        return os.pread(self.descriptor, size, at)

    def __del__(self) -> None:
        os.close(self.descriptor)


def _open_touched(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.utime(descriptor)
    return descriptor


def _fetch(url: Url, descriptor: int, size: int) -> None:
    at = 0
    for piece in stream_range(url, 0, size, whole=True):
        at += _write_all(descriptor, piece, at)
    if at != size:
        raise RemoteError(f"'{url}' has {at} bytes, its server says {size}")


def _write_all(descriptor: int, piece: bytes, at: int) -> int:
    done = 0
    while done < len(piece):
        written = os.pwrite(descriptor, piece[done:], at + done)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += written
    return done


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
