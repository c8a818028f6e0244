"""How long a failing read goes on: tries in a row, growing delays without chance, and a budget of seconds."""

from __future__ import annotations

import time

from mmssl.data.storage.errors import Interrupted, RemoteError
from mmssl.data.storage.settings import RemoteSettings

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
BUDGET_BYTES = 16 << 20


class Patience:
    """Counts attempts at one range.

    Any byte resets the tries, so that a connection that drops again and again but brings something is not given up;
    16 MiB start the budget of seconds anew, so that a slow drip is.
    """

    def __init__(self, settings: RemoteSettings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.failed = 0  # attempts in a row without a byte
        self._received = 0
        self._until = time.monotonic() + settings.budget_seconds

    def progress(self, count: int) -> None:
        """Note received bytes.

        Raises:
            RemoteError: they drip in too slowly for the budget.
        """
        self.failed = 0
        self._received += count
        if self._received >= BUDGET_BYTES:
            self._received = 0
            self._until = time.monotonic() + self.settings.budget_seconds
        elif time.monotonic() > self._until:
            raise RemoteError(f"'{self.name}' comes too slowly: {self._received} bytes in {self._seconds}")

    def wait(self, error: Interrupted) -> None:
        """Sleep before the next attempt.

        Raises:
            RemoteError: the tries or the seconds are used up.
        """
        self.failed += 1
        delay = min(FIRST_DELAY * 2 ** (self.failed - 1), LONGEST_DELAY)
        delay = delay if error.wait is None else max(error.wait, delay)
        if self.failed >= self.settings.tries:
            raise RemoteError(f"'{self.name}' could not be read in {self.failed} tries ({error})") from None
        if time.monotonic() + delay > self._until:
            raise RemoteError(f"'{self.name}' could not be read in {self._seconds} ({error})") from None
        time.sleep(delay)

    @property
    def _seconds(self) -> str:
        return f"{self.settings.budget_seconds:g} s (remote.budget_seconds)"
