"""The codec's motion vectors as a coarse flow field: what the encoder found when it looked for each block before.

A vector says where a block of this picture was taken from; content therefore moved by its negative. The picture that
it was taken from is the nearest one before that is not a B picture: encoders with one reference picture (those of
`mmssl shards build`) always do this; with several, vectors to older pictures come out too large by a small factor, as
FFmpeg does not say which picture was meant. Blocks coded without a reference have no vector and are masked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CELL = 8  # pixels of the window's pictures to a side of a cell of the field
_BLOCK = 4  # pixels of the coded picture: H.264's smallest block
_NAME = "MOTION_VECTORS"
_I, _B = 1, 3  # FFmpeg's AV_PICTURE_TYPE_B
EXPORT = {"flags2": "+export_mvs"}


def field_shape(size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the field of pictures of (height, width) `size`."""
    return -(-size[0] // CELL), -(-size[1] // CELL)


class MotionReader:
    """Reads the fields of the frames shown; it must be told of every frame, in display order.

    Args:
        count: wanted times, of all views.
        size: (height, width) of the window's pictures.
    """

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        shape = field_shape(size)
        self.flow = np.zeros((count, 2, *shape), np.float32)  # x and y, pixels of the window a second
        self.known = np.zeros((count, *shape), bool)
        self._reference: float | None = None
        self._under: tuple[Any, np.ndarray, np.ndarray] | None = None

    def see(self, frame: Any, time: float) -> float | None:
        """Take notice of a frame; returns the seconds since the picture that its vectors look at."""
        since = None if self._reference is None else time - self._reference
        kind = int(frame.pict_type)
        if kind != _B:
            self._reference = time
        if kind == _I:  # looks at no other; MPEG-4's decoder hands on the vectors of the picture before
            return None
        return since if since is not None and since > 0 else None

    def forget(self) -> None:
        """Decoding goes on elsewhere: what came before is no reference."""
        self._reference = None

    def show(self, frame: Any, slots: list[int], seconds: float | None, geometry: np.ndarray) -> None:
        """Write the field of a frame, `seconds` after its reference, to all places that show it."""
        side = frame.side_data.get(_NAME) if seconds is not None else None
        if side is None or not len(side):
            return
        assert seconds is not None
        flow, known = blocks_of(side.to_ndarray(), frame.height, frame.width)
        cells, inside = self._cells_under(geometry, known.shape)
        mask = known.reshape(-1)[cells] & inside
        found = geometry[:, :2] @ flow.reshape(-1, 2)[cells].T * (mask / seconds)
        for slot in slots:
            self.flow[slot] = found.reshape(self.flow.shape[1:])
            self.known[slot] = mask.reshape(self.known.shape[1:])

    def _cells_under(self, geometry: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Which 4 x 4 block lies under the middle of each cell of the field, int and bool [cells]; of the last look."""
        look = (geometry.tobytes(), shape)
        if self._under is None or self._under[0] != look:
            rows, columns = self.known.shape[1:]
            y, x = np.meshgrid((np.arange(rows) + 0.5) * CELL, (np.arange(columns) + 0.5) * CELL, indexing="ij")
            to = np.stack([x - geometry[0, 2], y - geometry[1, 2]]).reshape(2, -1)
            j, i = np.floor(np.linalg.solve(geometry[:, :2], to) / _BLOCK).astype(int)
            inside = (i >= 0) & (j >= 0) & (i < shape[0]) & (j < shape[1])
            cells = i.clip(0, shape[0] - 1) * shape[1] + j.clip(0, shape[1] - 1)
            self._under = (look, cells, inside)
        return self._under[1:]


def blocks_of(vectors: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Float64 [h, w, 2]: by how many pixels (x, y) content has moved since the reference; bool [h, w]: where known.

    Args:
        vectors: FFmpeg's AVMotionVector rows of one frame.
        height: of the coded picture; a cell is 4 x 4 of its pixels.
        width: of the coded picture.
    """
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    flow, known = np.zeros((rows * columns, 2)), np.zeros(rows * columns, bool)
    past = vectors[vectors["source"] < 0]
    high, wide = past["h"].astype(int), past["w"].astype(int)
    top, left = (past["dst_y"] - high // 2) // _BLOCK, (past["dst_x"] - wide // 2) // _BLOCK
    tall, broad = np.maximum(high // _BLOCK, 1), np.maximum(wide // _BLOCK, 1)
    # A vector a block: each is repeated for the cells under it, which are then numbered line by line.
    count = tall * broad
    of = np.repeat(np.arange(len(past)), count)
    number = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    i, j = top[of] + number // broad[of], left[of] + number % broad[of]
    inside = (i >= 0) & (j >= 0) & (i < rows) & (j < columns)
    cells, of = (i * columns + j)[inside], of[inside]
    scale = past["motion_scale"].astype(float)
    flow[cells, 0], flow[cells, 1] = -(past["motion_x"] / scale)[of], -(past["motion_y"] / scale)[of]
    known[cells] = True
    return flow.reshape(rows, columns, 2), known.reshape(rows, columns)
