"""Kept-open http(s) connections, one a thread and server, with redirects, proxies of the environment and passwords."""

from __future__ import annotations

import base64
import http.client
import ssl
import threading
import urllib.request
from functools import cache
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from mmssl.data.storage.errors import Interrupted, RemoteError

MOST_REDIRECTS = 5
_AGENT = "mmssl"
_SAFE = "/:@!$&'()*+,;=~-._%"  # what may stand in a path as it is; a '%' is one of an escape already
_local = threading.local()


class Answer:
    """An answer whose body is still to be read; close it, or the connection cannot be used again."""

    def __init__(
        self, place: tuple[str, str], connection: http.client.HTTPConnection, body: http.client.HTTPResponse
    ) -> None:
        self._place, self._connection = place, connection
        self.body = body
        self.status = body.status
        self.headers = body.headers

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if self.body.isclosed():
            _kept()[self._place] = self._connection
        else:
            self._connection.close()


def request(method: str, address: str, headers: dict[str, str], timeout: float) -> Answer:
    """Send a request and wait for the head of the answer, following redirects.

    Raises:
        Interrupted: the server cannot be reached, closes the connection or stays silent for `timeout` seconds.
        RemoteError: the redirects do not end.
    """
    for _ in range(MOST_REDIRECTS + 1):
        answer = _send(method, urlsplit(address), headers, timeout)
        target = answer.headers.get("Location")
        if answer.status not in (301, 302, 303, 307, 308) or target is None:
            return answer
        answer.body.read()
        answer.close()
        address = urljoin(address, target)
        if urlsplit(address).scheme not in ("http", "https"):
            break
    raise RemoteError(f"'{urlsplit(address)._replace(query='').geturl()}': redirects that lead nowhere")


def _send(method: str, url: SplitResult, headers: dict[str, str], timeout: float) -> Answer:
    place = (url.scheme, url.netloc)
    target = quote(url.path or "/", safe=_SAFE) + (f"?{url.query}" if url.query else "")
    host = url.netloc.rpartition("@")[2]
    sent = {"Host": host, "User-Agent": _AGENT, "Accept-Encoding": "identity"} | headers
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        sent["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    while True:
        kept = _kept().pop(place, None)
        try:
            connection = kept or _connect(url, timeout)
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            proxied = url.scheme == "http" and _proxy(url) is not None
            connection.request(method, f"http://{host}{target}" if proxied else target, headers=sent)
            return Answer(place, connection, connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            if kept is not None:
                kept.close()
                if not isinstance(error, TimeoutError):
                    continue  # the server had closed the kept connection: that says nothing of it
            if isinstance(error, ssl.SSLCertVerificationError):
                raise RemoteError(
                    f"'{url.scheme}://{host}' has no valid certificate ({error.verify_message})"
                ) from None
            raise Interrupted(said(error, timeout)) from None


def said(error: Exception, timeout: float) -> str:
    """An error of the connection in words."""
    if isinstance(error, TimeoutError):
        return f"no byte for {timeout:g} s"
    return str(error) or type(error).__name__


def _kept() -> dict[tuple[str, str], http.client.HTTPConnection]:
    if not hasattr(_local, "connections"):
        _local.connections = {}
    connections: dict[tuple[str, str], http.client.HTTPConnection] = _local.connections
    return connections


def _proxy(url: SplitResult) -> SplitResult | None:
    found = urllib.request.getproxies().get(url.scheme)
    if not found or urllib.request.proxy_bypass(url.hostname or ""):
        return None
    return urlsplit(found if "://" in found else f"http://{found}")


def _connect(url: SplitResult, timeout: float) -> http.client.HTTPConnection:
    proxy = _proxy(url)
    host, port = url.hostname or "", url.port
    if url.scheme == "http":
        first = (host, port) if proxy is None else (proxy.hostname or "", proxy.port)
        return http.client.HTTPConnection(*first, timeout=timeout)
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=_certificates())
    connection = http.client.HTTPSConnection(proxy.hostname or "", proxy.port, timeout=timeout, context=_certificates())
    connection.set_tunnel(host, port)
    return connection


@cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
