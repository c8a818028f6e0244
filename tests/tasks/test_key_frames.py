"""Key frames of a real encoder tell step and pace by counting where frames have no noise of their own."""

from __future__ import annotations

import functools
import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from mmssl.clip import Span
from mmssl.data.shards.encode import PictureEncoder
from mmssl.data.shards.settings import BuildSettings
from mmssl.tasks.base import Moment
from mmssl.tasks.context.pace_prediction import PacePrediction
from mmssl.tasks.contrastive.dense_predictive_coding import DensePredictiveCoding
from tests.tasks.context.scenes import picture_batch

MOMENT = Moment(0, 1, 0, 0.0)
SIDE, FILMS, VISITS = 48, 60, 3
SPAN = Span(3.0, 12.5)
SILENT = (0.0, 0.0)


def encoded(pictures: np.ndarray) -> np.ndarray:
    """Grey pictures uint8 [T, H, W] as shards have them: x264 with a key frame every 12 frames; uint8 [T, 3, H, W]."""
    encoder = PictureEncoder((SIDE, SIDE), Fraction(25, 2), True, BuildSettings())
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.repeat(picture[:, :, None], 3, axis=2), format="rgb24")
        encoder.add(frame.reformat(format="yuv420p"), number)
    with av.open(io.BytesIO(encoder.finish(None))) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]).transpose(0, 3, 1, 2)


@functools.lru_cache(maxsize=4)
def still_textures(count: int, seed: int, span: Span = SPAN) -> np.ndarray:
    """Soft textures under the noise of a camera, nothing moving; the first key frame lies anywhere in the film."""
    rng = np.random.default_rng(np.random.PCG64(seed))
    f = np.fft.fftfreq(SIDE)
    envelope = np.exp(-(f[:, None] ** 2 + f[None] ** 2) / (2 * 0.06**2))
    made = np.empty((count, span.count, 3, SIDE, SIDE), np.uint8)
    for number in range(count):
        texture = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIDE, SIDE))) * envelope).real
        pictures = texture / texture.std() * 38 + 127 + rng.normal(0, 2.5, (span.count + 11, SIDE, SIDE))
        first = rng.integers(12)
        made[number] = encoded(pictures.clip(0, 255).astype(np.uint8))[first : first + span.count]
    return made


def changes(clips: torch.Tensor) -> torch.Tensor:
    """Float32 [N, F - 1]: how much the quieter places of clips [N, 3, F, H, W] change at each step, relative."""
    grey = clips.mean(dim=1)
    grey = (grey - grey.mean(dim=(2, 3), keepdim=True)) / grey.std(dim=(2, 3), keepdim=True)
    steps = grey.diff(dim=1).abs().flatten(2).quantile(0.3, dim=2)
    return steps / steps.mean(dim=1, keepdim=True)


def told_step(**settings: Any) -> float:
    """Share of the steps of dense predictive coding that a forest on the changes finds among the clip's three."""
    task = DensePredictiveCoding(size=(SIDE, SIDE), **settings)
    seen = []
    for seed in (0, 1):
        films = still_textures(FILMS, seed)[:, : task.picture.count]
        batch = picture_batch(films, span=task.picture, first=seed * 1000)
        rows = []
        for visit in range(VISITS):
            example = task.pretext(batch, batch.draws(f"t{visit}"), MOMENT)
            assert float(example.weight.mean()) == 1.0
            rows.append(changes(torch.cat([example.seen, example.next], dim=1).flatten(0, 1)).reshape(FILMS, 8, 3))
        found = torch.cat(rows)
        seen.append(torch.cat([torch.cat([found[:, :5].flatten(1), found[:, 5 + k]], dim=1) for k in range(3)]).numpy())
    forest = RandomForestClassifier(100, min_samples_leaf=2, random_state=0)
    forest.fit(seen[0], np.repeat([0, 1, 2], VISITS * FILMS))
    chance = forest.predict_proba(seen[1]).reshape(3, VISITS * FILMS, 3)  # candidate, film, step
    return float((chance.argmax(axis=0) == np.arange(3)).mean())


def told_pace(**settings: Any) -> float:
    """Share of the clips whose pace a forest on the changes and their spectrum finds."""
    task = PacePrediction(picture=SPAN, size=(SIDE, SIDE), shown=4, **settings)
    seen, labels = [], []
    for seed in (0, 1):
        batch = picture_batch(still_textures(FILMS, seed), span=SPAN, first=seed * 1000)
        example = task.pretext(batch, batch.draws("t"), MOMENT)
        found = changes(example.clips)
        seen.append(torch.cat([found, torch.fft.rfft(found, dim=1).abs(), found.std(1, keepdim=True)], dim=1).numpy())
        labels.append(example.label.flatten().numpy())
    forest = RandomForestClassifier(100, min_samples_leaf=2, random_state=0).fit(seen[0], labels[0])
    return float((forest.predict(seen[1]) == labels[1]).mean())


@pytest.mark.parametrize(
    ("told", "open_", "floor"), [pytest.param(told_step, 0.43, 1 / 3, marks=pytest.mark.slow), (told_pace, 0.4, 1 / 4)]
)
def test_noise_of_each_frame_hides_key_frames(told: Any, open_: float, floor: float) -> None:
    assert told(noise=SILENT) > open_
    assert told() < floor + 0.07
