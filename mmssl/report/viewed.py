"""What a page shows of a clip and its maps, and how many of them it can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mmssl.localization.watch import hottest

HEAT_BYTES = 48 << 20  # of the maps of all clips that a page holds at most


@dataclass(frozen=True)
class ViewedClip:
    """A clip and its maps. Places are fractions of the upright picture, times seconds of the clip's clock.

    Args:
        key: its name.
        media: path of the clip, relative to the page.
        size: (height, width) of the picture, for its shape before the clip has loaded.
        duration: seconds.
        times: float [T], of the maps, rising.
        heat: uint8 [T, h, w].
        range: values of the maps that became 0 and 255.
        area: (x0, y0, x1, y1) that the maps cover.
        confidence: float [T], maximum of each map.
        peaks: float [T, 2], (x, y) of it.
        frames: float [N], when each frame begins; may be empty.
        wave: uint8 [columns], 255 for full scale.
        boxes: (from, to, boxes) where true boxes are known.
        about: what is known of the clip, for a person.
        notes: sentences that a person must know: what could not be read, what the page leaves out.
        hit: whether the peak lies in the true box; None where it is not known.
        links: "npz", "png", "mp4" -> path relative to the page.
    """

    key: str
    media: str
    size: tuple[int, int]
    duration: float
    times: np.ndarray
    heat: np.ndarray
    range: tuple[float, float]
    area: tuple[float, float, float, float]
    confidence: np.ndarray
    peaks: np.ndarray
    frames: np.ndarray
    wave: np.ndarray
    boxes: Sequence[tuple[float, float, Sequence[Sequence[float]]]] = ()
    about: str = ""
    notes: Sequence[str] = ()
    hit: bool | None = None
    links: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.times)
        if not count or self.heat.ndim != 3 or self.heat.dtype != np.uint8:
            raise ValueError(f"clip '{self.key}': heat must be uint8 [T, h, w] with T > 0, got {self.heat.shape}")
        if not len(self.heat) == len(self.confidence) == len(self.peaks) == count:
            raise ValueError(f"clip '{self.key}': times, heat, confidence and peaks must have one length")


def fitting(clips: Sequence[ViewedClip], limit: int = HEAT_BYTES) -> list[ViewedClip]:
    """The clips with at most so many bytes of maps: of a clip that has more than its share, the hottest of every few.

    The share is as large as it can be, if smaller clips leave theirs to the others; a clip keeps one map at least.
    """
    left, share = limit, limit
    for number, size in enumerate(sorted(clip.heat.size for clip in clips)):
        share = left // (len(clips) - number)
        if size > share:
            break
        left -= size
    return [_thinned(clip, -(-clip.heat.size // max(share, 1)), len(clips)) for clip in clips]


def _thinned(clip: ViewedClip, together: int, clips: int) -> ViewedClip:
    if together <= 1:
        return clip
    kept = hottest(clip.confidence, together)
    note = (
        f"This page of {clips} clips holds {len(kept)} of the clip's {len(clip.times)} maps: of every {together} in a "
        f"row the one with the highest maximum. All of them are in {clip.links.get('npz', 'the npz of the clip')}."
    )
    return replace(
        clip,
        times=clip.times[kept],
        heat=clip.heat[kept],
        confidence=clip.confidence[kept],
        peaks=clip.peaks[kept],
        notes=(*clip.notes, note),
    )
