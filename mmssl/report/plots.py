"""Charts as inline SVG: lines over steps, bars beside baselines, a matrix of counts.

Colours are those of Okabe and Ito (Color Universal Design, 2008), taken from the page's style sheet by class
(`c0` ... `c7`), so that a chart follows light and dark. Every chart has a text for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmssl.report.axes import Scale, linear_ticks, log_ticks, number_text, spread, tick_text
from mmssl.report.history import running_mean, thin
from mmssl.report.markup import Html, element, join

LETTER = 6.3  # width of a letter at the charts' 12 px, for margins
TITLE_LETTER = 8.2  # and of one of the title
MOST_POINTS = 300


@dataclass(frozen=True)
class Line:
    """One line: x and y float [N], finite; `colour` counts the palette; `faint` draws it thin and pale."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: int = 0
    dashed: bool = False
    faint: bool = False
    points: bool = False


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line with its name at the right end (floor, ceiling, chance)."""

    name: str
    value: float


def smoothed(name: str, x: np.ndarray, y: np.ndarray, colour: int = 0) -> list[Line]:
    """Return a noisy quantity as two lines: pale as measured, strong as its running mean over 5 % of the points."""
    mean = running_mean(y, max(1, len(y) // 20) | 1)
    lines = [Line(name, x, mean, colour)]
    return [Line("", x, y, colour, faint=True), *lines] if len(y) >= 20 else [Line(name, x, y, colour)]


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    percent: bool = False,
    log: bool = False,
    y_range: tuple[float, float] | None = None,
    legend: bool = True,
    end_values: bool = True,
    width: int = 420,
    height: int = 225,
) -> Html:
    """Return a chart of lines over a common axis.

    Args:
        lines: What to draw; those without a name get neither legend nor label. With `log`, values must be > 0.
        title: Said at the top.
        x_label: Name of the x axis.
        y_label: Name and unit of the y axis.
        levels: Dashed horizontal lines.
        percent: Write y in per cent.
        log: Logarithmic y axis.
        y_range: Range that the y axis covers at least; else that of the data and levels.
        end_values: Write the last value of each line at its end; without, its name alone.
        legend: Name several lines above the chart, besides the direct labels at their ends.
        width: Width of the drawing in its own units; the page scales it.
        height: Height likewise.
    """
    lines = [line for line in lines if len(line.x)]
    if not lines:
        raise ValueError("a line chart needs at least one point")
    named = [line for line in lines if line.name]
    several = len(named) > 1
    ends: list[str] = []
    for ln in named:
        words = [ln.name] if several or not end_values else []
        ends.append(" ".join(words + ([number_text(float(ln.y[-1]), percent)] if end_values else [])))
    ends += [f"{level.name} {number_text(level.value, percent)}" for level in levels]
    right = min(max([len(e) for e in ends], default=0), 24) * LETTER + 12
    values = np.concatenate([ln.y for ln in lines] + [np.array([lv.value for lv in levels])])
    low, high = float(values.min()), float(values.max())
    if y_range is not None:
        low, high = min(low, y_range[0]), max(high, y_range[1])
    y_ticks = log_ticks(low, high) if log else linear_ticks(low, high)
    texts = [tick_text(t, percent, log) for t in y_ticks]
    left = max(len(t) for t in texts) * LETTER + 12
    top, bottom = 46.0, height - 38.0
    y_of = Scale(y_ticks[0], y_ticks[-1], bottom, top, log)
    x_low, x_high = min(float(ln.x.min()) for ln in lines), max(float(ln.x.max()) for ln in lines)
    x_of = Scale(x_low, x_high, left, width - right)

    parts = [
        element("text", _short(title, int(width / TITLE_LETTER)), x=0, y=14, class_="chart-title"),
        element("text", y_label, x=0, y=32, class_="axis-name"),
    ]
    for tick, text in zip(y_ticks, texts, strict=True):
        parts.append(element("line", x1=left, x2=width - right, y1=y_of(tick), y2=y_of(tick), class_="grid"))
        parts.append(element("text", text, x=left - 6, y=y_of(tick) + 4, class_="tick", text_anchor="end"))
    for tick in linear_ticks(x_low, x_high, 5):
        if x_low <= tick <= x_high:
            parts.append(element("line", x1=x_of(tick), x2=x_of(tick), y1=bottom, y2=bottom + 4, class_="axis"))
            text = tick_text(tick)
            parts.append(element("text", text, x=x_of(tick), y=bottom + 17, class_="tick", text_anchor="middle"))
    parts.append(element("line", x1=left, x2=width - right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(
        element("text", x_label, x=(left + width - right) / 2, y=height - 4, class_="axis-name", text_anchor="middle")
    )
    for level in levels:
        y = y_of(level.value)
        parts.append(element("line", x1=left, x2=width - right, y1=y, y2=y, class_="level"))
    for line in lines:
        parts.append(_polyline(line, x_of, y_of))
    wanted = [y_of(float(ln.y[-1])) for ln in named] + [y_of(lv.value) for lv in levels]
    classes = [f"end c{ln.colour % 8}" for ln in named] + ["end muted"] * len(levels)
    for text, y, class_ in zip(ends, spread(wanted, 14.0, top, bottom), classes, strict=True):
        parts.append(element("text", _short(text, 24), x=width - right + 6, y=y + 4, class_=class_))
    if several and legend:
        parts.append(_legend(named, 150.0 if len(y_label) < 22 else len(y_label) * LETTER + 16, 32.0))
    said = "; ".join(f"{ln.name}: {number_text(float(ln.y[-1]), percent)} at the end" for ln in named)
    said += "".join(f"; {lv.name}: {number_text(lv.value, percent)}" for lv in levels)
    return _svg(parts, width, height, f"{title}. {y_label} over {x_label}. {said}.")


def _polyline(line: Line, x_of: Scale, y_of: Scale) -> Html:
    x, y = thin(line.x, line.y, MOST_POINTS)
    points = " ".join(f"{x_of(float(a)):g},{y_of(float(b)):g}" for a, b in zip(x, y, strict=True))
    class_ = f"line c{line.colour % 8}" + (" faint" if line.faint else "") + (" dashed" if line.dashed else "")
    dots = []
    if line.points or len(x) == 1:
        dots = [
            element("circle", cx=x_of(float(a)), cy=y_of(float(b)), r=2.6, class_=f"dot c{line.colour % 8}")
            for a, b in zip(x, y, strict=True)
        ]
    return join([element("polyline", points=points, class_=class_), *dots])


def _legend(lines: Sequence[Line], x: float, y: float) -> Html:
    parts = []
    for line in lines:
        class_ = f"line c{line.colour % 8}" + (" dashed" if line.dashed else "")
        parts.append(element("line", x1=x, x2=x + 16, y1=y - 4, y2=y - 4, class_=class_))
        name = _short(line.name, 18)
        parts.append(element("text", name, x=x + 20, y=y, class_="tick"))
        x += 34 + len(name) * LETTER
    return join(parts)


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: a value with its text, an error and single scores as dots.

    The error is one standard deviation, or else the `interval` (low, high). `own` marks what is to be shown, against
    the baselines in grey; `target` draws a short upright line.
    """

    name: str
    value: float
    text: str
    error: float | None = None
    dots: tuple[float, ...] = ()
    own: bool = False
    target: float | None = None
    colour: int = 0
    interval: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Where its error begins and ends, or None."""
        if self.interval is not None:
            return self.interval
        return (self.value - self.error, self.value + self.error) if self.error else None

    @property
    def most(self) -> float:
        """The right end of everything it draws."""
        target = () if self.target is None else (self.target,)
        everything: list[float] = [self.value, *(self.ends or ()), *self.dots, *target]
        return max(everything)


def bar_chart(
    bars: Sequence[Bar],
    *,
    title: str,
    x_label: str,
    high: float | None = None,
    percent: bool = False,
    levels: Sequence[Level] = (),
    width: int = 430,
) -> Html:
    """Return lying bars from zero, each under its name and with its text at the end, so that a phone can show them.

    Args:
        bars: Rows from top to bottom.
        title: Said at the top.
        x_label: Name and unit of the axis.
        high: Right end of the axis at least; else that of the data.
        percent: Write ticks in per cent.
        levels: Dashed upright lines (chance).
        width: Width of the drawing in its own units.
    """
    if not bars:
        raise ValueError("a bar chart needs at least one bar")
    row, top, left = 38.0, 44.0, 8.0
    bottom = top + row * len(bars)
    height = bottom + 40
    right = max(len(b.text) for b in bars) * LETTER + 14
    most = [b.most for b in bars] + [lv.value for lv in levels] + [high or 0.0]
    ticks = linear_ticks(0.0, max(*most, 1e-9), 6)
    x_of = Scale(0.0, ticks[-1], left, width - right)
    parts = [element("text", _short(title, int(width / TITLE_LETTER)), x=0, y=14, class_="chart-title")]
    for tick in ticks:
        parts.append(element("line", x1=x_of(tick), x2=x_of(tick), y1=top, y2=bottom, class_="grid"))
        text = tick_text(tick, percent)
        parts.append(element("text", text, x=x_of(tick), y=bottom + 16, class_="tick", text_anchor="middle"))
    words: list[Html] = []  # drawn last, over the lines
    for i, bar in enumerate(bars):
        middle = top + row * i + 25
        class_ = f"bar c{bar.colour % 8}" if bar.own else "bar base"
        wide = round(x_of(bar.value) - left, 1)
        words.append(element("text", _short(bar.name, 60), x=left, y=middle - 11, class_="row-name"))
        parts.append(element("rect", x=left, y=middle - 7, width=max(wide, 1), height=14, rx=2, class_=class_))
        if bar.ends is not None:
            a, b = (x_of(end) for end in bar.ends)
            parts.append(element("line", x1=a, x2=b, y1=middle, y2=middle, class_="error"))
        for dot in bar.dots:
            parts.append(element("circle", cx=x_of(dot), cy=middle, r=2.8, class_="seed"))
        if bar.target is not None:
            x = x_of(bar.target)
            parts.append(element("line", x1=x, x2=x, y1=middle - 9, y2=middle + 9, class_="target"))
        end = x_of(bar.most)
        words.append(element("text", bar.text, x=end + 8, y=middle + 4, class_="end strong" if bar.own else "end"))
    for level in levels:
        x = x_of(level.value)
        parts.append(element("line", x1=x, x2=x, y1=top - 16, y2=bottom, class_="level"))
        text = f"{level.name} {number_text(level.value, percent)}"
        parts.append(element("text", text, x=x + 4, y=top - 6, class_="end muted"))
    parts.append(
        element("text", x_label, x=(left + width - right) / 2, y=height - 6, class_="axis-name", text_anchor="middle")
    )
    parts += words
    said = "; ".join(f"{b.name}: {b.text}" for b in bars)
    return _svg(parts, width, height, f"{title}. {x_label}. {said}.")


def matrix_chart(counts: np.ndarray, names: Sequence[str], *, title: str) -> Html:
    """Return a confusion matrix: rows true, columns predicted, shade and figure = share of the row.

    Args:
        counts: Non-negative [C, C].
        names: C class names.
        title: Said at the top.
    """
    counts = np.asarray(counts, dtype=float)
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"counts {counts.shape} do not fit {len(names)} names")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    cell, left = 30.0, min(max(len(n) for n in names), 16) * LETTER + 14
    top = 34.0 + min(max(len(n) for n in names), 16) * LETTER * 0.72
    width, height = left + cell * len(names) + 40, top + cell * len(names) + 26
    parts = [element("text", _short(title, int(width / TITLE_LETTER)), x=0, y=14, class_="chart-title")]
    for i, name in enumerate(names):
        at = cell * (i + 0.5)
        parts.append(
            element("text", _short(name, 16), x=left - 8, y=top + at + 4, class_="row-name", text_anchor="end")
        )
        x, y = round(left + at, 1), round(top - 6, 1)
        parts.append(element("text", _short(name, 16), x=x, y=y, class_="tick", transform=f"rotate(-45 {x} {y})"))
        for j, share in enumerate(shares[i]):
            x, y = left + cell * j, top + cell * i
            parts.append(
                element(
                    "rect", x=x + 1, y=y + 1, width=cell - 2, height=cell - 2, rx=2, class_="cell",
                    style=f"fill-opacity:{0.06 + 0.94 * share:.2f}",
                )
            )  # fmt: skip
            if share >= 0.005:
                class_ = "cell-text dark" if share > 0.5 else "cell-text"
                text = f"{100 * share:.0f}"
                parts.append(
                    element("text", text, x=x + cell / 2, y=y + cell / 2 + 4, class_=class_, text_anchor="middle")
                )
    parts.append(
        element("text", "rows: true · columns: called · % of the row", x=left, y=height - 6, class_="axis-name")
    )
    right = "; ".join(f"{n}: {100 * shares[i, i]:.0f} % right" for i, n in enumerate(names))
    return _svg(parts, width, height, f"{title}. {right}.")


def _svg(parts: Sequence[object], width: float, height: float, said: str) -> Html:
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=said,
        class_="chart",
        style=f"max-width:{width * 1.2:g}px",
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
