"""Decoding on the GPU by NVDEC: PyAV's hardware frames stay there, their planes are taken over without a copy (DLPack).

The same code as on the CPU says which frames a window wants, by packet table or through the demuxer; only the decoder
behind it is another, and pictures are scaled and turned into RGB by torch on the device. Sound and text are decoded on
the CPU. This decoder lives in the training process (`mmssl.data.on_device`), never in workers, since it needs torch.
What NVDEC cannot decode is decoded on the CPU and counted (`Clip.fallback`).

`NVDECDecoder("cpu")` takes software frames through the same steps, for tests where no GPU is to hand.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import av
import av.error
import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.dlpack
from av.codec.hwaccel import HWAccel, hwdevices_available

from mmssl.clip import Clip, EncodedClip, Pixels, Window
from mmssl.data.decode.base import Buffers
from mmssl.data.decode.by_packets import OpenDecoders
from mmssl.data.decode.fitting import Look, PictureFitter
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.media import MediaError, matrix_of, quarter_turns
from mmssl.errors import UserError
from mmssl.ops.colour import coefficients

# FFmpeg has to work in torch's CUDA context: newer versions take the current one, older ones the primary one, and
# those refuse it where torch has set it up before with other flags. PyAV asks for the primary one unless told not to.
_CONTEXTS = ({"current_ctx": "1", "primary_ctx": "0"}, {"primary_ctx": "1"})
_FULL_RANGE = 2


class NVDECDecoder(PyAVDecoder):
    """Decodes pictures on a CUDA device into uint8 tensors there; for one thread.

    Args:
        device: the device, "cuda", "cuda:1" ...; "cpu" decodes in software through the same steps.

    Raises:
        UserError: there is no such device, or PyAV's FFmpeg cannot use it.
    """

    name = "nvdec"

    def __init__(self, device: torch.device | str = "cuda") -> None:
        super().__init__("rgb")
        self.device = torch.device(device)
        self._software = PyAVDecoder("rgb")
        self._accelerator = _accelerator(self.device) if self.device.type == "cuda" else None
        if self._accelerator is not None:
            self._decoders = HardwareDecoders(self._accelerator, self.device)

    def decode(
        self,
        clip: EncodedClip,
        window: Window,
        anchors: np.ndarray,
        into: Buffers | None = None,
        only_table: bool = False,
    ) -> Clip:
        """See `Decoder.decode`; the frames of `into`, and of the clip, are a uint8 tensor on the device."""
        into = into or self.buffers(window, len(anchors))
        try:
            return super().decode(clip, window, anchors, into, only_table)
        except (MediaError, av.error.FFmpegError, NotImplementedError) as error:  # the last is PyAV's for odd planes
            if only_table:
                raise
            plain = self._software.decode(clip, window, anchors)
            into.frames[:] = torch.from_numpy(plain.frames).to(self.device)
            into.audio[:] = plain.audio
            cause = getattr(error, "cause", type(error).__name__)
            return replace(plain, frames=into.frames, audio=into.audio, fallback=f"nvdec: {cause}")

    def buffers(self, window: Window, views: int) -> Buffers:
        """New buffers with the frames on the device."""
        on_host = Buffers.for_window(window, views)
        frames: Any = torch.empty(on_host.frames.shape, dtype=torch.uint8, device=self.device)
        return Buffers(frames, on_host.audio)

    def fitter(self, size: tuple[int, int], look: Look) -> PictureFitter:
        """See `PyAVDecoder.fitter`."""
        return DeviceFitter(self._reformatter, size, look, device=self.device)

    def accelerator(self) -> Any:
        """See `PyAVDecoder.accelerator`."""
        if self._accelerator is not None:
            _make_current(self.device)
        return self._accelerator


class HardwareDecoders(OpenDecoders):
    """NVDEC decoders kept open for pictures; sound is decoded on the CPU."""

    def __init__(self, accelerator: HWAccel, device: torch.device) -> None:
        super().__init__()
        self._accelerator = accelerator
        self._device = device

    def create(self, codec: str, picture: bool) -> Any:
        """See `OpenDecoders.create`."""
        if picture:
            _make_current(self._device)
            return av.CodecContext.create(codec, "r", hwaccel=self._accelerator)
        return super().create(codec, picture)


class DeviceFitter(PictureFitter):
    """Does on the device what `PictureFitter` does with swscale."""

    def __init__(self, reformatter: Any, size: tuple[int, int], look: Look, device: torch.device) -> None:
        super().__init__(reformatter, size, look)
        self._device = device

    def holds(self, frame: Any) -> int:
        """One: the GPU's decoder has few surfaces, and waits for those that are kept."""
        return 1

    def fit_into(self, frame: Any, out: Any) -> None:
        """Write a frame as uint8 [3, H, W] on the device."""
        turns = quarter_turns(frame) if self._look.turns is None else self._look.turns
        if self._plan is None or self._plan[:3] != (frame.width, frame.height, turns):
            self._plan = self._planned(frame.width, frame.height, turns)
        scaled, left, top = self._plan[3:6]
        matrix = matrix_of(frame) if self._look.matrix is None else self._look.matrix
        stream = torch.cuda.default_stream(self._device) if self._device.type == "cuda" else None
        with torch.cuda.stream(stream):
            self._fit(planes_as_rgb(frame, matrix, self._device), scaled, (left, top), turns, out)

    def _fit(
        self, rgb: torch.Tensor, scaled: tuple[int, int], corner: tuple[int, int], turns: int, out: torch.Tensor
    ) -> None:
        """Scale, turn, cut and write float32 [3, H, W]."""
        left, top = corner
        width, height = scaled
        if (height, width) != rgb.shape[-2:]:
            smaller = height < rgb.shape[-2] or width < rgb.shape[-1]
            how: dict[str, Any] = {"mode": "area"} if smaller else {"mode": "bilinear", "align_corners": False}
            rgb = F.interpolate(rgb[None], size=(height, width), **how)[0]
        if turns:
            rgb = torch.rot90(rgb, -turns, dims=(1, 2))
        high, wide = self._size
        out[:] = rgb[:, top : top + high, left : left + wide].round().clamp(0, 255).to(torch.uint8)


