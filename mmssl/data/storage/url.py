"""The address of a remote shard, with the few members of `pathlib.Path` that readers of shards use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from mmssl.data.storage.settings import RemoteSettings
from mmssl.errors import UserError, nearest

SCHEMES = ("http", "https", "s3", "gs")


@dataclass(frozen=True, order=True, slots=True)
class Url:
    """An address ``scheme://host/path``, immutable; two are equal if their addresses are.

    `str` leaves out what may be secret (user, password, and the query, which holds signatures): use it to name a
    shard, and `address` to open it.

    Args:
        address: the address; a query is kept beside the path.
        settings: how it is read.

    Raises:
        UserError: the scheme is unknown, or host or path are missing.
    """

    address: str
    settings: RemoteSettings = field(default_factory=RemoteSettings, compare=False, repr=False)

    def __post_init__(self) -> None:
        pieces = urlsplit(self.address)
        if pieces.scheme not in SCHEMES:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            near = nearest(pieces.scheme, SCHEMES)
            raise UserError(f"'{self}': no shards are read from {pieces.scheme}:// (known are {known}){near}")
        if not pieces.netloc or not pieces.path.strip("/"):
            what = "bucket" if pieces.scheme in ("s3", "gs") else "host"
            raise UserError(f"'{self}' is not the address of a shard: give {pieces.scheme}://{what}/path")

    @property
    def scheme(self) -> str:
        """``"http"``, ``"https"``, ``"s3"`` or ``"gs"``."""
        return urlsplit(self.address).scheme

    @property
    def path(self) -> str:
        """The path after the host, as it is written in the address."""
        return urlsplit(self.address).path

    @property
    def name(self) -> str:
        """Last part of the path, as a file would be called."""
        name = PurePosixPath(self.path).name
        return unquote(name) if self.scheme in ("http", "https") else name

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Last suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Url:
        """The folder; that of a file at the top is an error."""
        return self._at(str(PurePosixPath(self.path).parent))

    def with_suffix(self, suffix: str) -> Url:
        """The address of the file beside it with another last suffix."""
        return self._at(str(PurePosixPath(self.path).with_suffix(suffix)))

    def with_name(self, name: str) -> Url:
        """The address of another file in the same folder."""
        return self._at(str(PurePosixPath(self.path).with_name(name)))

    def exists(self) -> bool:
        """Whether the server has it.

        Raises:
            RemoteError: the server does not say, or refuses.
        """
        from mmssl.data.storage.errors import MissingError
        from mmssl.data.storage.ranges import status

        try:
            status(self)
        except MissingError:
            return False
        return True

    def _at(self, path: str) -> Url:
        return Url(urlunsplit(urlsplit(self.address)._replace(path=path)), self.settings)

    def __str__(self) -> str:
        pieces = urlsplit(self.address)
        return urlunsplit((pieces.scheme, pieces.netloc.rpartition("@")[2], pieces.path, "", ""))


Shard = Path | Url
