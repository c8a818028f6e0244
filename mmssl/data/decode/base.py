"""What a decoder is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mmssl.clip import Clip, EncodedClip, Pixels, Window, picture_shape


@dataclass(frozen=True)
class Buffers:
    """Where a decoder writes a clip: memory of the caller, so that nothing is copied twice.

    Args:
        frames: uint8 [V, T, 3, H, W], or [V, T, H * 3 / 2, W] for planes.
        audio: float32 [V, S].
    """

    frames: np.ndarray
    audio: np.ndarray

    @classmethod
    def for_window(cls, window: Window, views: int, pixels: Pixels = "rgb") -> Buffers:
        """New buffers of a window's shape."""
        samples = window.sound_span.count if window.sound_span else 0
        frames = np.empty((views, window.picture_count, *picture_shape(window.size, pixels)), np.uint8)
        return cls(frames, np.empty((views, samples), np.float32))


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

    def decode(self, clip: EncodedClip, window: Window, anchors: np.ndarray, into: Buffers | None = None) -> Clip:
        """Decode `window` around each of the anchors (float64 [V], seconds on the clip's clock).

        With `into` the clip's frames and audio are these arrays, written whole; after an error they hold anything.
        """
        ...

    def duration(self, clip: EncodedClip) -> float:
        """Length of a clip in seconds, as its description says or else its streams."""
        ...
