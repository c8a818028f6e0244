"""Loudness of known sounds, and which sounds count as alike over time."""

from __future__ import annotations

import math

import pytest
import torch

from mmssl.ops.loudness import envelope, envelope_distance, loudness

RATE = 16000
SECOND = torch.arange(RATE) / RATE
HUM = 0.1 * torch.sin(2 * math.pi * 440 * SECOND)


def clicks(*instants: float) -> torch.Tensor:
    """Noise bursts of 40 ms over a hum."""
    generator = torch.Generator().manual_seed(round(1000 * sum(instants)))
    wave = HUM.clone()
    for instant in instants:
        first = round(instant * RATE)
        wave[first : first + 640] += 0.5 * torch.randn(640, generator=generator)
    return wave


def test_full_scale_sine_is_three_decibels_below_full_scale_and_silence_is_finite() -> None:
    waves = torch.stack([torch.sin(2 * math.pi * 100 * SECOND), torch.zeros(RATE)])
    assert loudness(waves).tolist() == pytest.approx([-3.0103, -140.0], abs=1e-3)


def test_envelope_has_one_value_a_frame() -> None:
    frames = envelope(clicks(0.5)[None], RATE)[0]
    assert len(frames) == 40
    assert int(frames.argmax()) in (20, 21)
    assert float(envelope(torch.zeros(1, RATE), RATE).max()) == pytest.approx(-60.0, abs=1e-4)


def test_clicks_at_other_instants_are_a_difference_and_steady_sounds_are_none() -> None:
    hiss = 0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))
    a = torch.stack([clicks(0.2, 0.7), HUM, hiss[0], torch.zeros(RATE)])
    b = torch.stack([clicks(0.4, 0.9), HUM.roll(5), hiss[1], torch.zeros(RATE)])
    distance = envelope_distance(a, b, RATE)
    assert float(distance[0]) > 6
    assert float(distance[1:].max()) < 2
    torch.testing.assert_close(envelope_distance(b, a, RATE), distance)
