"""Reading members of samples from tars on this machine: files stay open, small neighbours are read at once."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from mmssl.errors import UserError

# Members as large as this are read each by itself, straight into their bytes: cutting them out of a larger read would
# copy them once more, which costs more than the call that it saves.
_LARGE = 1 << 15


class LocalReader:
    """Reads places of local tars and keeps the files that it read last open. For one thread.

    Args:
        keep: how many files stay open.
    """

    def __init__(self, keep: int = 64) -> None:
        self.keep = keep
        self._open: OrderedDict[str, int] = OrderedDict()

    def read(self, tar_path: Path, places: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
        """The bytes at each (offset, size), by name; fewer where the tar ends before.

        Raises:
            UserError: the tar does not exist.
        """
        descriptor = self._descriptor(str(tar_path))
        found: dict[str, bytes] = {}
        small = []
        for name, (at, size) in places.items():
            if size >= _LARGE:
                found[name] = os.pread(descriptor, size, at)
            else:
                small.append((at, size, name))
        small.sort()
        while small:
            first = small[0][0]
            run = list(takewhile(lambda place: place[0] + place[1] - first <= _LARGE, small))  # noqa: B023
            together = os.pread(descriptor, max(at + size for at, size, _ in run) - first, first)
            for at, size, name in run:
                found[name] = together[at - first : at - first + size]
            small = small[len(run) :]
        return {name: found[name] for name in places}

    def _descriptor(self, path: str) -> int:
        descriptor = self._open.get(path)
        if descriptor is not None:
            if os.fstat(descriptor).st_nlink:
                self._open.move_to_end(path)
                return descriptor
            os.close(self._open.pop(path))  # the file was removed or replaced since
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise UserError(f"shard '{path}' does not exist any more") from None
        self._open[path] = descriptor
        if len(self._open) > self.keep:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def close(self) -> None:
        """Close the files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        self.close()
