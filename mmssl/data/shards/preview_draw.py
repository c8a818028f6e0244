"""Draws previews of clips as one picture: header, frames, axis, waveform and sentences of each, on one time axis."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmssl.data.shards.preview import COLUMNS, Preview, PreviewCue

MARGIN, GAP = 12, 18
WIDTH = COLUMNS + 2 * MARGIN
HEADER, AXIS, WAVE, LANE, ASIDE, ERROR = 24, 16, 56, 18, 16, 24
MOST_LANES = 4
LEAST_TEXT = 160  # pixels that a sentence may take to the right of a short bar
INK, FAINT, PAPER, PANEL, LINE = (32, 36, 44), (112, 118, 128), (255, 255, 255), (243, 244, 247), (208, 212, 220)
WAVE_INK, OWN, OWN_INK, OTHER, RED = (46, 110, 180), (255, 214, 120), (60, 40, 0), (224, 226, 231), (190, 30, 40)

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside


@dataclass(frozen=True)
class Placed:
    """A bar of a sentence: its lane, its pixels, and the pixel before which its text must end."""

    cue: PreviewCue
    lane: int
    left: int
    right: int
    until: int


@dataclass(frozen=True)
class Layout:
    """Where the parts of one clip lie on the sheet.

    Args:
        header, axis, wave, error: boxes of these parts.
        frames: box of each frame.
        bars: the sentences on the axis.
        lanes: number of lanes.
        hidden: sentences without room.
        aside: box of the line about sentences before and after the clip; None without any.
        bottom: first row below the clip.
    """

    header: Box
    frames: tuple[Box, ...]
    axis: Box
    wave: Box
    lanes_top: int
    bars: tuple[Placed, ...]
    lanes: int
    hidden: int
    aside: Box | None
    error: Box | None
    bottom: int


def frame_width(frames: int) -> int:
    """Pixels that one of so many frames may be wide."""
    return max(COLUMNS // frames - 4, 8)


def layout_of(preview: Preview, top: int) -> Layout:
    """Lay out a clip whose block begins at row `top`."""
    left, right = MARGIN, MARGIN + COLUMNS
    row = top + HEADER
    header = (left, top, right, row)
    error = None
    if preview.error:
        error = (left, row, right, row + ERROR)
        row += ERROR
    if not preview.duration:
        nothing = (left, row, right, row)
        return Layout(header, (), nothing, nothing, row, (), 0, 0, None, error, row)
    count, height, width = preview.frames.shape[:3]
    boxes = []
    for number in range(count):
        middle = left + round((number + 0.5) / count * COLUMNS)
        boxes.append((middle - width // 2, row, middle - width // 2 + width, row + height))
    row += height + 2 if count else 0
    axis = (left, row, right, row + AXIS)
    wave = (left, row + AXIS, right, row + AXIS + WAVE)
    row += AXIS + WAVE + 2
    bars, hidden = _place(preview)
    lanes = max((bar.lane for bar in bars), default=-1) + 1
    lanes_top = row
    row += lanes * LANE
    aside = None
    if hidden or any(_outside(cue, preview.duration) for cue in preview.cues):
        aside = (left, row, right, row + ASIDE)
        row += ASIDE
    return Layout(header, tuple(boxes), axis, wave, lanes_top, tuple(bars), lanes, hidden, aside, error, row)


def _outside(cue: PreviewCue, duration: float) -> bool:
    return cue.end <= 0 or cue.start >= duration


def _x(time: float, duration: float) -> int:
    return MARGIN + round(min(max(time / duration, 0.0), 1.0) * COLUMNS)


def _place(preview: Preview) -> tuple[list[Placed], int]:
    """Give each sentence that touches the clip a lane in which bar and text have room; count those without."""
    lanes: list[list[tuple[PreviewCue, int, int]]] = []
    hidden = 0
    for cue in preview.cues:
        if _outside(cue, preview.duration):
            continue
        left = _x(cue.start, preview.duration)
        right = max(_x(cue.end, preview.duration), left + 3)
        for lane in lanes:
            before, before_left, before_right = lane[-1]
            its_text = min(_width(_clean(before.text), 12) + 10, LEAST_TEXT)
            if left >= max(before_right, before_left + its_text):
                lane.append((cue, left, right))
                break
        else:
            if len(lanes) == MOST_LANES:
                hidden += 1
                continue
            lanes.append([(cue, left, right)])
    placed = []
    for number, lane in enumerate(lanes):
        for (cue, left, right), following in zip(lane, [*lane[1:], None], strict=True):
            until = MARGIN + COLUMNS if following is None else following[1] - 2
            placed.append(Placed(cue, number, left, right, until))
    return placed, hidden


def draw_sheet(previews: Sequence[Preview], title: str) -> Image.Image:
    """The contact sheet, RGB."""
    top = MARGIN + HEADER
    layouts = layouts_of(previews)
    height = (layouts[-1].bottom if layouts else top) + MARGIN
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (MARGIN, MARGIN - 2), title, 13, FAINT, COLUMNS)
    for preview, layout in zip(previews, layouts, strict=True):
        _draw_clip(sheet, draw, preview, layout)
    return sheet


def layouts_of(previews: Sequence[Preview]) -> list[Layout]:
    """The layouts of a sheet's clips, one below the other."""
    top = MARGIN + HEADER
    layouts = []
    for preview in previews:
        layouts.append(layout_of(preview, top))
        top = layouts[-1].bottom + GAP
    return layouts


