"""Optical flow of decoded frames, from any source behind one interface: the codec's motion vectors, or DIS.

DIS: Kroeger et al., "Fast optical flow using dense inverse search", arXiv 1603.03590, as OpenCV has it. Motion vectors
as flow: Wu et al., "Compressed video action recognition" (CoViAR), arXiv 1712.00636; what they are and are not is said
in `mmssl.data.decode.motion`.

Flow is content's movement (x to the right, y down) in pixels of the frames a second, so that it means the same at any
frame rate. Between frames i and i + 1 it is given at the pixels of frame i + 1 for vectors of the codec, which look
back, and of frame i for methods that match frame i into the next; `Flow.at` says which.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from mmssl.batch import Batch
from mmssl.errors import UserError


class Flow(NamedTuple):
    """The movement between neighbours of K + 1 frames."""

    values: torch.Tensor  # float32 [B, K, 2, h, w], (x, y) in pixels of the frames a second; 0 where not known
    known: torch.Tensor  # bool [B, K, h, w]


class FlowSource(Protocol):
    """Gives the flow between frames of a batch.

    Attributes:
        motion: whether the task's window must ask for the codec's motion vectors.
        at: whether values lie at the pixels of the earlier or of the later frame of each pair.
        cell: pixels of the frames to a side of a cell of the field.
    """

    motion: bool
    at: Literal["earlier", "later"]
    cell: int

    def __call__(self, batch: Batch, times: torch.Tensor) -> Flow:
        """Flow between the frames at `times`, float64 [B, K + 1] seconds, rising, times that the window asked for."""
        ...


class CodecFlow:
    """The motion vectors of the encoder that made the file: nothing to compute, one vector a cell of 8 x 8 pixels.

    The K fields are those of the later K frames, each since its own reference.
    """

    motion: bool = True
    at: Literal["earlier", "later"] = "later"
    cell: int = 8

    def __call__(self, batch: Batch, times: torch.Tensor) -> Flow:
        """See `FlowSource`."""
        values, known = batch.motion_at(times[:, 1:])
        return Flow(values * known[:, :, None], known)


class DISFlow:
    """Dense inverse search on grey frames, on the CPU, one thread; frames that are on a GPU are copied.

    Args:
        preset: "ultrafast", "fast" or "medium".

    Raises:
        UserError: OpenCV is not installed, or no such preset.
    """

    motion: bool = False
    at: Literal["earlier", "later"] = "earlier"
    cell: int = 1

    def __init__(self, preset: Literal["ultrafast", "fast", "medium"] = "fast") -> None:
        self.preset = preset
        self._search = dis_search(preset)

    def __call__(self, batch: Batch, times: torch.Tensor) -> Flow:
        """See `FlowSource`."""
        grey = grey_frames(batch.frames_at(times)).cpu().numpy()
        rows, frames, height, width = grey.shape
        found = np.zeros((rows, frames - 1, height, width, 2), np.float32)
        for row in range(rows):
            for k in range(frames - 1):
                found[row, k] = self._search.calc(grey[row, k], grey[row, k + 1], None)
        seconds = (times[:, 1:] - times[:, :-1]).float()
        values = torch.from_numpy(found).to(batch.device).permute(0, 1, 4, 2, 3) / seconds[:, :, None, None, None]
        known = torch.ones(rows, frames - 1, height, width, dtype=torch.bool, device=batch.device)
        return Flow(values.contiguous(), known)


def dis_search(preset: str) -> Any:
    """OpenCV's DIS of a preset.

    Raises:
        UserError: see `DISFlow`.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"DIS flow needs OpenCV ({error}): pip install opencv-python-headless") from error
    presets = {"ultrafast": 0, "fast": 1, "medium": 2}  # cv2.DISOPTICAL_FLOW_PRESET_*
    if preset not in presets:
        raise UserError(f"DIS has the presets {', '.join(presets)}, not '{preset}'")
    cv2.setNumThreads(1)
    return cv2.DISOpticalFlow.create(presets[preset])


def grey_frames(frames: torch.Tensor) -> torch.Tensor:
    """Uint8 [B, T, H, W], luma (BT.601) of uint8 RGB frames [B, T, 3, H, W]."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=frames.device)
    return (frames.float() * weights[:, None, None]).sum(dim=2).round().clamp(0, 255).to(torch.uint8)
