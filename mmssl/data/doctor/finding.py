"""One line of the doctor's table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Args:
        group: "decoders", "libraries", "remote" or "machine".
        name: the thing.
        state: "ok", "missing" (not there) or "broken" (there, and does not work).
        found: what was seen, in one sentence.
        mend: the command or the words that mend it; empty where nothing needs mending.
        needed: whether the default path through the library needs it.
        facts: what was seen, as plain values.
    """

    group: str
    name: str
    state: State
    found: str
    mend: str = ""
    needed: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
