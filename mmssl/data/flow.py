"""Optical flow of decoded frames, from any source behind one interface: the codec's motion vectors, DIS, or a network.

DIS: Kroeger et al., "Fast optical flow using dense inverse search", arXiv 1603.03590, as OpenCV has it. Motion vectors
as flow: Wu et al., "Compressed video action recognition" (CoViAR), arXiv 1712.00636; what they are and are not is said
in `mmssl.data.decode.motion`. RAFT: Teed and Deng, arXiv 2003.12039, as torchvision has it.

Flow is content's movement (x to the right, y down) in pixels of the frames a second, so that it means the same at any
frame rate. Between frames i and i + 1 it is given at the pixels of frame i + 1 for vectors of the codec, which look
back, and of frame i for methods that match frame i into the next; `Flow.at` says which.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from mmssl.batch import Batch
from mmssl.errors import UserError

LEAST_SECONDS = 1e-6  # between two frames; what is less is one frame shown twice
RAFT_LEAST = 128  # pixels to a side: a smaller picture leaves the coarsest level of its table empty


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
        return per_second(batch, times, torch.from_numpy(found).to(batch.device).permute(0, 1, 4, 2, 3))


Estimate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class NetworkFlow:
    """Any network that estimates flow between two frames, such as one trained by the task `flow_estimation`.

    ``NetworkFlow(load_estimator(run))`` with `mmssl.nn.flow_estimator.load_estimator`.

    Args:
        estimate: gives flow float [N, 2, H, W], pixels from the first to the second, of frames float32 [N, 3, H, W] in
            [0, 1].
        at_once: pairs in one call.
    """

    motion: bool = False
    at: Literal["earlier", "later"] = "earlier"
    cell: int = 1

    def __init__(self, estimate: Estimate, at_once: int = 64) -> None:
        self.estimate = estimate
        self.at_once = at_once

    def __call__(self, batch: Batch, times: torch.Tensor) -> Flow:
        """See `FlowSource`."""
        frames = batch.frames_at(times).float() / 255
        rows, count, _, height, width = frames.shape
        first, second = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        parts = zip(first.split(self.at_once), second.split(self.at_once), strict=True)
        with torch.inference_mode():
            found = torch.cat([self.estimate(one, two).float() for one, two in parts])
        return per_second(batch, times, found.clone().view(rows, count - 1, 2, height, width))


class RAFTFlow(NetworkFlow):
    """RAFT with weights from a file: frames in [-1, 1], filled up to sides of at least 128 that 8 divides.

    Args:
        weights: a state dict of torchvision's `raft_small` or `raft_large`, as `torch.save` writes it; read as tensors
            alone, so that a file from anywhere can run no code.
        size: which of the two.
        updates: recurrent updates.
        device: where it runs; frames are brought there.

    Raises:
        UserError: torchvision is not installed, or the file does not hold these weights.
    """

    def __init__(
        self,
        weights: Path | str,
        size: Literal["small", "large"] = "large",
        updates: int = 12,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = raft(size).to(device)
        try:
            self.network.load_state_dict(torch.load(weights, map_location=device, weights_only=True))
        except (OSError, RuntimeError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{weights} holds no weights of torchvision's raft_{size} ({reason})") from error
        self.network.eval()
        self.updates, self.device = updates, torch.device(device)
        super().__init__(self._estimate, at_once=8)

    def _estimate(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        height, width = first.shape[-2:]
        right, below = (max(-(-side // 8) * 8, RAFT_LEAST) - side for side in (width, height))

        def given(x: torch.Tensor) -> torch.Tensor:
            return F.pad(2 * x.to(self.device) - 1, (0, right, 0, below), mode="replicate")

        flow: torch.Tensor = self.network(given(first), given(second), num_flow_updates=self.updates)[-1]
        return flow[..., :height, :width].to(first.device)


def raft(size: str) -> torch.nn.Module:
    """Torchvision's RAFT of a size, with random weights.

    Raises:
        UserError: torchvision is not installed, or no such size.
    """
    try:
        from torchvision.models import optical_flow
    except ImportError as error:
        raise UserError(f"RAFT needs torchvision ({error}): pip install torchvision") from error
    if size not in ("small", "large"):
        raise UserError(f"RAFT is small or large, not '{size}'")
    network: torch.nn.Module = getattr(optical_flow, f"raft_{size}")(weights=None, progress=False)
    return network


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


def per_second(batch: Batch, times: torch.Tensor, pixels: torch.Tensor) -> Flow:
    """Flow of movements between the frames on screen at `times`, divided by the time that lies between those frames.

    That is seldom the time between the wanted instants: a film of 30 frames a second shows 2 or 3 of them in 0.08 s.
    A frame that is shown twice tells of no movement: 0, and not known.

    Args:
        batch: the clips.
        times: float64 [B, K + 1], see `FlowSource`.
        pixels: float32 [B, K, 2, h, w].
    """
    seconds = batch.frame_times_at(times).diff(dim=1)
    advances = (seconds > LEAST_SECONDS)[:, :, None, None]
    values = pixels / seconds.clamp(min=LEAST_SECONDS).float()[:, :, None, None, None]
    known = advances.expand(-1, -1, *pixels.shape[-2:]).contiguous()
    return Flow((values * advances[:, :, None]).contiguous(), known)


def grey_frames(frames: torch.Tensor) -> torch.Tensor:
    """Uint8 [B, T, H, W], luma (BT.601) of uint8 RGB frames [B, T, 3, H, W]."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=frames.device)
    return (frames.float() * weights[:, None, None]).sum(dim=2).round().clamp(0, 255).to(torch.uint8)
