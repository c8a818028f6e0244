"""Scales, ticks and number texts for the figures: everything a chart needs before it draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """Maps values in [low, high] to pixels in [start, stop], linearly or by their logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values outside are held at the edge."""
        a, b, v = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            a, b, v = math.log10(a), math.log10(b), math.log10(v)
        share = (v - a) / (b - a) if b > a else 0.5
        return round(self.start + share * (self.stop - self.start), 1)


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers (1, 2, 2.5 or 5 times a power of ten apart) that cover [low, high], about `count`."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten that cover [low, high], at most about six; both must be positive."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if first == last:
        last += 1
    stride = max(1, math.ceil((last - first) / 6))
    return [10.0**e for e in range(first, last + stride, stride)]


def number_text(value: float, percent: bool = False) -> str:
    """Return a number with three significant digits, or in per cent with one decimal."""
    if not math.isfinite(value):
        return "n/a"
    if percent:
        return f"{100 * value:.1f} %".replace("-", "−")
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.1e}".replace("-", "−")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f").replace("-", "−")
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:.{min(max(digits, 0), 3)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def tick_text(value: float, percent: bool = False, log: bool = False) -> str:
    """Return the text of a tick: short, without needless zeros."""
    if log:
        exponent = round(math.log10(value))
        if -2 <= exponent <= 3:
            return f"{value:g}"
        return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    if percent:
        return f"{100 * value:.3g} %".replace("-", "−")
    if abs(value) >= 1000:
        thousands = f"{value / 1000:.3g} k"
        return thousands.replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near `wanted`, `gap` or more apart where [low, high] has room: labels do not overlap."""
    order = np.argsort(wanted, kind="stable")
    placed = [0.0] * len(wanted)
    last = low - gap
    for i in order:
        last = placed[i] = max(wanted[i], last + gap)
    bound = high + gap
    for i in order[::-1]:
        bound = placed[i] = min(placed[i], bound - gap)
    return [round(p, 1) for p in placed]
