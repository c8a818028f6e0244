"""Drawn films for the context tasks: things that are upright, sprites that move, still scenes that fade."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.randomness import sample_seed

SPAN = Span(3.0, 8.0)


def picture_batch(frames: np.ndarray, *, epoch: int = 0, first: int = 0, span: Span = SPAN) -> Batch:
    """A batch without sound and text around frames, uint8 [B, T, 3, H, W] at the times of `span`."""
    count, times = len(frames), span.times(span.seconds / 2, span.seconds)
    assert frames.shape[1] == len(times)
    keys = tuple(f"film{first + i:06d}" for i in range(count))
    wanted = torch.from_numpy(times).expand(count, 1, len(times)).contiguous()
    absent = torch.zeros(count, dtype=torch.bool)
    return Batch(
        keys=keys,
        sources=("films",) * count,
        seeds=torch.tensor([sample_seed(0, epoch, "films", key) for key in keys]),
        weight=torch.ones(count),
        pixels=torch.from_numpy(frames)[:, None],
        wanted_times=wanted,
        frame_times=wanted.clone(),
        audio=torch.zeros(count, 1, 0),
        audio_start=torch.zeros(count, 1, dtype=torch.float64),
        audio_rate=0,
        has_picture=torch.ones(count, dtype=torch.bool),
        has_audio=absent,
        has_text=absent.clone(),
        duration=torch.full((count,), span.seconds, dtype=torch.float64),
        anchors=torch.full((count, 1), span.seconds / 2, dtype=torch.float64),
        geometry=torch.eye(3, dtype=torch.float64)[:2].expand(count, 2, 3).contiguous(),
        sentences=((),) * count,
        sentence_mask=torch.zeros(count, 0, dtype=torch.bool),
        sentence_times=torch.zeros(count, 0, 2, dtype=torch.float64),
        token_ids=torch.zeros(count, 0, 0, dtype=torch.long),
        token_mask=torch.zeros(count, 0, 0, dtype=torch.bool),
    )


def timed(batch: Batch, frame_times: np.ndarray) -> Batch:
    """The batch, the frame at place t of its span having begun at frame_times[t], float64 [T] seconds."""
    times = torch.from_numpy(frame_times).expand(len(batch), 1, -1).contiguous()
    return dataclasses.replace(batch, frame_times=times, _made={})


def camera_times(span: Span, rate: float) -> np.ndarray:
    """Float64 [T]: when the pictures of a camera of `rate` pictures a second began that a span shows."""
    return np.asarray(np.floor(np.arange(span.count) / span.rate * rate + 1e-6) / rate)


def _ground(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Soft noise of one colour each, [B, 3, size, size] in about [0.3, 0.7]."""
    coarse = rng.uniform(0.35, 0.6, (count, 3, 4, 4)).repeat(size // 4, axis=2).repeat(size // 4, axis=3)
    return coarse + rng.normal(0, 0.01, (count, 3, size, size))


def moving_discs(count: int, seed: int, size: int = 32, span: Span = SPAN) -> np.ndarray:
    """A bright disc crosses each film on a straight line; uint8 [B, T, 3, size, size]."""
    rng = np.random.default_rng(np.random.PCG64(seed))
    angle = rng.uniform(0, 2 * np.pi, (count, 1))
    along = np.linspace(-0.42, 0.42, span.count)[None] * size
    beside = rng.uniform(-0.2, 0.2, (count, 1)) * size
    x = size / 2 + along * np.cos(angle) - beside * np.sin(angle)
    y = size / 2 + along * np.sin(angle) + beside * np.cos(angle)
    rows, columns = np.mgrid[:size, :size]
    distance = np.hypot(rows - y[:, :, None, None], columns - x[:, :, None, None])
    inside = np.clip(size * 0.12 - distance + 0.5, 0, 1)[:, :, None]
    ground = _ground(rng, count, size)[:, None]
    colour = rng.uniform(0.8, 1.0, (count, 1, 3, 1, 1))
    return np.asarray(np.clip(ground * (1 - inside) + colour * inside, 0, 1) * 255, dtype=np.uint8)


def still_films(count: int, seed: int, size: int = 32, span: Span = SPAN, ramp: float = 0.0) -> np.ndarray:
    """Films in which nothing moves; with `ramp` they grow brighter by this share of the grey range."""
    rng = np.random.default_rng(np.random.PCG64(seed))
    picture = _ground(rng, count, size)[:, None]
    fade = np.linspace(-ramp / 2, ramp / 2, span.count)[None, :, None, None, None]
    return np.asarray(np.clip(picture + fade, 0, 1) * 255, dtype=np.uint8)


def swinging_discs(count: int, seed: int, size: int = 32, span: Span = SPAN) -> np.ndarray:
    """Crossing discs that turn round half-way, some coming from one side and some from the other."""
    there = moving_discs(count, seed, size, span)
    half = (span.count + 1) // 2
    return np.concatenate([there[:, :half], there[:, : span.count - half][:, ::-1]], axis=1)


def held_noise(count: int, seed: int, size: int = 32, span: Span = SPAN, held: int = 1) -> np.ndarray:
    """Coarse noise without any motion; every picture is shown `held` times, from a random place in its turn on."""
    rng = np.random.default_rng(np.random.PCG64(seed))
    pictures = rng.integers(30, 220, (count, span.count // held + 2, 3, 8, 8), dtype=np.uint8)
    turn = rng.integers(0, held, (count, 1))
    shown = (np.arange(span.count)[None] + turn) // held
    frames = pictures[np.arange(count)[:, None], shown]
    return np.asarray(frames.repeat(size // 8, axis=-2).repeat(size // 8, axis=-1))


def upright_houses(count: int, seed: int, size: int = 32, span: Span = SPAN) -> np.ndarray:
    """A roof over a wall on a plain ground of any brightness: only the shape says where up is."""
    rng = np.random.default_rng(np.random.PCG64(seed))
    frames = np.repeat(_ground(rng, count, size)[:, None], span.count, axis=1)
    rows, columns = np.mgrid[:size, :size]
    x = size * rng.uniform(0.38, 0.62, (count, 1, 1))
    y = size * rng.uniform(0.38, 0.62, (count, 1, 1))
    half = size * rng.uniform(0.16, 0.24, (count, 1, 1))
    wall = (np.abs(columns - x) < half) & (rows >= y) & (rows < y + 1.2 * half)
    roof = (rows < y) & (rows >= y - 1.2 * half) & (np.abs(columns - x) < 1.2 * half - (y - rows))
    for shape, low, high in ((wall, 0.75, 0.9), (roof, 0.05, 0.2)):
        colour = rng.uniform(low, high, (count, 1, 3, 1, 1))
        frames = np.where(shape[:, None, None], colour, frames)
    return np.asarray(np.clip(frames, 0, 1) * 255, dtype=np.uint8)


def round_blobs(count: int, seed: int, size: int = 32, span: Span = SPAN) -> np.ndarray:
    """A film of noise without any direction: nobody can say which way is up."""
    rng = np.random.default_rng(np.random.PCG64(seed))
    noise = rng.uniform(0, 255, (count, 1, 3, size, size)).repeat(span.count, axis=1)
    return noise.astype(np.uint8)
