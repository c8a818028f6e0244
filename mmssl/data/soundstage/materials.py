"""The materials: each is a texture that is seen and a timbre that is heard, and nothing else.

Colour is drawn afresh for every object around a hue that the material leans to, so that it hints and the pattern
tells. A pattern is a picture of `SIDE` x `SIDE` values in [0, 1] (the blend of the object's dark and light colour)
that is laid on each of an object's six faces; it is coarse and of high contrast, so that it can be read on an object
of 14 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Material:
    """Look and sound of a material.

    Args:
        pattern: Function of face coordinates x, y in [-1, 1] that gives a blend in [0, 1].
        modes: Resonances as (frequency in Hz, decay time in seconds, gain).
        band: Lowest and highest frequency in Hz of the noise that goes with a contact.
        band_decay: Decay time of that noise in seconds.
        band_gain: Its energy relative to that of the modes.
        words: Adjectives or nouns that subtitles use for it.
        hue: What its colour leans to, in [0, 1).
    """

    pattern: Callable[[np.ndarray, np.ndarray], np.ndarray]
    modes: tuple[tuple[float, float, float], ...]
    band: tuple[float, float]
    band_decay: float
    band_gain: float
    words: tuple[str, ...]
    hue: float


def _wave(phase: np.ndarray) -> np.ndarray:
    """Soft square wave of period 1 in [0, 1]; the soft edge is the antialiasing."""
    return np.asarray(np.clip(0.5 + 2.2 * np.sin(2 * np.pi * phase), 0.0, 1.0))


def _edge(distance: np.ndarray, width: float = 0.08) -> np.ndarray:
    """Soft step: 1 where `distance` is negative, 0 where positive."""
    return np.asarray(np.clip(0.5 - distance / (2 * width), 0.0, 1.0))


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _wave(1.25 * y)


def _checker(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b = np.sin(np.pi * 1.5 * x + np.pi / 4), np.sin(np.pi * 1.5 * y + np.pi / 4)
    return np.asarray(np.clip(0.5 + 3.0 * a * b, 0.0, 1.0))


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _edge(np.hypot(np.abs(x) - 0.5, np.abs(y) - 0.5) - 0.3)


def _rings(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _wave(1.2 * np.hypot(x, y) + 0.25)


def _grain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cells = np.random.Generator(np.random.PCG64(11)).random((6, 6)) > 0.55
    columns = np.clip(((x + 1) * 3).astype(int), 0, 5)
    rows = np.clip(((y + 1) * 3).astype(int), 0, 5)
    return np.asarray(cells[rows, columns], dtype=float)


def _plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.full_like(x, 0.35)


def _brick(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = np.floor((y + 1) * 1.5)
    across = np.mod((x + 1) * 0.75 + 0.5 * np.mod(row, 2), 1.0)
    joint = np.minimum(np.abs(np.mod((y + 1) * 1.5, 1.0) - 0.5), 0.5)
    return np.asarray(np.minimum(_edge(joint - 0.34, 0.05), _edge(np.abs(across - 0.5) - 0.38, 0.05)))


def _quarters(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _edge(x + y, 0.06)


def _pie(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _wave(3 * np.arctan2(y, x) / (2 * np.pi))


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _edge(np.minimum(np.abs(x), np.abs(y)) - 0.2)


def _border(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _edge(0.62 - np.maximum(np.abs(x), np.abs(y)))


def _belt(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _edge(np.abs(y) - 0.34)


MATERIALS: dict[str, Material] = {
    "wood": Material(
        pattern=_stripes,
        modes=((410.0, 0.05, 1.0), (960.0, 0.035, 0.7), (1500.0, 0.025, 0.4)),
        band=(300.0, 1200.0),
        band_decay=0.01,
        band_gain=0.3,
        words=("wooden", "made of wood"),
        hue=0 / 12,
    ),
    "steel": Material(
        pattern=_checker,
        modes=((1180.0, 0.35, 0.8), (2760.0, 0.30, 1.0), (5210.0, 0.22, 0.8), (7100.0, 0.15, 0.5)),
        band=(4000.0, 7500.0),
        band_decay=0.004,
        band_gain=0.1,
        words=("steel", "made of steel"),
        hue=2 / 12,
    ),
    "rubber": Material(
        pattern=_dots,
        modes=((95.0, 0.06, 1.0), (170.0, 0.04, 0.8)),
        band=(60.0, 260.0),
        band_decay=0.02,
        band_gain=0.3,
        words=("rubber", "made of rubber"),
        hue=4 / 12,
    ),
    "glass": Material(
        pattern=_rings,
        modes=((3350.0, 0.16, 1.0), (6150.0, 0.12, 0.8)),
        band=(5500.0, 7800.0),
        band_decay=0.003,
        band_gain=0.1,
        words=("glass", "made of glass"),
        hue=5 / 12,
    ),
    "gravel": Material(
        pattern=_grain,
        modes=(),
        band=(1200.0, 7600.0),
        band_decay=0.012,
        band_gain=1.0,
        words=("gravel", "gritty"),
        hue=7 / 12,
    ),
    "clay": Material(
        pattern=_plain,
        modes=((690.0, 0.03, 0.6), (1330.0, 0.02, 0.6)),
        band=(500.0, 2200.0),
        band_decay=0.008,
        band_gain=0.9,
        words=("clay", "fired from clay"),
        hue=6 / 12,
    ),
    "brass": Material(
        pattern=_brick,
        modes=((520.0, 0.40, 1.0), (1040.0, 0.35, 0.9), (1560.0, 0.28, 0.8), (2080.0, 0.22, 0.6)),
        band=(1000.0, 2500.0),
        band_decay=0.004,
        band_gain=0.05,
        words=("brass", "made of brass"),
        hue=1 / 12,
    ),
    "plastic": Material(
        pattern=_quarters,
        modes=((1750.0, 0.025, 1.0), (2350.0, 0.02, 0.8)),
        band=(1500.0, 3000.0),
        band_decay=0.006,
        band_gain=0.4,
        words=("plastic", "made of plastic"),
        hue=8 / 12,
    ),
    "drum": Material(
        pattern=_pie,
        modes=((150.0, 0.22, 1.0), (238.0, 0.18, 0.7), (320.0, 0.14, 0.5), (3900.0, 0.01, 0.3)),
        band=(2800.0, 4800.0),
        band_decay=0.006,
        band_gain=0.25,
        words=("drum-skin", "covered with drum skin"),
        hue=9 / 12,
    ),
    "ice": Material(
        pattern=_cross,
        modes=((4550.0, 0.02, 0.7), (820.0, 0.05, 0.7)),
        band=(3800.0, 5200.0),
        band_decay=0.02,
        band_gain=0.6,
        words=("icy", "made of ice"),
        hue=10 / 12,
    ),
    "bamboo": Material(
        pattern=_belt,
        modes=((265.0, 0.06, 0.7), (3000.0, 0.02, 0.8)),
        band=(200.0, 600.0),
        band_decay=0.006,
        band_gain=0.2,
        words=("bamboo", "made of bamboo"),
        hue=3 / 12,
    ),
    "tin": Material(
        pattern=_border,
        modes=((2150.0, 0.12, 0.8), (3900.0, 0.10, 1.0), (5800.0, 0.06, 0.6)),
        band=(2000.0, 4000.0),
        band_decay=0.004,
        band_gain=0.1,
        words=("tin-plated", "plated with tin"),
        hue=11 / 12,
    ),
}


@cache
def pattern_atlas(names: tuple[str, ...]) -> np.ndarray:
    """Float32 [materials, SIDE, SIDE]: the patterns of the named materials."""
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = np.meshgrid(axis, axis)
    atlas = np.stack([MATERIALS[name].pattern(x, y) for name in names]).astype(np.float32)
    return atlas


def impulse_response(material: Material, sample_rate: int, pitch: float = 1.0, seed: int = 0) -> np.ndarray:
    """Float64 [samples]: how the material answers to a tap, with unit energy.

    A sum of damped sinusoids (modal synthesis; van den Doel and Pai, "The sounds of physical shapes", Presence
    1998) and a decaying band of noise. `pitch` multiplies all frequencies.
    """
    longest = max([decay for _, decay, _ in material.modes] + [material.band_decay])
    time = np.arange(int(min(0.6, 5.0 * longest) * sample_rate) + 64) / sample_rate
    ringing = np.zeros_like(time)
    for frequency, decay, gain in material.modes:
        if frequency * pitch < 0.48 * sample_rate:
            ringing += gain * np.exp(-time / decay) * np.sin(2 * np.pi * frequency * pitch * time)
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(time))
    spectrum = np.fft.rfft(noise)
    frequencies = np.fft.rfftfreq(len(time), 1 / sample_rate)
    low, high = material.band[0] * pitch, min(material.band[1] * pitch, 0.48 * sample_rate)
    spectrum[(frequencies < low) | (frequencies > high)] = 0.0
    hiss = np.fft.irfft(spectrum, len(time)) * np.exp(-time / material.band_decay)
    hiss *= np.sqrt(material.band_gain / max(float(np.sum(hiss**2)), 1e-12))
    energy = float(np.sum(ringing**2))
    response = hiss + (ringing / np.sqrt(energy) if energy > 0 else 0.0)
    return np.asarray(response / np.sqrt(np.sum(response**2)))
