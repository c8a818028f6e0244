"""Train one context task for a moment on drawn films, and score it on others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmssl.batch import Batch
from mmssl.nn.encoders import Build, Encoders
from mmssl.tasks.base import Control, Moment, MultiTask, PretextTask
from tests.tasks.context.scenes import picture_batch
from tests.tasks.fitting import fit

Films = Callable[[int, int], np.ndarray]


def small_bundle(width: int = 32, seed: int = 0, modality: str = "image") -> Encoders:
    """One narrow encoder of pictures ("image") or clips ("video") with weights from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build = Build(f"mmssl.nn.{modality}.Small{modality.title()}Encoder", {"width": width, "channels": (16, 16, 16)})
        return Encoders({modality: build})


@functools.lru_cache(maxsize=8)
def _drawn(films: Films, count: int, seed: int) -> np.ndarray:
    """The films, drawn once for all trainings of a process."""
    return films(count, seed)


def train_and_score(
    task: PretextTask[Any, Any],
    films: Films,
    *,
    steps: int,
    learning_rate: float = 6e-3,
    batch_size: int = 32,
    control: Control = "none",
) -> float:
    """The task's score on 128 held-out films after training.

    Args:
        task: not set up yet.
        films: (count, seed) -> uint8 [count, T, 3, H, W].
        steps: optimizer steps, over 512 films again and again, each time with new draws.
        learning_rate: at its highest; it warms up and falls to nothing.
        batch_size: films a step.
        control: what is taken from the task while training; it is scored on true films.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        (modality,) = task.uses.values()
        multitask = MultiTask(small_bundle(modality=modality), {"task": task}, control=control)
        seen = _drawn(films, 512, 1)

        def batch_of(step: int) -> Batch:
            first = step * batch_size % len(seen)
            return picture_batch(seen[first : first + batch_size], epoch=step * batch_size // len(seen), first=first)

        fit(multitask, batch_of, steps, learning_rate, clipped=None)
        with torch.no_grad():
            _, outcomes = multitask(picture_batch(_drawn(films, 128, 2), first=10**6), Moment(steps, steps, 0, 1.0))
        total, count = outcomes["task"].metrics[task.score.metric]
        return float(total / count)
