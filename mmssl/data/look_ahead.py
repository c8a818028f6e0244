"""Remote samples fetched before they are due, by a few threads, while others are decoded. Bytes are held, no pixels."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from mmssl.clip import EncodedClip
from mmssl.data.sources import Place
from mmssl.data.storage.url import Url

THREADS = 8
MOST_BYTES = 64 << 20
LOOK_SECONDS = 1.0


@dataclass(eq=False)
class _Coming:
    place: Place
    size: int
    clip: Future[EncodedClip] = field(default_factory=Future)
    begun: bool = False


class LookAhead:
    """The samples to come: `expect` announces them in order, `take` gives one, and forgets those before it.

    Of the samples announced the next `MOST_BYTES` (or one that is larger) are held or on their way. Local samples are
    read when they are taken.

    Args:
        read: reads a sample from its shard.
    """

    def __init__(self, read: Callable[[Place], EncodedClip]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._coming: OrderedDict[int, _Coming] = OrderedDict()  # by identity: a sample may come twice in a batch
        self._waiting: deque[_Coming] = deque()  # those not begun
        self._bytes = 0
        self._tasks: queue.SimpleQueue[_Coming | None] = queue.SimpleQueue()
        self._threads = 0

    def expect(self, places: Sequence[Place | None]) -> None:
        """Announce the samples of a batch; rows without one are passed over."""
        with self._lock:
            for place in places:
                if place is not None and isinstance(place.shard, Url):
                    coming = _Coming(place, sum(size for _, size in place.entry.members.values()))
                    self._coming[id(place)] = coming
                    self._waiting.append(coming)
            self._begin()

    def take(self, place: Place, waiting: Callable[[], None] = lambda: None) -> EncodedClip:
        """A sample; `waiting` is called each second until it is here. What reading it raised is raised."""
        with self._lock:
            found = self._coming.get(id(place))
            while found is not None and self._coming:
                _, passed = self._coming.popitem(last=False)
                self._bytes -= passed.size * passed.begun
                if passed is found:
                    break
                passed.clip.cancel()
            if found is not None and not found.begun:  # all before it were large: it is begun now
                self._waiting = deque(coming for coming in self._waiting if id(coming.place) in self._coming)
                found.begun = True
                self._submit(found)
            self._begin()
        if found is None or not self._threads:
            return self._read(place)
        while not wait([found.clip], LOOK_SECONDS).done:
            waiting()
        return found.clip.result()

    def close(self) -> None:
        """Fetch nothing more; the threads end when what they fetch is here."""
        with self._lock:
            self._coming.clear()
            self._waiting.clear()
            for _ in range(self._threads):
                self._tasks.put(None)

    def _begin(self) -> None:
        while self._waiting and (self._bytes == 0 or self._bytes + self._waiting[0].size <= MOST_BYTES):
            coming = self._waiting.popleft()
            if id(coming.place) in self._coming:
                coming.begun = True
                self._bytes += coming.size
                self._submit(coming)

    def _submit(self, coming: _Coming) -> None:
        if self._threads < THREADS:
            # Daemons: a program that ends does not wait for a server.
            thread = threading.Thread(target=self._work, name="mmssl look-ahead", daemon=True)
            with contextlib.suppress(RuntimeError):  # the machine gives no more: fewer will do, or none
                thread.start()
                self._threads += 1
        self._tasks.put(coming)

    def _work(self) -> None:
        while (coming := self._tasks.get()) is not None:
            if not coming.clip.set_running_or_notify_cancel():
                continue
            try:
                coming.clip.set_result(self._read(coming.place))
            except BaseException as error:
                coming.clip.set_exception(error)
