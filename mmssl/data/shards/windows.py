"""The windows of a source that become clips: where they start, how long they are, what they have taken so far."""

from __future__ import annotations

import math

from mmssl.data.corpora.source import Segment
from mmssl.data.shards.encode import PictureEncoder
from mmssl.data.shards.settings import BuildSettings


class Window:
    """One clip in the making."""

    def __init__(self, segment: Segment, key: str, start: float, seconds: float, encoder: PictureEncoder) -> None:
        self.segment, self.key, self.start, self.seconds, self.encoder = segment, key, start, seconds, encoder
        rate = encoder.rate
        self.limit = math.inf if math.isinf(seconds) else max(math.ceil(seconds * rate - 1e-6), 1)
        self.end = math.inf

    @property
    def duration(self) -> float:
        """Seconds of the encoded clip."""
        return self.end - self.start


class WindowCursor:
    """Where the windows of one segment start; the first one waits for the first frame of the picture."""

    def __init__(self, segment: Segment, settings: BuildSettings) -> None:
        self.segment, self.settings = segment, settings
        self.anchor = segment.start
        self.opened = 0
        self.exhausted = False

    @property
    def next_start(self) -> float:
        """Start of the next window, or infinity."""
        if self.exhausted:
            return math.inf
        step = self.settings.stride or self.settings.clip_seconds or 0.0
        return self.anchor + self.opened * step

    def take(self) -> tuple[float, float]:
        """Return (start, seconds) of the next window and go on to the one after it."""
        start = self.next_start
        end = math.inf if self.segment.end is None else self.segment.end
        seconds = min(self.settings.clip_seconds or math.inf, end - start)
        self.opened += 1
        following = self.next_start
        self.exhausted = self.settings.clip_seconds is None or end - following < max(self.settings.min_seconds, 1e-3)
        return start, seconds
