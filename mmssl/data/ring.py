"""Shared memory between a decode worker and its parent: slots for whole rank batches, and a heartbeat.

The memory is an anonymous file that both processes map. It has no name, so nothing is left behind however either of
them ends, and it does not count against the small ``/dev/shm`` of containers.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from dataclasses import dataclass

import numpy as np

from mmssl.clip import Pixels, Window, picture_shape

_ALIGNMENT = 64  # bytes


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True)
class Layout:
    """Where things lie in a ring: a heartbeat, then `slots` times frames and audio of one rank batch.

    Args:
        window: what is decoded of a clip.
        rows: clips of a rank batch.
        slots: batches that a ring holds.
        pixels: what a picture is.
    """

    window: Window
    rows: int
    slots: int
    pixels: Pixels = "rgb"

    @property
    def frames(self) -> tuple[int, ...]:
        """Shape [B, V, T, 3, H, W] of a slot's frames, uint8; [B, V, T, H * 3 / 2, W] of planes."""
        window = self.window
        return (self.rows, window.views, window.picture_count, *picture_shape(window.size, self.pixels))

    @property
    def audio(self) -> tuple[int, ...]:
        """Shape [B, V, S] of a slot's audio, float32."""
        span = self.window.sound_span
        return (self.rows, self.window.views, span.count if span else 0)

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot."""
        return _aligned(int(np.prod(self.frames))) + _aligned(4 * int(np.prod(self.audio)))

    @property
    def bytes(self) -> int:
        """Bytes of the ring."""
        return _ALIGNMENT + self.slots * self.slot_bytes


class Ring:
    """The arrays over one mapped file.

    Args:
        descriptor: the file; it may be closed afterwards.
        layout: what lies where.
    """

    def __init__(self, descriptor: int, layout: Layout) -> None:
        self.layout = layout
        self._map = mmap.mmap(descriptor, layout.bytes)
        self.heartbeat: np.ndarray = np.ndarray((1,), np.int64, self._map, 0)  # samples begun by the worker

    def slot(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 [B, V, T, 3, H, W] and audio float32 [B, V, S] of a slot, in the shared memory."""
        layout = self.layout
        begin = _ALIGNMENT + number * layout.slot_bytes
        frames: np.ndarray = np.ndarray(layout.frames, np.uint8, self._map, begin)
        audio: np.ndarray = np.ndarray(layout.audio, np.float32, self._map, begin + _aligned(frames.nbytes))
        return frames, audio

    def close(self) -> None:
        """Unmap the memory; arrays that still look at it keep it until they are gone."""
        self.__dict__.pop("heartbeat", None)
        with contextlib.suppress(BufferError):
            self._map.close()


def anonymous_file(size: int) -> int:
    """Descriptor of a new file in memory without a name (on disk where the system has none in memory)."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("mmssl-ring", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
