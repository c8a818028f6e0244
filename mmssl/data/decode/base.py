"""What a decoder is."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mmssl.clip import Clip, EncodedClip, Window


class Decoder(Protocol):
    """Turns an encoded clip into the frames and samples that a window wants.

    The clip's clock begins at the earliest start of its streams. The frame of a wanted time is the one on screen:
    the last whose time stamp is not after it, before the first frame the first, past the end the last. Sound lies
    on the grid ``n / rate`` of the clock by its time stamps. Display rotation and pixel shape are applied; a picture
    of another size is scaled to cover the window's size and cut around its centre.

    Raises:
        MediaError: (of `mmssl.data.media`, with a cause) for bytes that cannot be decoded.
    """

    name: str

    def decode(self, clip: EncodedClip, window: Window, anchors: np.ndarray) -> Clip:
        """Decode `window` around each of the anchors (float64 [V], seconds on the clip's clock)."""
        ...

    def duration(self, clip: EncodedClip) -> float:
        """Length of a clip in seconds, as its description says or else its streams."""
        ...