def _draw_clip(sheet: Image.Image, draw: ImageDraw.ImageDraw, preview: Preview, layout: Layout) -> None:
    left, top, right, _ = layout.header
    draw.line((left, top - GAP // 2, right - 1, top - GAP // 2), fill=LINE)
    facts = ", ".join(part for part in (f"{preview.duration:.2f} s" if preview.duration else "", preview.facts) if part)
    room = COLUMNS - _width(facts, 12) - 16
    used = _text(draw, (left, top + 2), preview.key, 14, INK, int(room * 0.6), bold=True)
    if preview.label is not None:
        _text(draw, (left + used + 12, top + 3), preview.label, 13, WAVE_INK, room - used - 12)
    _text(draw, (right - _width(facts, 12), top + 4), facts, 12, FAINT, COLUMNS)
    if layout.error is not None:
        draw.rectangle(_inclusive(layout.error), fill=(253, 236, 236))
        _text(draw, (left + 6, layout.error[1] + 4), preview.error, 12, RED, COLUMNS - 12)
    if not preview.duration:
        return
    for number, box in enumerate(layout.frames):
        sheet.paste(Image.fromarray(preview.frames[number]), box[:2])
        _stamp(draw, box, f"{preview.frame_times[number]:.2f}")
    _draw_axis(draw, layout.axis, preview.duration)
    _draw_wave(draw, layout.wave, preview.envelope)
    for bar in layout.bars:
        _draw_bar(draw, layout.lanes_top + bar.lane * LANE, bar)
    if layout.aside is not None:
        _draw_aside(draw, layout.aside, preview, layout.hidden)


def _inclusive(box: Box) -> Box:
    return (box[0], box[1], box[2] - 1, box[3] - 1)


def _stamp(draw: ImageDraw.ImageDraw, box: Box, text: str) -> None:
    """The time stamp in a frame's lower left corner, if it has room there."""
    width = _width(text, 10) + 6
    if width > box[2] - box[0] or box[3] - box[1] < 26:
        return
    draw.rectangle((box[0], box[3] - 14, box[0] + width, box[3] - 1), fill=(0, 0, 0))
    _text(draw, (box[0] + 3, box[3] - 14), text, 10, (255, 255, 255), width)


def _draw_axis(draw: ImageDraw.ImageDraw, box: Box, duration: float) -> None:
    step = _nice(duration / 10)
    for number in range(int(duration / step + 1e-6) + 1):
        x = min(_x(number * step, duration), box[2] - 1)
        draw.line((x, box[1], x, box[1] + 4), fill=FAINT)
        text = f"{number * step:g}"
        at = min(max(x - _width(text, 10) // 2, box[0]), box[2] - _width(text, 10))
        _text(draw, (at, box[1] + 3), text, 10, FAINT, 60)


def _nice(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _draw_wave(draw: ImageDraw.ImageDraw, box: Box, envelope: np.ndarray | None) -> None:
    draw.rectangle(_inclusive(box), fill=PANEL)
    middle, half = (box[1] + box[3]) // 2, (box[3] - box[1]) // 2 - 3
    if envelope is None:
        _text(draw, ((box[0] + box[2] - _width("no sound", 12)) // 2, middle - 8), "no sound", 12, FAINT, 200)
        return
    peak = float(np.abs(envelope).max())
    if peak > 0:
        for column in range(envelope.shape[1]):
            low, high = (round(middle - half * float(envelope[row, column]) / peak) for row in (0, 1))
            draw.line((box[0] + column, high, box[0] + column, low), fill=WAVE_INK)
    else:
        draw.line((box[0], middle, box[2] - 1, middle), fill=WAVE_INK)
    text = f"peak {round(20 * math.log10(peak))} dB" if peak > 0 else "silence"
    width = _width(text, 10)
    draw.rectangle((box[2] - width - 7, box[1], box[2] - 1, box[1] + 13), fill=PANEL)
    _text(draw, (box[2] - width - 4, box[1]), text, 10, FAINT, width + 4)


def _draw_bar(draw: ImageDraw.ImageDraw, top: int, bar: Placed) -> None:
    fill, ink = (OTHER, FAINT) if bar.cue.context else (OWN, OWN_INK)
    draw.rectangle((bar.left, top + 1, bar.right - 2, top + LANE - 2), fill=fill)
    _text(draw, (bar.left + 3, top + 2), bar.cue.text, 12, ink, bar.until - bar.left - 6)


def _draw_aside(draw: ImageDraw.ImageDraw, box: Box, preview: Preview, hidden: int) -> None:
    """The nearest sentence before the clip at the left, the nearest after it at the right, and how many more."""
    before = [cue for cue in preview.cues if cue.end <= 0]
    after = [cue for cue in preview.cues if cue.start >= preview.duration]
    if before:
        nearest = max(before, key=lambda cue: cue.end)
        more = f" (+{len(before) - 1})" if len(before) > 1 else ""
        said = f"before{more}, to {nearest.end:.1f} s: {nearest.text}"
        _text(draw, (box[0] + 3, box[1] + 1), said, 11, FAINT, COLUMNS // 2 - 60)
    if after:
        nearest = min(after, key=lambda cue: cue.start)
        more = f" (+{len(after) - 1})" if len(after) > 1 else ""
        said = _fit(f"after{more}, from {nearest.start:.1f} s: {nearest.text}", 11, COLUMNS // 2 - 60, False)
        _text(draw, (box[2] - _width(said, 11) - 3, box[1] + 1), said, 11, FAINT, COLUMNS // 2 - 50)
    if hidden:
        said = f"{hidden} more here"
        _text(draw, ((box[0] + box[2] - _width(said, 11)) // 2, box[1] + 1), said, 11, FAINT, 120)


# ------------------------------------------------------------------------------------------------------------- text


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, ink: Any, width: int, bold: bool = False
) -> int:
    """Write a line that is never wider than `width`; returns how wide it is."""
    text = _fit(text, size, width, bold)
    if text:
        draw.text(at, text, font=_font(_path_for(text, bold), size), fill=ink)
    return _width(text, size, bold)


def _fit(text: str, size: int, width: int, bold: bool) -> str:
    """The text, or its beginning with an ellipsis, at most `width` pixels wide."""
    text = _clean(text)
    if _width(text, size, bold) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest beginning that has room
        middle = (low + high + 1) // 2
        if _width(text[:middle].rstrip() + "…", size, bold) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…" if low else ""


def _clean(text: str) -> str:
    """One line that can be drawn: no control characters, no halves of surrogate pairs, not endless."""
    text = text[:1000].encode("utf-8", "replace").decode("utf-8")
    kept = (" " if unicodedata.category(sign).startswith(("C", "Z")) else sign for sign in text)
    return " ".join("".join(kept).split())


@lru_cache(maxsize=4096)
def _width(text: str, size: int, bold: bool = False) -> int:
    return math.ceil(_font(_path_for(text, bold), size).getlength(text)) if text else 0


@lru_cache(maxsize=64)
def _font(path: str, size: int) -> Any:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=4096)
def _path_for(text: str, bold: bool) -> str:
    """A font that has the signs of `text`: DejaVu, which is always there, or the best that the system has."""
    plain = _dejavu(bold)
    missing = {ord(sign) for sign in text} - _signs(plain)
    if not missing:
        return plain
    best, lacking = plain, len(missing)
    for path in _system_fonts():
        still = len(missing - _signs(path))
        if still < lacking:
            best, lacking = path, still
        if not lacking:
            break
    return best


def _dejavu(bold: bool) -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf")


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    return tuple(sorted(font_manager.findSystemFonts()))[:500]


@lru_cache(maxsize=512)
def _signs(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
