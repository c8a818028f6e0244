"""The map drawn over the picture: a PNG of the middle frame, and an mp4 of the whole clip with its sound.

The heat is normalised over the clip (not frame by frame), so that it is dim where nothing in sight matches. The
true box is drawn where it is known, and a ring marks the peak.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageDraw

from mmssl.data.media import (
    MediaError,
    audio_stream,
    clock_zero,
    open_media,
    pixel_aspect,
    quarter_turns,
    video_stream,
)
from mmssl.data.timestamps import PictureClock
from mmssl.localization.maps import ClipMaps
from mmssl.localization.truth import Box, cut

SHORT_SIDE = 288  # pixels, at least, of what is drawn: small clips are enlarged
LONG_SIDE = 960  # at most
STRENGTH = 0.75  # opacity of the hottest place
_FINE = Fraction(1, 90000)
BoxesAt = Callable[[float], Sequence[Box]]


def heat_colours() -> np.ndarray:
    """Uint8 [256, 3]: inferno, a colour map whose lightness rises evenly."""
    import matplotlib

    return np.asarray(matplotlib.colormaps["inferno"](np.arange(256), bytes=True)[:, :3])


def normalise(maps: np.ndarray) -> np.ndarray:
    """Float32 in [0, 1]: the median of all maps of a clip [T, h, w] becomes 0, their maximum 1; zeros if constant."""
    low, high = float(np.median(maps)), float(maps.max())
    if not high > low:
        return np.zeros_like(maps, dtype=np.float32)
    return np.asarray(np.clip((maps - low) / (high - low), 0.0, 1.0), dtype=np.float32)


def spread(heat: np.ndarray, maps: ClipMaps, size: tuple[int, int]) -> np.ndarray:
    """Float32 [H, W] in [0, 1]: a map laid over the clip's picture; 0 where the model saw nothing (it sees a cut).

    Args:
        heat: float32 [h, w] in [0, 1].
        maps: whose geometry it has.
        size: (height, width) of the upright picture to cover.
    """
    height, width = size
    (left, top), full = cut(maps.geometry, maps.size)
    u = ((np.arange(width) + 0.5) / width * full[0] - left) / maps.size[1] * 2 - 1
    v = ((np.arange(height) + 0.5) / height * full[1] - top) / maps.size[0] * 2 - 1
    grid = torch.from_numpy(np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1).astype(np.float32))
    laid = torch.nn.functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(heat, dtype=np.float32))[None, None],
        grid[None],
        mode="bicubic",
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
    """Uint8 [H, W, 3]: with the true boxes (white on black) and a ring at the peak of the heat."""
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
        self._heat = replace(maps, maps=normalise(maps.maps))

    def draw(self, picture: np.ndarray, time: float) -> np.ndarray:
        """Uint8 [H, W, 3]: the upright picture of a time with its map."""
        heat = spread(self._heat.at(time), self._heat, (picture.shape[0], picture.shape[1]))
        return annotate(blend(picture, heat, self._colours), heat, self.boxes(time))

    def middle(self) -> np.ndarray:
        """Uint8 [H, W, 3]: the frame on screen at the clip's middle, drawn."""
        wanted = self._heat.duration / 2
        last: np.ndarray | None = None
        for time, picture in pictures(self.media):
            if last is not None and time > wanted + 1e-6:
                break
            last = picture
        if last is None:
            raise MediaError("no frame", "the picture stream holds no decodable frame")
        return self.draw(last, wanted)

    def write_png(self, path: Path) -> None:
        """Write the middle frame."""
        with _whole(path) as aside:
            Image.fromarray(self.middle()).save(aside, format="PNG")

    def write_mp4(self, path: Path, crf: int = 23) -> None:
        """Write every frame at its own time, and the sound."""
        with _whole(path) as aside, av.open(str(aside), "w", format="mp4") as out:
            frames, sounds = pictures(self.media), sound_frames(self.media)
            first, sound = next(frames, None), next(sounds, None)
            if first is None:
                raise MediaError("no frame", "the picture stream holds no decodable frame")
            video: Any = out.add_stream("libx264", rate=30, options={"crf": str(crf), "preset": "veryfast"})
            video.height, video.width, video.pix_fmt = *first[1].shape[:2], "yuv420p"
            video.time_base = video.codec_context.time_base = _FINE
            audio: Any = None
            if sound is not None:
                audio = out.add_stream("aac", rate=sound.sample_rate, layout=sound.layout.name)
            for time, picture in chain([first], frames):
                while sound is not None and float(sound.pts * sound.time_base) <= time:
                    out.mux(audio.encode(sound))
                    sound = next(sounds, None)
                frame = av.VideoFrame.from_ndarray(self.draw(picture, time), format="rgb24")
                frame.pts, frame.time_base = round(time / _FINE), _FINE
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
            while sound is not None:
                out.mux(audio.encode(sound))
                sound = next(sounds, None)
            if audio is not None:
                out.mux(audio.encode(None))


def pictures(media: bytes | Path) -> Iterator[tuple[float, np.ndarray]]:
    """(time, uint8 [H, W, 3]) of every frame, upright, for drawing.

    Time is on the clip's clock and rises. H and W are even, the short side at least `SHORT_SIDE`.
    """
    with open_media(media) as container:
        stream = video_stream(container)
        zero, aspect = clock_zero(container), float(pixel_aspect(stream))
        previous, clock = -1.0, PictureClock()
        for frame in container.decode(stream):
            stamp = clock.seconds(frame)
            if stamp is None or stamp - zero <= previous or stamp - zero < -1e-6:
                continue
            previous = max(stamp - zero, 0.0)
            turns = quarter_turns(frame)
            wide = (frame.height, round(frame.width * aspect))
            height, width = wide if turns % 2 == 0 else wide[::-1]
            scale = min(max(SHORT_SIDE / min(height, width), 1.0), LONG_SIDE / max(height, width))
            drawn = (2 * max(round(height * scale / 2), 8), 2 * max(round(width * scale / 2), 8))
            coded = drawn if turns % 2 == 0 else drawn[::-1]
            picture = frame.reformat(
                width=coded[1], height=coded[0], format="rgb24", interpolation="BICUBIC", threads=1
            ).to_ndarray()
            yield previous, np.ascontiguousarray(np.rot90(picture, -turns))


def sound_frames(media: bytes | Path) -> Iterator[Any]:
    """The sound as frames that AAC takes, time-stamped on the clip's clock; nothing where there is none."""
    with open_media(media) as container:
        stream = audio_stream(container)
        if stream is None:
            return
        zero = clock_zero(container)
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        rate = min(stream.codec_context.sample_rate, 48000)
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=1024)
        position: int | None = None
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            if position is None:
                position = max(round((float(frame.pts * frame.time_base) - zero) * rate), 0)
            frame.pts = None  # counted from the first sample on: the resampler refuses small gaps in stamps
            for part in resampler.resample(frame):
                yield _stamped(part, position, rate)
                position += part.samples
        for part in resampler.resample(None):
            if position is not None:
                yield _stamped(part, position, rate)
                position += part.samples


def _stamped(frame: Any, position: int, rate: int) -> Any:
    frame.pts, frame.time_base = position, Fraction(1, rate)
    return frame


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write under; the file appears under its own when all is well, else nothing stays."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
