"""Pictures by decord, sound and all else by PyAV (see `mmssl.data.decode.external`).

decord counts decoded frames and has no time stamps with them. Measured with decord 0.6.0 (FFmpeg 4.1):

- In open groups of pictures (x265's default) it is one or two frames off, after seeking and in plain reading alike.
- What an edit list cuts off is counted as shown.
- Transport and program streams give other frames than asked for, without an error.
- A packet that shows nothing (VP8's hidden frames), or a frame that a codec drops, moves all that follow.
- Its time stamps count from the stream's first, not from the clip's zero. Those of the packets are used here.
- AV1 is unknown to it.

So only mp4, mov, Matroska and WebM with closed groups and without cut packets are given to it; it reads them from the
beginning without seeking, since it counts on from whatever is marked as a key frame; and the last picture of a window
must be the one that PyAV shows at its time stamp.

All other clips are decoded by PyAV. It exists for comparisons with published work that used decord.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np

from mmssl.data.decode.external import ExternalDecoder, PictureTable, Refused, picture_at
from mmssl.data.media import BT601
from mmssl.errors import UserError

try:
    import decord
except (ImportError, OSError) as error:
    raise UserError(
        f"the decoder 'decord' cannot be loaded ({type(error).__name__}): pip install decord (there are wheels for "
        "Linux on x86-64, Windows and older macOS)"
    ) from error

LEVELS = 8  # between conversions to RGB by two versions of FFmpeg, of pictures with more than 8 bits too
CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})


class DecordDecoder(ExternalDecoder):
    """Pictures by decord, read from the beginning of the file, with one thread."""

    name = "decord"

    def __init__(self) -> None:
        super().__init__()
        decord.logging.set_level(decord.logging.QUIET)

    def pictures(self, media: bytes, table: PictureTable, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """See `ExternalDecoder.pictures`."""
        if table.container not in CONTAINERS:
            raise Refused("container")
        if table.discards:
            raise Refused("edit list")
        if table.leads:
            raise Refused("open groups of pictures")
        if not table.matrix_said and table.matrix != BT601:
            raise Refused("colours without a matrix")
        try:
            reader = decord.VideoReader(io.BytesIO(media), num_threads=1)
            if len(reader) != len(table.stamps):
                raise Refused("another number of pictures")
            following = 0
            for number in numbers:
                if number > following:
                    reader.skip_frames(number - following)
                following = number + 1
                picture = np.rot90(reader.next().asnumpy(), table.turns)
                if number == numbers[-1] and not _alike(picture, picture_at(media, table, number)):
                    raise Refused("another picture than its time stamp says")
                yield picture
        except (decord.DECORDError, RuntimeError, StopIteration, AssertionError) as error:
            raise Refused(f"failed ({type(error).__name__})") from error


def _alike(picture: np.ndarray, other: np.ndarray) -> bool:
    """Whether two conversions of what should be one picture differ by no more than rounding."""
    if picture.shape != other.shape:
        return False
    return bool((np.abs(picture.astype(np.int16) - other) > LEVELS).mean() < 0.01)
