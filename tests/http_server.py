"""A real HTTP server for tests: files of a folder by ranges, with faults by the number of a request.

with Server(folder) as server:
    server.faults[3] = Drop(1000)        # the fourth GET of a file loses its connection after 1,000 bytes
    ... f"{server.url}/train-000000.tar"
"""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Drop:
    """The connection is reset after some bytes of the body."""

    after: int = 0


@dataclass(frozen=True)
class Stall:
    """Nothing more comes after some bytes of the body, for some seconds."""

    after: int = 0
    seconds: float = 30.0


@dataclass(frozen=True)
class Answer:
    """A status instead of a body, with Retry-After or without."""

    status: int
    retry_after: str | None = None


@dataclass(frozen=True)
class Short:
    """The body ends some bytes early, in good order; the headers promise more only if `honest` is False."""

    by: int = 100
    honest: bool = False


@dataclass(frozen=True)
class Long:
    """More bytes follow than were asked for, and Content-Length says so."""

    by: int = 100


@dataclass(frozen=True)
class Redirect:
    """The client is sent elsewhere."""

    to: str


Fault = Drop | Stall | Answer | Short | Long | Redirect


class Server:
    """Serves a folder on a free port of this machine.

    Args:
        folder: its files.
        ranges: whether Range is known.
        head: whether HEAD is allowed.
        latency: seconds before each answer to a GET.
        tls: what to wrap connections with, for https.
        fault_of: fault of the n-th GET of a file (n from 0), besides those in `faults`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ranges: bool = True,
        head: bool = True,
        latency: float = 0.0,
        tls: ssl.SSLContext | None = None,
        fault_of: Callable[[int], Fault | None] = lambda number: None,
    ) -> None:
        self.folder, self.ranges, self.head, self.latency, self.fault_of = folder, ranges, head, latency, fault_of
        self.faults: dict[int, Fault] = {}
        self.gets: list[tuple[str, str | None]] = []  # (path, Range) of every GET
        self.heads: list[str] = []
        self.authorizations: list[str | None] = []
        self.met: list[Fault] = []  # faults that were acted out
        self.connections = 0
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        self._server = _Threads(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Threads(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Clients that go away are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    owner: Server

    def setup(self) -> None:
        super().setup()
        with self.owner.lock:
            self.owner.connections += 1

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        with self.owner.lock:
            self.owner.heads.append(self.path)
        if not self.owner.head:
            return self._status(Answer(405))
        path = self._path()
        if path is None:
            return self._status(Answer(404))
        self.send_response(200)
        self._about(path)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()

    def do_GET(self) -> None:
        owner = self.owner
        path = self._path()
        if path is None:
            return self._status(Answer(404))
        asked = self.headers.get("Range")
        with owner.lock:
            number = len(owner.gets)
            owner.gets.append((self.path, asked))
            owner.authorizations.append(self.headers.get("Authorization"))
            fault = owner.faults.get(number) or owner.fault_of(number)
            if fault is not None:
                owner.met.append(fault)
            owner.busy += 1
            owner.most_busy = max(owner.most_busy, owner.busy)
        try:
            time.sleep(owner.latency)
            self._send(path, asked if owner.ranges else None, fault)
        finally:
            with owner.lock:
                owner.busy -= 1

    def _send(self, path: Path, asked: str | None, fault: Fault | None) -> None:
        if isinstance(fault, Answer):
            return self._status(fault)
        if isinstance(fault, Redirect):
            self.send_response(302)
            self.send_header("Location", fault.to)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        data = path.read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        first, last = 0, len(data) - 1
        if match:
            first, last = int(match[1]), min(int(match[2] or last), last)
            if first > last:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
        body = data[first : last + 1]
        promised = len(body)
        if isinstance(fault, Short):
            body = body[: -fault.by] if fault.by < len(body) else b""
            promised = len(body) if fault.honest else promised
        if isinstance(fault, Long):
            body += b"\xff" * fault.by
            promised = len(body)
        self.send_response(206 if match else 200)
        self._about(path)
        if match:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        if isinstance(fault, Drop | Stall):
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            if isinstance(fault, Stall):
                time.sleep(fault.seconds)
            # Lingering for no time makes the closing a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return None
        self.wfile.write(body)
        if promised != len(body):
            self.close_connection = True
        return None

    def _about(self, path: Path) -> None:
        status = path.stat()
        self.send_header("ETag", f'"{status.st_mtime_ns:x}-{status.st_size:x}"')
        self.send_header("Last-Modified", self.date_time_string(status.st_mtime))

    def _status(self, answer: Answer) -> None:
        self.send_response(answer.status)
        if answer.retry_after is not None:
            self.send_header("Retry-After", answer.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _path(self) -> Path | None:
        path = self.owner.folder / self.path.partition("?")[0].lstrip("/")
        return path if path.is_file() else None
