"""How remote shards are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmssl.errors import UserError


@dataclass(frozen=True)
class RemoteSettings:
    """Patience with servers, and where shards are kept.

    Args:
        timeout: seconds without a byte after which a connection counts as stalled and the request is made again.
        tries: attempts in a row that may bring no byte.
        budget_seconds: seconds that 16 MiB (or a smaller range) may take in all, waiting and retries included.
        cache: folder that keeps whole shards, shared by all processes of a machine; None reads ranges alone.
        cache_bytes: most bytes of that folder; the shards used least recently make room.
        options: for fsspec (``endpoint_url``, ``anon``, ``profile``, ...) where the address is not http(s).

    Raises:
        UserError: a number that is not positive.
    """

    timeout: float = 20.0
    tries: int = 10
    budget_seconds: float = 180.0
    cache: Path | None = None
    cache_bytes: int = 100 << 30
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("timeout", "tries", "budget_seconds", "cache_bytes"):
            if getattr(self, name) <= 0:
                raise UserError(f"remote.{name} must be positive, got {getattr(self, name)}")
        if self.cache is not None:
            object.__setattr__(self, "cache", Path(self.cache))
