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
        rows, columns = self.known.shape[1:]
        y, x = np.meshgrid((np.arange(rows) + 0.5) * CELL, (np.arange(columns) + 0.5) * CELL, indexing="ij")
        linear = geometry[:, :2]
        at = np.linalg.solve(linear, np.stack([x - geometry[0, 2], y - geometry[1, 2]]).reshape(2, -1))
        i, j = (np.floor(at[axis] / _BLOCK).astype(int) for axis in (1, 0))
        inside = (i >= 0) & (j >= 0) & (i < known.shape[0]) & (j < known.shape[1])
        i, j = i.clip(0, known.shape[0] - 1), j.clip(0, known.shape[1] - 1)
        found = (linear @ flow[i, j].T / seconds).reshape(2, rows, columns)
        mask = (known[i, j] & inside).reshape(rows, columns)
        for slot in slots:
            self.flow[slot] = found * mask
            self.known[slot] = mask


def blocks_of(vectors: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Float64 [h, w, 2]: by how many pixels (x, y) content has moved since the reference; bool [h, w]: where known.

    Args:
        vectors: FFmpeg's AVMotionVector rows of one frame.
        height: of the coded picture; a cell is 4 x 4 of its pixels.
        width: of the coded picture.
    """
    shape = (-(-height // _BLOCK), -(-width // _BLOCK))
    flow, known = np.zeros((*shape, 2)), np.zeros(shape, bool)
    past = vectors[vectors["source"] < 0]
    moved = -np.stack([past["motion_x"], past["motion_y"]], axis=1) / past["motion_scale"].astype(float)[:, None]
    left = (past["dst_x"].astype(int) - past["w"] // 2) // _BLOCK
    top = (past["dst_y"].astype(int) - past["h"] // 2) // _BLOCK
    sizes = np.stack([past["h"], past["w"]], axis=1)
    for h, w in np.unique(sizes, axis=0).tolist():
        chosen = (sizes == (h, w)).all(axis=1)
        for dy in range(max(h // _BLOCK, 1)):
            for dx in range(max(w // _BLOCK, 1)):
                i, j = top[chosen] + dy, left[chosen] + dx
                inside = (i >= 0) & (j >= 0) & (i < shape[0]) & (j < shape[1])
                flow[i[inside], j[inside]] = moved[chosen][inside]
                known[i[inside], j[inside]] = True
    return flow, known
