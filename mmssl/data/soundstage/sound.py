"""The sound of a clip, made from the motion of the sounding body: modal synthesis with the timbre of its material.

Blows at contact times, noise by the speed of rolling and sliding, pulse trains by turning; all of them are passed
through the material's impulse response, so that the timbre is the material's whatever the action (van den Doel, Kry
and Pai, "FoleyAutomatic", SIGGRAPH 2001).
"""

from __future__ import annotations

import numpy as np

from mmssl.data.soundstage.layout import Layout
from mmssl.data.soundstage.materials import MATERIALS, impulse_response
from mmssl.data.soundstage.motion import drive
from mmssl.data.soundstage.preset import generator

LOUDNESS = -20.0  # dB of full scale, before the preset's jitter


def synthesise(layout: Layout) -> np.ndarray:
    """Float32 [S] in [-1, 1]; background noise alone when nothing sounds."""
    preset = layout.preset
    random = generator(preset, layout.seed, layout.split, layout.index, "sound")
    count, rate = preset.samples, preset.sample_rate
    level = LOUDNESS + preset.loudness_jitter * (2 * random.random() - 1)
    noise = _coloured_noise(random, count) * 10 ** ((level + preset.sound_noise) / 20)
    pitch = float(2.0 ** ((random.random() - 0.5) / 6))  # a tone up or down: no two bells are alike
    response_seed = int(random.integers(2**31))
    if layout.sounding is None:
        return np.clip(noise, -1, 1).astype(np.float32)
    body = layout.bodies[layout.sounding]
    response = impulse_response(MATERIALS[body.material], rate, pitch, response_seed)
    driven = drive(body.motion, preset.duration, count)
    excitation = np.zeros(count)
    for at, strength in zip(driven.contacts, driven.strengths, strict=True):
        place = round(float(at) * rate)
        if place < count:
            excitation[place] += strength * (0.85 + 0.3 * random.random())
    times = np.arange(count) / rate + driven.delay
    # A pulse falls where the running phase passes a whole number; its rate follows the delay (Doppler).
    phase = np.floor(times * driven.pulse)
    pulses = np.diff(phase, prepend=phase[0]) > 0
    excitation += 0.3 * driven.hum * pulses
    excitation += 0.02 * driven.hiss * random.standard_normal(count)
    sound = _convolve(excitation, response)[:count]
    power = float(np.sqrt(np.mean(sound**2)))
    sound = sound * (10 ** (level / 20) / max(power, 1e-9))
    # Blows have peaks far above the mean: squeezed softly instead of cut.
    return np.tanh(sound + noise).astype(np.float32)


def _convolve(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    length = 1 << (len(signal) + len(response) - 1).bit_length()
    return np.asarray(np.fft.irfft(np.fft.rfft(signal, length) * np.fft.rfft(response, length), length))


def _coloured_noise(random: np.random.Generator, count: int) -> np.ndarray:
    """Noise of unit power whose level falls by 3 dB an octave, as rooms have."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 8))
    noise = np.fft.irfft(spectrum, count)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))
