"""Files that lie: scripts and references that lead elsewhere, headers that ask for memory; and canaries that tell."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")


def with_external_data(mp4: bytes, target: Path) -> bytes:
    """The film with its first track's data in another file: a QuickTime alias to an absolute path."""
    path = str(target).encode()
    name = target.name.encode()[:63]
    alias = bytes(10) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    alias += bytes(16) + struct.pack(">hh", -1, -1) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    data = bytearray(mp4)
    begin, places = 0, []
    for kind in PARENTS:  # the first of each, one inside the other
        begin = data.index(kind, begin) - 4
        places.append(begin)
        begin += 8
    old = places[-1] + 16  # after size, kind, version, count
    (size,) = struct.unpack_from(">I", data, old)
    data[old : old + size] = entry
    for place in places:
        (before,) = struct.unpack_from(">I", data, place)
        struct.pack_into(">I", data, place, before + len(entry) - size)
    return bytes(data)


def with_frames_beyond_memory(mp4: bytes, frames: int = 80_000_000) -> bytes:
    """A film of some kilobytes whose index says it has so many frames: FFmpeg asks for 36 bytes of index for each."""
    data = bytearray(mp4)
    struct.pack_into(">II", data, data.index(b"stsz") + 8, 1, frames)
    chunks = data.index(b"stsc")
    (count,) = struct.unpack_from(">I", data, chunks + 8)
    for number in range(count):
        struct.pack_into(">III", data, chunks + 12 + 12 * number, 1 + number, frames, 1)
    struct.pack_into(">II", data, data.index(b"stts") + 12, frames, 1)
    return bytes(data)


class FileCanary:
    """Tells whether a file was opened by anybody (Linux's inotify)."""

    IN_OPEN = 0x20

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self._descriptor, str(path).encode(), self.IN_OPEN) >= 0

    @property
    def opened(self) -> bool:
        """Whether it was opened since the last look."""
        try:
            return bool(os.read(self._descriptor, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)


class NetworkCanary:
    """A local server that counts who knocks."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.port = self._socket.getsockname()[1]
        self.calls = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._end.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._socket.accept()
                self.calls += 1
                connection.close()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def canaries(path: Path) -> Iterator[tuple[FileCanary, NetworkCanary]]:
    """A watch on a file and on a port."""
    file, network = FileCanary(path), NetworkCanary()
    try:
        yield file, network
    finally:
        file.close()
        network.close()
