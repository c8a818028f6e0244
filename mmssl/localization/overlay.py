"""The map drawn over the picture: a PNG of the middle frame, and an mp4 of the whole clip with its sound.

The heat is normalised over the clip (not frame by frame), so that it is dim where nothing in sight matches. The
true box is drawn where it is known, and a ring marks the peak where the scores take it to be: between the cells of the
map in proportion, as is the metrics' habit, so at the middle of a cell. The heat itself is laid smoothly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw

from mmssl.data.media import MediaError
from mmssl.localization.maps import ClipMaps
from mmssl.localization.movie import pictures, sound_blocks, whole, write_movie
from mmssl.localization.store import value_range
from mmssl.localization.truth import Box, cut

STRENGTH = 0.75  # opacity of the hottest place
BoxesAt = Callable[[float], Sequence[Box]]
Progress = Callable[[float], None]


def heat_colours() -> np.ndarray:
    """Uint8 [256, 3]: inferno, a colour map whose lightness rises evenly."""
    import matplotlib

    return np.asarray(matplotlib.colormaps["inferno"](np.arange(256), bytes=True)[:, :3])


def normalise(maps: np.ndarray, bounds: tuple[float, float] | None = None) -> np.ndarray:
    """Float32 in [0, 1]: the median of all maps of a clip [T, h, w] becomes 0, their maximum 1; zeros if constant.

    Args:
        maps: float32 [..., h, w].
        bounds: (median, maximum) of all maps, where these are but some of them.
    """
    low, high = bounds or value_range(maps)
    if not high > low:
        return np.zeros_like(maps, dtype=np.float32)
    return np.asarray(np.clip((maps - low) / (high - low), 0.0, 1.0), dtype=np.float32)


def spread(
    heat: np.ndarray, maps: ClipMaps, size: tuple[int, int], mode: Literal["bicubic", "bilinear"] = "bicubic"
) -> np.ndarray:
    """Float32 [H, W] in [0, 1]: a map laid over the clip's picture; 0 where the model saw nothing (it sees a cut).

    Args:
        heat: float32 [h, w] in [0, 1].
        maps: whose geometry it has.
        size: (height, width) of the upright picture to cover.
        mode: between the cells, smoothly or in proportion.
    """
    height, width = size
    (left, top), full = cut(maps.geometry, maps.size)
    u = ((np.arange(width) + 0.5) / width * full[0] - left) / maps.size[1] * 2 - 1
    v = ((np.arange(height) + 0.5) / height * full[1] - top) / maps.size[0] * 2 - 1
    grid = torch.from_numpy(np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1).astype(np.float32))
    laid = torch.nn.functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(heat, dtype=np.float32))[None, None],
        grid[None],
        mode=mode,
        padding_mode="border",
        align_corners=False,
    )[0, 0]
    inside = (np.abs(u) <= 1)[None, :] & (np.abs(v) <= 1)[:, None]
    return np.asarray(laid.clamp(0, 1).numpy() * inside, dtype=np.float32)


def blend(picture: np.ndarray, heat: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Uint8 [H, W, 3]: the heat [H, W] in [0, 1] over the picture, more opaque where it is hotter."""
    opacity = STRENGTH * heat[..., None]
    colour = colours[np.round(heat * 255).astype(np.int64)]
    return np.asarray(np.round(picture * (1 - opacity) + colour * opacity), dtype=np.uint8)


def annotate(picture: np.ndarray, heat: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Uint8 [H, W, 3]: with the true boxes (white on black) and a ring at the peak of the heat [H, W]."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    height, width = heat.shape
    for x0, y0, x1, y1 in boxes:
        corners = [x0 * (width - 1), y0 * (height - 1), x1 * (width - 1), y1 * (height - 1)]
        draw.rectangle(corners, outline=(0, 0, 0), width=4)
        draw.rectangle([c + o for c, o in zip(corners, (1, 1, -1, -1), strict=True)], outline=(255, 255, 255), width=2)
    if heat.max() > 0:
        y, x = divmod(int(heat.argmax()), width)
        for radius, colour in ((7, (0, 0, 0)), (6, (120, 255, 255)), (5, (120, 255, 255)), (4, (0, 0, 0))):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=colour)
    return np.asarray(image)


class Overlay:
    """Draws the maps of one clip over its pictures.

    Args:
        media: the clip as bytes, or a file.
        maps: its maps.
        boxes: true boxes at a time, in fractions of the clip's picture.
    """

    def __init__(self, media: bytes | Path, maps: ClipMaps, boxes: BoxesAt = lambda _: ()) -> None:
        self.media = media
        self.boxes = boxes
        self._colours = heat_colours()
        self._maps, self._bounds = maps, value_range(maps.maps)

    def draw(self, picture: np.ndarray, time: float) -> np.ndarray:
        """Uint8 [H, W, 3]: the upright picture of a time with its map."""
        heat = self._maps.at(time, lambda one: normalise(one, self._bounds))
        height, width = picture.shape[:2]
        smooth, judged = (spread(heat, self._maps, (height, width), mode) for mode in ("bicubic", "bilinear"))
        return annotate(blend(picture, smooth, self._colours), judged, self.boxes(time))

    def middle(self) -> np.ndarray:
        """Uint8 [H, W, 3]: the frame on screen at the clip's middle, drawn."""
        middle = _Middle(self._maps.duration / 2)
        for _ in middle.of(pictures(self.media)):
            if middle.found:
                break
        return self._drawn(middle)

    def _drawn(self, middle: _Middle) -> np.ndarray:
        if middle.picture is None:
            raise MediaError("no frame", "the picture stream holds no decodable frame")
        return self.draw(middle.picture, middle.time)

    def write_png(self, path: Path) -> None:
        """Write the middle frame."""
        _write_png(path, self.middle())

    def write_mp4(self, path: Path, crf: int = 23, png: Path | None = None, progress: Progress | None = None) -> None:
        """Write every frame at its own time, and the sound, as they are read.

        Args:
            path: of the mp4.
            crf: quality of the picture; less is better.
            png: also written, the middle frame, from the same pass over the pictures.
            progress: is told which share is done.
        """
        middle = _Middle(self._maps.duration / 2)

        def frames() -> Iterator[tuple[float, np.ndarray]]:
            for time, picture in middle.of(pictures(self.media)):
                if progress is not None:
                    progress(min(time / max(self._maps.duration, 1e-6), 1.0))
                yield time, self.draw(picture, time)

        write_movie(path, frames(), sound_blocks(self.media), crf)
        if png is not None:
            _write_png(png, self._drawn(middle))


class _Middle:
    """Keeps the picture on screen at a time, of pictures that pass by."""

    def __init__(self, time: float) -> None:
        self.time = time
        self.picture: np.ndarray | None = None
        self.found = False

    def of(self, shown: Iterator[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
        """The same pictures."""
        for time, picture in shown:
            self.found |= self.picture is not None and time > self.time + 1e-6
            if not self.found:
                self.picture = picture
            yield time, picture


def _write_png(path: Path, picture: np.ndarray) -> None:
    with whole(path) as aside:
        Image.fromarray(picture).save(aside, format="PNG")
