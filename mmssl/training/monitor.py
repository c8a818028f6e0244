"""Whether the features are alive: spread, effective rank and spectrum of every encoder, and what each task pulls.

A loss can fall while features collapse (Jing et al., arXiv 2110.09348; RankMe, Garrido et al., arXiv 2210.02885).
The monitor looks at the pooled features of the same few clips every time; nothing is chosen by what it sees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mmssl import distributed
from mmssl.batch import Batch, Truth
from mmssl.clip import Window
from mmssl.data.flow import CodecFlow, DISFlow, FlowSource
from mmssl.metrics.collapse import Collapse, measure_collapse
from mmssl.nn.encoders import Encoders
from mmssl.ops.flow_input import to_pixels, without_pan
from mmssl.tasks.base import Moment, MultiTask
from mmssl.training.budget import SharedBudget
from mmssl.training.feed import Feed
from mmssl.training.heldout import judging
from mmssl.training.precision import Precision

#: below this share of 1/sqrt(d) the features of all clips are nearly one vector
LOW_STD = 0.1
#: below this share of the largest rank that the number of clips allows, few directions carry everything
LOW_RANK = 0.05


def encoder_input(
    encoders: Encoders, name: str, batch: Batch, window: Window
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor] | None:
    """What an encoder sees of a batch without augmentation, and bool [rows] which rows are real.

    Pictures: the middle frame of the longest span; video: that span; flow: the codec's over that span, or DIS where no
    task wants motion vectors; sound: all of it; text: every sentence. None where the batch does not hold the
    encoder's modality.
    """
    modality = encoders[name].modality
    there = batch.weight > 0
    if modality in ("image", "video") and window.pictures:
        span = window.pictures[0]
        times = batch.times(span)
        if modality == "image":
            middle = span.count // 2
            frames = batch.frames_at(times[:, middle : middle + 1])[:, 0]
        else:
            frames = batch.frames_at(times).transpose(1, 2)
        return (frames.float() / 255,), there & batch.has_picture
    if modality == "flow" and window.pictures:
        source: FlowSource = CodecFlow() if window.motion else DISFlow()
        flow = source(batch, batch.times(window.pictures[0]))
        fields = to_pixels(without_pan(flow.values, flow.known), source.cell, window.size)
        return (fields.transpose(1, 2),), there & batch.has_picture
    if modality == "audio" and window.sounds:
        return (encoders[name].frontend(batch.audio[:, 0]),), there & batch.has_audio
    if modality == "text" and window.text and batch.token_ids.numel():
        real = batch.sentence_mask & there[:, None]
        return (batch.token_ids.flatten(0, 1), batch.token_mask.flatten(0, 1)), real.flatten()
    return None


@dataclass(frozen=True)
class Standing:
    """Where a task stands, as far as the cause of a collapse depends on it.

    Args:
        score, floor, ceiling: of its training metrics lately, None where unknown.
        teacher: whether it learns from a moving copy of the encoders instead of negatives.
    """

    score: float | None
    floor: float | None
    ceiling: float
    teacher: bool = False

    @property
    def gain(self) -> float | None:
        """Share of the way from floor to ceiling, None where unknown."""
        if self.score is None or self.floor is None or self.ceiling == self.floor:
            return None
        return (self.score - self.floor) / (self.ceiling - self.floor)


def collapse_warning(encoder: str, found: Collapse, tasks: Mapping[str, Standing]) -> str:
    """A warning that names the likely cause, or an empty string where the features are alive.

    Args:
        encoder: its name.
        found: what was measured.
        tasks: the tasks that train it.
    """

    def named(chosen: list[str]) -> str:
        return ", ".join(f"'{name}'" for name in chosen)

    solved = [name for name, task in tasks.items() if task.gain is not None and task.gain > 0.99]
    unlearnt = [name for name, task in tasks.items() if task.gain is not None and task.gain < 0.05]
    if found.std < LOW_STD:
        text = (
            f"collapse: encoder '{encoder}' gives nearly one vector for all clips (std {found.std:.3f} of 1/sqrt(d)); "
        )
        if teachers := [name for name, task in tasks.items() if task.teacher]:
            return text + (
                f"likely cause: {named(teachers)} learns from a teacher without negatives - check predictor and "
                "stop-gradient, raise the teacher's momentum"
            )
        if tasks and len(unlearnt) == len(tasks):
            return text + (
                f"likely cause: no task that trains it is above its floor ({named(unlearnt)}) - lower optimizer.lr or "
                "lengthen optimizer.schedule.warmup, and look at the clips"
            )
        return text + (
            "likely cause: its tasks read feature maps and none trains the pooled vector, or one loss outweighs the "
            "rest - compare <encoder>/gradient/<task> in metrics.jsonl and set `weights`"
        )
    largest = min(found.samples - 1, found.width)
    if largest > 1 and found.rank < max(2.0, LOW_RANK * largest):
        text = (
            f"dimensional collapse: encoder '{encoder}' uses {found.rank:.1f} of {largest} directions "
            "(effective rank); "
        )
        if solved:
            return text + (
                f"likely cause: {named(solved)} is solved already, so a shortcut may give its answer away - look at "
                "its ablated score, make it harder or lower its weight"
            )
        return text + (
            "likely cause: augmentation stronger than what tells the clips apart, or too few clips a batch to compare "
            "with - weaken it, enlarge data.batch_size or add a task"
        )
    return ""


class Monitor:
    """Looks at the same clips every time.

    Args:
        multitask: encoders and tasks, not wrapped.
        stream_factory: makes the stream whose first batches are looked at.
        batches: how many global batches are kept (on the CPU) and looked at.
        precision: number format of the forward.
    """

    def __init__(
        self, multitask: MultiTask, stream_factory: Callable[[], Feed], batches: int, precision: Precision
    ) -> None:
        self.multitask = multitask
        self.precision = precision
        self._factory = stream_factory
        self._wanted = batches
        self._batches: list[tuple[Batch, Truth]] = []
        self._warned: set[tuple[str, str]] = set()

    def _clips(self) -> list[tuple[Batch, Truth]]:
        if not self._batches:
            with contextlib.closing(self._factory()) as stream:
                budget = SharedBudget(stream, 1, next(self.multitask.parameters()).device)
                for batch, truth in stream:
                    budget.check()
                    self._batches.append((batch.to("cpu"), truth.to("cpu")))
                    if len(self._batches) == self._wanted:
                        break
        return self._batches

    @torch.inference_mode()
    def look(self) -> dict[str, Collapse]:
        """Measure every encoder that a task uses; all ranks must call it."""
        used = {name for task in self.multitask.tasks.values() for name in task.uses}
        encoders, window, device = self.multitask.encoders, self.multitask.window, self.precision.device
        pooled: dict[str, list[torch.Tensor]] = {}
        with judging(self.multitask):
            for held, _ in self._clips():
                batch = held.to(device)
                for name in encoders.names():
                    given = encoder_input(encoders, name, batch, window) if name in used else None
                    if given is None:
                        continue
                    inputs, real = given
                    with self.precision.autocast():
                        features = encoders[name](*inputs).pooled.float()
                    rows, kept = distributed.gather(features), distributed.gather(real)
                    pooled.setdefault(name, []).append(rows[kept].cpu())
        together = {name: torch.cat(rows) for name, rows in pooled.items()}
        return {name: measure_collapse(rows) for name, rows in together.items() if len(rows) > 1}

    def gradient_norms(self, moment: Moment) -> dict[str, float]:
        """``<encoder>/gradient/<task>``: norm of each weighted task loss's gradient at each encoder it uses.

        On the first kept batch; all ranks must call it. It costs a forward and backward a task.
        """
        first, known = self._clips()[0]
        batch, truth = first.to(self.precision.device), known.to(self.precision.device)
        norms: dict[str, float] = {}
        with judging(self.multitask):
            for name, task in self.multitask.tasks.items():
                with self.precision.autocast():
                    loss, _ = self.multitask(batch, moment, [name], truth)
                parts = {e: [p for p in self.multitask.encoders[e].parameters() if p.requires_grad] for e in task.uses}
                wanted = [p for parameters in parts.values() for p in parameters]
                if not wanted:
                    continue
                found = torch.autograd.grad(loss, wanted, allow_unused=True)
                by_id = {id(p): g for p, g in zip(wanted, found, strict=True)}
                for encoder, parameters in parts.items():
                    total = torch.zeros((), device=self.precision.device)
                    for p in parameters:
                        grad = by_id[id(p)]
                        mean = torch.zeros_like(p) if grad is None else grad
                        total = total + (distributed.sum_over_ranks(mean) / distributed.world_size()).pow(2).sum()
                    norms[f"{encoder}/gradient/{name}"] = float(total.sqrt())
        return norms

    def warnings(self, found: Mapping[str, Collapse], standings: Mapping[str, Standing]) -> list[str]:
        """Warnings that are new since the features were last alive."""
        texts = []
        for encoder, measured in found.items():
            users = {n: s for n, s in standings.items() if encoder in self.multitask.tasks[n].uses}
            text = collapse_warning(encoder, measured, users)
            kind = text.partition(":")[0]
            self._warned = {w for w in self._warned if w[0] != encoder or w[1] == kind}
            if text and (encoder, kind) not in self._warned:
                self._warned.add((encoder, kind))
                texts.append(text)
        return texts


def monitor_row(found: Mapping[str, Collapse]) -> dict[str, Any]:
    """Fields of a monitor row: std, effective rank (centred and not) and number of clips of each encoder."""
    row: dict[str, Any] = {}
    for name, collapse in found.items():
        row[f"{name}/std"] = collapse.std
        row[f"{name}/effective_rank"] = collapse.rank
        row[f"{name}/effective_rank_uncentred"] = collapse.rank_uncentred
        row[f"{name}/samples"] = collapse.samples
    return row


def spectrum_file(step: int, found: Mapping[str, Collapse]) -> dict[str, Any]:
    """Content of spectrum.json: singular values of each encoder's centred features over the largest, descending."""
    return {
        "step": step,
        "encoders": {
            name: {
                "singular_values": [float(value) for value in collapse.spectrum],
                "samples": collapse.samples,
                "width": collapse.width,
                "std": collapse.std,
                "effective_rank": collapse.rank,
                "effective_rank_uncentred": collapse.rank_uncentred,
                "warning": collapse.warning,
            }
            for name, collapse in found.items()
        },
    }
