"""What the loop needs of a stream: batches that all ranks agree on, and a position that can be saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from mmssl.batch import Batch, Truth


class Feed(Protocol):
    """A stream of batches, as `mmssl.data.Stream` is one."""

    @property
    def epoch(self) -> int:
        """Passes over the data that are complete."""
        ...

    @property
    def counters(self) -> Mapping[str, Any]:
        """Samples handed out, holes by cause, decoder calls."""
        ...

    def __iter__(self) -> Iterator[tuple[Batch, Truth]]:
        """This rank's share of each global batch, on the device."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Position after the batches that were handed out."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...
