"""How loud sound is, as a whole and over time."""

from __future__ import annotations

import torch


def loudness(wave: torch.Tensor) -> torch.Tensor:
    """Float32 [B]: root mean square of sound [B, S] in decibels of full scale; at least -140."""
    return 20.0 * torch.log10(wave.float().square().mean(dim=1).sqrt().clamp(min=1e-7))


def envelope(wave: torch.Tensor, rate: int, seconds: float = 0.025) -> torch.Tensor:
    """Float32 [B, frames]: loudness of each frame in decibels of full scale; at least -60.

    Args:
        wave: sound [B, S]; what does not fill a last frame is dropped.
        rate: samples a second.
        seconds: length of a frame.
    """
    frame = max(1, round(rate * seconds))
    frames = wave[:, : wave.shape[1] // frame * frame].reshape(len(wave), -1, frame)
    return 10.0 * torch.log10(frames.float().square().mean(dim=2) + 1e-6)


def envelope_distance(a: torch.Tensor, b: torch.Tensor, rate: int) -> torch.Tensor:
    """How much two sounds differ in loudness over time, float32 [B] in decibels.

    The 95th percentile over frames of 25 ms: a few clicks at other instants are a difference, though the mean hardly
    shows it. For a steady hum or noise it is below 2 dB.

    Args:
        a: sound [B, S].
        b: sound [B, S].
        rate: samples a second.
    """
    return (envelope(a, rate) - envelope(b, rate)).abs().quantile(0.95, dim=1)
