"""The folder in which mmssl keeps what it can make again, such as indices of shards in folders it cannot write to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """The environment's MMSSL_CACHE, else ``mmssl`` in the user's cache directory; it may not exist yet."""
    if given := os.environ.get("MMSSL_CACHE"):
        return Path(given).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mmssl"
    try:
        return Path.home() / ".cache" / "mmssl"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"mmssl-{os.getuid()}"
