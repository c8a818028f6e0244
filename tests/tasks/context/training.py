"""Train one context task for a moment on drawn films, and score it on others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmssl.nn.blinded import blinded
from mmssl.nn.encoders import Build, Encoders
from mmssl.tasks.base import Moment, MultiTask, PretextTask
from tests.tasks.context.scenes import picture_batch

Films = Callable[[int, int], np.ndarray]


def small_bundle(width: int = 32, seed: int = 0) -> Encoders:
    """One narrow picture encoder with weights from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build = Build("mmssl.nn.image.SmallImageEncoder", {"width": width, "channels": (16, 16, 16)})
        return Encoders({"image": build})


def train_and_score(
    task: PretextTask[Any, Any],
    films: Films,
    *,
    steps: int,
    learning_rate: float = 6e-3,
    batch_size: int = 32,
    permute: Callable[[Any, int], Any] | None = None,
    blind: bool = False,
) -> float:
    """The task's score on 128 held-out films after training.

    Args:
        task: not set up yet.
        films: (count, seed) -> uint8 [count, T, 3, H, W].
        steps: optimizer steps, over 512 films again and again, each time with new draws.
        learning_rate: at its highest; it warms up and falls to nothing.
        batch_size: films a step.
        permute: changes the example of a step (its pseudo labels) before the task learns from it.
        blind: whether the encoders see nothing while training.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        multitask = MultiTask(small_bundle(), {"task": task})
        optimizer = torch.optim.AdamW(multitask.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
        seen = films(512, 1)
        multitask.train()
        for step in range(steps):
            first = step * batch_size % len(seen)
            batch = picture_batch(seen[first : first + batch_size], epoch=step * batch_size // len(seen), first=first)
            moment = Moment(step, steps, 0, step / steps)
            with torch.no_grad():
                example = task.pretext(batch, batch.draws("task"), moment)
            if permute is not None:
                example = permute(example, step)
            multitask.encoders.forget()
            with blinded(multitask.encoders, "picture") if blind else contextlib.nullcontext():
                loss = task(example, multitask.encoders, moment).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        multitask.eval()
        with torch.no_grad():
            _, outcomes = multitask(picture_batch(films(128, 2), first=10**6), Moment(steps, steps, 0, 1.0))
        total, count = outcomes["task"].metrics[task.score.metric]
        return float(total / count)
