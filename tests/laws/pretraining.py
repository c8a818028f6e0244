"""One task trained for a moment three times: on true data, with its pairings permuted, and with its input zeroed.

A task of `TASKS` needs a line in `LESSONS`: what it learns from here and for how long.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from mmssl.batch import Batch
from mmssl.clip import Window
from mmssl.nn.blinded import blinded
from mmssl.nn.encoders import Encoders
from mmssl.randomness import Draws, hash_name
from mmssl.tasks import TASKS
from mmssl.tasks.base import Moment, MultiTask, PretextTask
from tests.batches import World, small_encoders, truth_of
from tests.contract.rows import changed
from tests.tasks.context.scenes import moving_discs, picture_batch, upright_houses
from tests.tasks.context.training import small_bundle

Lesson = Literal["true", "permuted", "zeroed"]
HELD_OUT = 512


@dataclass(frozen=True)
class Plan:
    """How one task is taught.

    Args:
        permute: "label" gives each row the pseudo label of another one, "sound" and "text" another clip's.
        steps: optimizer steps.
        settings: arguments of the task.
        films: (count, seed) -> films drawn for this task; the linked world of `tests.batches` when None.
        batch_size: clips a step.
        learning_rate: at its highest.
        seen: clips it is trained on.
        width: of the encoders.
        shown: held-out clips a scoring pass.
        passes: scoring passes over them, each with other draws.
    """

    permute: Literal["label", "sound", "text"]
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    films: Callable[[int, int], Any] | None = None
    batch_size: int = 32
    learning_rate: float = 6e-3
    seen: int = 512
    width: int = 32
    shown: int = HELD_OUT
    passes: int = 1


LESSONS = {
    "rotation": Plan("label", 40, {"size": (32, 32)}, upright_houses),
    "order_prediction": Plan("label", 120, {"size": (32, 32), "crop": 0.75, "width": 64}, moving_discs),
    "av_localization": Plan("sound", 100, {"size": (32, 32)}, learning_rate=3e-3),
    "av_sync": Plan("sound", 100, {"size": (32, 32)}, learning_rate=3e-3),
    "subtitle_matching": Plan("text", 100, {"size": (32, 32)}, learning_rate=3e-3),
}


def permutation(count: int, step: int) -> torch.Tensor:
    """A fixed permutation of each step's rows, drawn evenly.

    It changes from step to step: one permutation for all would pair up the few kinds of clips (or labels) of a small
    world in a way of its own, which could then be learned.
    """
    return Draws(torch.tensor([hash_name("permuted in training")]), str(step)).permutation("rows", count)[0]


def permuted_batch(batch: Batch, what: str, step: int) -> Batch:
    """The batch in which each clip has another one's sound or text."""
    rows = permutation(len(batch), step)
    if what == "sound":
        return changed(batch, audio=batch.audio[rows])
    return changed(
        batch,
        sentences=tuple(batch.sentences[int(i)] for i in rows),
        sentence_mask=batch.sentence_mask[rows],
        sentence_times=batch.sentence_times[rows],
        token_ids=batch.token_ids[rows],
        token_mask=batch.token_mask[rows],
    )


@functools.lru_cache(maxsize=4)
def world(count: int, window: Window, seed: int) -> World:
    return World(count, window, seed)


def clips(plan: Plan, task: PretextTask[Any, Any], count: int, seed: int) -> Callable[[int, int, int], Batch]:
    """(first, size, epoch) -> batch, of `count` clips of one seed."""
    if plan.films is None:
        known = world(count, task.window, seed)
        return lambda first, size, epoch: known.batch(range(first, first + size), epoch)
    films = plan.films(count, seed)
    offset = 10**6 * seed
    return lambda first, size, epoch: picture_batch(films[first : first + size], epoch=epoch, first=offset + first)


def teach(name: str, lesson: Lesson, seed: int = 0) -> tuple[float, int]:
    """(score, rows behind it) on held-out clips, always true ones, after training in one of the three ways."""
    plan = LESSONS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = TASKS[name](**plan.settings)
        encoders: Encoders = small_bundle(seed=seed) if plan.films else small_encoders(seed, plan.width)
        multitask = MultiTask(encoders, {name: task})
        optimizer = torch.optim.AdamW(multitask.parameters(), lr=plan.learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, plan.learning_rate, total_steps=plan.steps, pct_start=0.1
        )
        seen = clips(plan, task, plan.seen, 1)
        multitask.train()
        for step in range(plan.steps):
            first, epoch = step * plan.batch_size % plan.seen, step * plan.batch_size // plan.seen
            batch = seen(first, plan.batch_size, epoch)
            if lesson == "permuted" and plan.permute != "label":
                batch = permuted_batch(batch, plan.permute, step)
            moment = Moment(step, plan.steps, epoch, step / plan.steps)
            with torch.no_grad():
                example = task.pretext(batch, batch.draws(name), moment)
            if lesson == "permuted" and plan.permute == "label":
                rows = permutation(example.label.numel(), step)
                example = example._replace(label=example.label.flatten()[rows].reshape(example.label.shape))
            encoders.forget()
            with blinded(encoders, task.ablated_input) if lesson == "zeroed" else contextlib.nullcontext():
                loss = task(example, encoders, moment).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(multitask.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        multitask.eval()
        held_out = clips(plan, task, plan.shown, 2)
        total = count = 0.0
        with torch.no_grad():
            for look in range(plan.passes):
                for first in range(0, plan.shown, 64):
                    batch = held_out(first, 64, look)
                    _, outcomes = multitask(batch, Moment(plan.steps, plan.steps, 0, 1.0), truth=truth_of(batch))
                    found, rows_seen = outcomes[name].metrics[task.score.metric]
                    total, count = total + float(found), count + float(rows_seen)
    return total / count, round(count)