def planes_as_rgb(frame: Any, matrix: int, device: torch.device) -> torch.Tensor:
    """Float32 [3, H, W], levels from 0 to 255 and a little beyond, of a frame of yuv420p, NV12 or P010 planes.

    Raises:
        MediaError: the frame has other planes.
    """
    height, width = frame.height, frame.width
    # Taken as a capsule: `from_dlpack(plane)` would name torch's stream, which PyAV refuses. FFmpeg copies pictures on
    # the default stream, and so does everything here (`DeviceFitter.fit_into`): that is what keeps them in order.
    planes = [torch.utils.dlpack.from_dlpack(plane.__dlpack__()).to(device) for plane in frame.planes]
    if planes[0].dtype == torch.uint16:  # P010: ten bits, at the upper end
        planes = [(plane.to(torch.int32) >> 8) for plane in planes]
    name = frame.sw_format.name if getattr(frame, "sw_format", None) is not None else frame.format.name
    if name in ("nv12", "p010le"):
        chroma = planes[1].reshape(planes[1].shape[0], -1, 2).permute(2, 0, 1)
    elif name in ("yuv420p", "yuvj420p"):
        chroma = torch.stack(planes[1:])
    else:
        raise MediaError("pixel format", f"frames of {name} are not taken on the device")
    full = frame.color_range == _FULL_RANGE or name.startswith("yuvj")
    gain, offset = _conversion(matrix, full, device)
    luma = planes[0][None, :height, :width].float()
    yuv = torch.cat([luma, _doubled(chroma.float(), height, width) - 128.0])
    return (gain @ yuv.flatten(1)).add_(offset).view_as(yuv)


@functools.lru_cache(maxsize=32)
def _conversion(matrix: int, full: bool, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 [3, 3] and [3, 1]: RGB of luma and of Cb and Cr around zero."""
    gain, offset = coefficients(torch.tensor([matrix]), torch.tensor([full]))
    of_luma, red_cr, green_cb, green_cr, blue_cb = gain[0].tolist()
    rows = [[of_luma, 0.0, red_cr], [of_luma, green_cb, green_cr], [of_luma, blue_cb, 0.0]]
    return torch.tensor(rows, device=device), offset.expand(3, 1).to(device)


def _doubled(chroma: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Chroma [2, h, w] at the size of luma; PyAV leaves the last line or column of odd sizes out: it is repeated."""
    twice = F.interpolate(chroma[None], scale_factor=2.0, mode="nearest")
    missing = (0, max(width - twice.shape[-1], 0), 0, max(height - twice.shape[-2], 0))
    twice = F.pad(twice, missing, mode="replicate") if any(missing) else twice
    return twice[0, :, :height, :width]


def _make_current(device: torch.device) -> None:
    """Make torch's context the current one of this thread: FFmpeg takes it where it opens a decoder."""
    torch.zeros(1, device=device)


def _accelerator(device: torch.device) -> HWAccel:
    """What makes decoders on the device, in torch's CUDA context."""
    if not torch.cuda.is_available():
        raise UserError("decoder 'nvdec' needs a CUDA device and torch sees none; use decoder='pyav'")
    if "cuda" not in hwdevices_available():
        raise UserError(
            f"the FFmpeg of PyAV {av.__version__} has no CUDA decoding; install a wheel that has it: av>=16"
        )
    _make_current(device)
    failures = []
    for options in _CONTEXTS:
        accelerator = HWAccel(
            "cuda", str(device.index or 0), allow_software_fallback=False, options=dict(options), is_hw_owned=True
        )
        try:
            context = av.CodecContext.create("h264", "r", hwaccel=accelerator)
            del context
        except (av.error.FFmpegError, RuntimeError, NotImplementedError) as error:
            failures.append(str(error))
            continue
        return accelerator
    raise UserError(f"decoder 'nvdec': NVDEC cannot be opened ({'; '.join(failures)}); 'mmssl doctor' says more")


def available(pixels: Pixels = "rgb") -> None:
    """Raise a `UserError` that says what is missing where NVDEC cannot be used."""
    if pixels != "rgb":
        raise UserError("the decoder 'nvdec' gives RGB on the device; use pixels='rgb'")
    _accelerator(torch.device("cuda"))
