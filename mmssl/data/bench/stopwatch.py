"""A clock that gives every moment of one thread to one part: the innermost that runs."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Stopwatch:
    """Exclusive seconds and calls by part, of the thread that makes it; counts of other things beside them.

    What other threads do (reading ahead) goes on beside these parts and takes nothing from them.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0
        self._thread = threading.get_ident()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Give the time inside to `name`, without what parts inside it take."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def enter(self, name: str) -> None:
        """Begin a part; the one around it rests."""
        if threading.get_ident() != self._thread:
            return
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._running.append(name)
        self.calls[name] += 1
        self._since = time.perf_counter()

    def leave(self) -> None:
        """End the part that was begun last; the one around it goes on."""
        if threading.get_ident() != self._thread:
            return
        now = time.perf_counter()
        self.seconds[self._running.pop()] += now - self._since
        self._since = time.perf_counter()

    def wrap(self, name: str, function: F) -> F:
        """The function, its time given to `name`."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.enter(name)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return timed  # type: ignore[return-value]

    def each(self, name: str, items: Iterable[Any]) -> Iterator[Any]:
        """The items, the time that getting each takes given to `name`."""
        source = iter(items)
        while True:
            self.enter(name)
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.leave()
            yield item
