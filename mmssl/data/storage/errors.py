"""What can be wrong with a remote shard. Failures that pass are retried and never leave the package."""

from __future__ import annotations

from mmssl.errors import UserError


class RemoteError(UserError):
    """A remote shard that cannot be read; `cause` is what a stream counts the lost samples by."""

    cause = "remote"


class MissingError(RemoteError):
    """The server says that there is no such shard (404, 410)."""


class RefusedError(RemoteError):
    """The server does not let us read the shard (401, 403), or there are no credentials to ask with."""


class Interrupted(Exception):
    """An attempt that failed and may be made again, after `wait` seconds if the server says so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait
