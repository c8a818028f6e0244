"""The error that a user can cause and mend: it names the thing and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used.

    The message names the file, shard, key or setting, its value, and the way out. The command line prints it as
    one line and ends with exit code 2; nothing half-written stays behind.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to `name`, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""
