"""Pictures by torchcodec, sound and all else by PyAV (see `mmssl.data.decode.external`).

Every frame comes with its time stamp, which must be the one that is due; else PyAV decodes the clip. Found so with
torchcodec 0.17 on FFmpeg 5.1: transport streams with B-frames ("no more frames left to decode"). Colours without a
stated matrix are BT.601 to torchcodec and BT.709 above 576 lines to players and to us: those clips are PyAV's as well.
It turns pictures itself, which is undone so that geometry and cut are the same for all decoders.

This module imports torch, 2 s and 286 MB a process: the law of torch-free workers does not hold for workers with this
decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mmssl.data.decode.external import STAMP_TOLERANCE, ExternalDecoder, PictureTable, Refused
from mmssl.data.media import BT601
from mmssl.errors import UserError

try:
    import torch
    from torchcodec.decoders import VideoDecoder
except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: it finds no FFmpeg
    raise UserError(
        f"the decoder 'torchcodec' cannot be loaded ({type(error).__name__}): pip install torchcodec, and the shared "
        "libraries of FFmpeg 4 to 9 (apt install ffmpeg, or conda install ffmpeg)"
    ) from error


class TorchCodecDecoder(ExternalDecoder):
    """Pictures by torchcodec in exact seek mode, with one thread."""

    name = "torchcodec"

    def pictures(self, media: bytes, table: PictureTable, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """See `ExternalDecoder.pictures`."""
        if not table.matrix_said and table.matrix != BT601:
            raise Refused("colours without a matrix")
        try:
            decoder = VideoDecoder(
                media,
                stream_index=table.stream,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device="cpu",
                seek_mode="exact",
                output_dtype=torch.uint8,
            )
            if len(decoder) != len(table.stamps):
                raise Refused("another number of pictures")
            for number in numbers:
                frame = decoder.get_frame_at(number)
                if abs(frame.pts_seconds - table.stamps[number]) > STAMP_TOLERANCE:
                    raise Refused("another time stamp")
                yield np.rot90(frame.data.numpy(), table.turns)
        except (RuntimeError, ValueError, IndexError) as error:
            raise Refused(f"failed ({type(error).__name__})") from error
