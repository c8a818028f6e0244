"""Maps laid over the pictures they are of: a row a stage, trained above random weights."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmssl.evaluation.stages import StageMaps
from mmssl.report.markup import clean

CELL = 112  # pixels of a drawn frame's shorter side, at least
WIDEST = 900  # of a drawn spectrogram
TITLE = 17  # pixels above a row
STRENGTH = 0.78  # opacity of the hottest place


def heat_colours() -> np.ndarray:
    """Uint8 [256, 3]: inferno, whose lightness rises evenly."""
    import matplotlib

    return np.asarray(matplotlib.colormaps["inferno"](np.arange(256), bytes=True)[:, :3])


def normalised(maps: np.ndarray) -> np.ndarray:
    """Float32 [t, h, w] in [0, 1]: a clip's least value becomes 0, its greatest 1; a constant map becomes zeros."""
    low, high = float(maps.min()), float(maps.max())
    return np.zeros_like(maps, np.float32) if high - low <= 1e-12 else ((maps - low) / (high - low)).astype(np.float32)


def laid_over(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Uint8 [H, W, 3]: a picture with a map in [0, 1], any size, laid over it; more opaque where it is hotter."""
    height, width = picture.shape[:2]
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    smooth = np.clip(smooth, 0.0, 1.0)
    grey = picture.astype(np.float32).mean(axis=2, keepdims=True)  # the heat's colours must not mix with the picture's
    opacity = (0.15 + (STRENGTH - 0.15) * smooth)[..., None]
    colours = heat_colours()[(255 * smooth).round().astype(int)]
    return np.asarray(np.clip((1 - opacity) * grey + opacity * colours, 0, 255).round(), dtype=np.uint8)


def stage_picture(clip: StageMaps, columns: int = 6) -> bytes:
    """PNG of a clip: its frames in the first row, then each stage's map, trained and with random weights.

    Args:
        clip: with its maps.
        columns: frames, evenly spread.
    """
    count = len(clip.pictures)
    chosen = np.linspace(0, count - 1, min(columns, count)).round().astype(int)
    pictures = [enlarged(clip.pictures[n]) for n in chosen]
    lines = [titled("spectrogram, high pitch on top" if count == 1 else "frames", _row(pictures))]
    for stage, models in clip.stages.items():
        for model, maps in models.items():
            heat = normalised(maps)
            at = [round(n * (len(heat) - 1) / max(count - 1, 1)) for n in chosen]
            row = _row([laid_over(p, heat[t]) for p, t in zip(pictures, at, strict=True)])
            lines.append(titled(f"{stage}, {model}", row))
    return png(np.concatenate(lines))


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A picture of which no side is too small to be seen."""
    height, width = picture.shape[:2]
    scale = max(1.0, CELL / min(height, width))
    if width * scale > WIDEST:
        scale = max(WIDEST / width, 1.0) if width < WIDEST else WIDEST / width
    size = (max(1, round(width * scale)), max(1, round(height * max(scale, CELL / height))))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _row(pictures: list[np.ndarray], gap: int = 3) -> np.ndarray:
    parts: list[np.ndarray] = []
    for picture in pictures:
        parts += [picture, np.full((picture.shape[0], gap, 3), 255, dtype=np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def titled(text: str, picture: np.ndarray) -> np.ndarray:
    """A picture under a line of text."""
    head = Image.new("RGB", (picture.shape[1], TITLE), (255, 255, 255))
    ImageDraw.Draw(head).text((2, 1), clean(text), fill=(0, 0, 0), font=ImageFont.load_default(12))
    return np.concatenate([np.asarray(head), picture, np.full((4, picture.shape[1], 3), 255, dtype=np.uint8)])


def png(picture: np.ndarray) -> bytes:
    """A uint8 picture [H, W, 3] as PNG."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", optimize=True)
    return out.getvalue()
