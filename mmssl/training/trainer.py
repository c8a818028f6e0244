"""The training loop, plain torch: next batch, forward under autocast, backward, clip, step, after_step, log, save.

Everything that moves between steps is in the checkpoint (model, tasks, optimizer, scaler, data position, step) or a
function of the step (learning rate, dropout's seed, sampled tasks), so a resumed run goes on bit for bit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmssl import distributed
from mmssl.batch import Batch, Truth
from mmssl.data.budget import TooManyFailures
from mmssl.errors import UserError
from mmssl.randomness import sample_seed, uniform_numpy
from mmssl.tasks.base import Moment, MultiTask
from mmssl.training.budget import FAILED, SharedBudget, total_counters
from mmssl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mmssl.training.failure import save_failed_step
from mmssl.training.feed import Feed
from mmssl.training.files import write_folder
from mmssl.training.log import RunLog
from mmssl.training.optim import OptimizerSettings, load_moments, make_optimizer, set_learning_rate, untrained
from mmssl.training.precision import Precision
from mmssl.training.progress import ProgressLine
from mmssl.training.ranks import common_position
from mmssl.training.record import Record
from mmssl.training.settings import TrainSettings
from mmssl.training.signals import StopSignals
from mmssl.training.watch import Watch


@dataclass(frozen=True)
class Finished:
    """How `Trainer.train` ended.

    Args:
        step: steps made in all.
        stopped_by: name of the signal that stopped it early, or empty.
    """

    step: int
    stopped_by: str = ""


def reseed(seed: int, step: int) -> None:
    """Seed torch's global generators (dropout) as a function of (seed, step, rank)."""
    torch.manual_seed(sample_seed(seed, step, "global generators", str(distributed.rank())) & (2**63 - 1))


def sample_tasks(names: Sequence[str], count: int | None, seed: int, step: int) -> list[str]:
    """The tasks of one step: all, or `count` of them drawn evenly from (seed, step), equal on all ranks."""
    if count is None or count >= len(names):
        return list(names)
    seeds = np.array([sample_seed(seed, step, "sampled tasks", "")])
    chosen = np.argsort(uniform_numpy(seeds, "sampled tasks", len(names))[0], kind="stable")[:count]
    return [names[index] for index in sorted(chosen)]


class Trainer:
    """Trains encoders and heads, writes the run folder.

    Args:
        multitask: encoders and tasks, set up.
        stream: the training stream; its batches are this rank's share.
        settings: the loop's settings.
        optimizer: the optimizer's settings.
        run: the run folder; exists.
        seed: seed of the run.
        device: where to train.
        heldout: makes a stream of held-out clips (one pass, unshuffled), or None: no held-out scores.
        monitored: makes the stream that the monitor looks at; `heldout` if left out.
        console: where to show progress.

    Raises:
        UserError: accumulation with a task that compares the rows of a batch.
    """

    def __init__(
        self,
        multitask: MultiTask,
        stream: Feed,
        settings: TrainSettings,
        optimizer: OptimizerSettings,
        *,
        run: Path,
        seed: int = 0,
        device: torch.device | str = "cpu",
        heldout: Callable[[], Feed] | None = None,
        monitored: Callable[[], Feed] | None = None,
        console: Console | None = None,
    ) -> None:
        settings.check_tasks(multitask.tasks)
        self.multitask = multitask.to(device)
        self.stream = stream
        self.settings = settings
        self.optimizer_settings = optimizer
        self.run = run
        self.seed = seed
        self.device = torch.device(device)
        self.precision = Precision(settings.precision, self.device)
        self.optimizer = make_optimizer(multitask, optimizer)
        self.step = 0
        self._saved = -1
        self._record = Record(settings.accumulate, self.device)
        self._budget = SharedBudget(stream, settings.accumulate, self.device)
        scores = {name: task.score for name, task in multitask.tasks.items()}
        self._line = ProgressLine(settings.steps, scores, console)
        quiet = round(optimizer.schedule.warmup * settings.steps)
        self._watch = Watch(run, multitask, settings, quiet, self.precision, heldout, monitored or heldout)
        self._model: nn.Module = self.multitask
        if distributed.is_distributed():
            # Sampled tasks, and encoders whose pooled vector or deepest level no task reads, leave parameters
            # without gradient. Buffers (queues, centroids) are updated from gathered rows, equal on all ranks.
            self._model = DistributedDataParallel(self.multitask, find_unused_parameters=True, broadcast_buffers=False)

    # ---------------------------------------------------------------- the loop

    def train(self) -> Finished:
        """Train to the last step, or until a signal asks to stop; saves at the end in either case.

        Raises:
            UserError: a loss or gradient is not finite, or more samples failed than the budget of all ranks allows.
        """
        total = self.settings.steps
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), StopSignals() as signals, self._line, self._open_log() as log:
            self.multitask.train()
            if self.step == 0:
                self._watch.before(log)
            batches = iter(self.stream)
            while self.step < total:
                started = time.perf_counter()
                try:
                    stop = self._make_step(batches, signals)
                except TooManyFailures as error:
                    log.event("failures", self.step, count=sum(error.causes.values()), causes=error.causes)
                    raise
                self._record.seconds += time.perf_counter() - started
                last = stop or self.step == total
                save = last or self.step % self.settings.checkpoint_every == 0
                if save or self.step % self.settings.log_every == 0:
                    self._write_row(log)
                self._say(log, self._watch.after(log, self._moment()))
                if save:
                    self._save(log)
                if stop and self.step < total:
                    log.event("stopped", self.step, signal=signals.received, counters=self._counted())
                    self._line.say(
                        f"stopped by {signals.received or 'another rank'} after step {self.step}, saved; "
                        "resume with --resume"
                    )
                    return Finished(self.step, signals.received or "another rank")
            self._say(log, untrained(self.multitask.encoders, self.optimizer))
            log.event("end", self.step, counters=self._counted())
            if self._saved != self.step:
                self._save(log)
        return Finished(self.step)

    def _make_step(self, batches: Iterator[tuple[Batch, Truth]], signals: StopSignals) -> bool:
        """One optimizer step; returns whether all ranks agree to stop after it."""
        settings, scaler = self.settings, self.precision.scaler
        moment = self._moment()
        reseed(self.seed, self.step)
        names = sample_tasks(list(self.multitask.tasks), settings.sampled_tasks, self.seed, self.step)
        rate = set_learning_rate(self.optimizer, self.step, settings.steps, self.optimizer_settings.schedule)
        self.optimizer.zero_grad(set_to_none=True)
        carries: dict[str, list[Mapping[str, torch.Tensor]]] = {name: [] for name in names}
        taken: list[Batch] = []
        losses: dict[str, torch.Tensor] = {}
        for micro in range(settings.accumulate):
            waiting = time.perf_counter()
            batch, truth = next(batches)
            self._record.waited += time.perf_counter() - waiting
            taken.append(batch)
            with self._together(last=micro == settings.accumulate - 1):
                with self.precision.autocast():
                    loss, outcomes = self._model(batch, moment, names, truth)
                scaler.scale(loss / settings.accumulate).backward()
            self._record.batch(batch, loss, outcomes)
            for name, outcome in outcomes.items():
                carries[name].append(outcome.carry)
                losses[name] = losses.get(name, torch.zeros((), device=self.device)) + outcome.loss.detach()
        scaler.unscale_(self.optimizer)
        norms = self._clip()
        stop = self._agree(moment.step, taken, losses, norms, signals)
        before = scaler.get_scale()
        scaler.step(self.optimizer)
        scaler.update()
        if scaler.get_scale() >= before:  # fp16: a step whose gradients overflowed is not made
            self.multitask.after_step(carries, moment)
        self._record.number("lr", rate)
        self._record.steps += 1
        self.step += 1
        return stop

    def _together(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over ranks with the last micro-batch only."""
        if isinstance(self._model, DistributedDataParallel) and not last:
            return self._model.no_sync()
        return contextlib.nullcontext()

    def _clip(self) -> dict[str, torch.Tensor]:
        """Clip each part's gradient by itself; returns the norms before."""
        most = self.settings.clip_norm if self.settings.clip_norm is not None else float("inf")
        norms = {}
        for name, part in self.multitask.parts():
            parameters = [p for p in part.parameters() if p.grad is not None]
            if parameters:
                norms[name] = nn.utils.clip_grad_norm_(parameters, most)
                self._record.number(f"gradient/{name}", norms[name])
        return norms

    def _agree(
        self,
        step: int,
        batches: Sequence[Batch],
        losses: Mapping[str, torch.Tensor],
        norms: Mapping[str, torch.Tensor],
        signals: StopSignals,
    ) -> bool:
        """Whether any rank was asked to stop; raises on all ranks when any has a number that is not finite."""
        # With fp16 the gradients may overflow now and then; the scaler leaves such a step out.
        judged = {**losses, **({} if self.precision.scaler.is_enabled() else norms)}
        finite = torch.stack([torch.isfinite(value) for value in judged.values()]).all()
        flags = torch.stack([~finite, torch.tensor(bool(signals.received), device=self.device)]).float()
        bad, stop = distributed.sum_over_ranks(flags).tolist()
        self._budget.check()
        if bad:
            raise save_failed_step(self.run, step + 1, batches, losses, norms, self.multitask.truths)
        return bool(stop)

    # ---------------------------------------------------------------- what is written

    def _moment(self) -> Moment:
        return Moment(self.step, self.settings.steps, self.stream.epoch, self.step / self.settings.steps)

    def _write_row(self, log: RunLog) -> None:
        """Write the means since the last row, show them, and say what could not be read."""
        row, keys = self._record.take()
        log.event("step", self.step, **row, keys=keys, epoch=self.stream.epoch)
        if causes := self._record.new_failures(self.stream.counters):
            count = sum(causes.values())
            log.event("failures", self.step, count=count, causes=causes)
            said = ", ".join(f"{cause}: {number}" for cause, number in causes.items())
            self._line.say(f"{count} samples could not be read so far ({said}); their rows have no weight")
        self._watch.note(row)
        self._line.update(self.step, row, row["clips_per_second"], row["data_wait"])

    def _counted(self) -> dict[str, Any]:
        """What the streams of all ranks counted; what could not be read is said."""
        counters = total_counters(self.stream.counters)
        lost = {name: n for name, n in counters.items() if name.startswith((FAILED, "subtitles: ", "context: "))}
        if lost:
            said = ", ".join(f"{name.removeprefix(FAILED)}: {n}" for name, n in sorted(lost.items()))
            failed = sum(n for name, n in lost.items() if name.startswith(FAILED))
            self._line.say(f"{failed} of {counters.get('samples', 0)} samples could not be read; by cause: {said}")
        return counters

    def _say(self, log: RunLog, warnings: Sequence[str]) -> None:
        for text in warnings:
            log.event("warning", self.step, text=text)
            self._line.say(f"warning: {text}")

    @contextlib.contextmanager
    def _open_log(self) -> Iterator[RunLog]:
        log = RunLog(self.run, self.step, self.settings.tensorboard)
        try:
            log.event("resume" if self.step else "start", self.step, ranks=distributed.world_size())
            yield log
        finally:
            log.close()

    # ---------------------------------------------------------------- checkpoints

    def _save(self, log: RunLog) -> None:
        """Save the checkpoint, and the encoders with the heads that evaluation needs."""
        log.flush()
        position = common_position(self.stream.state_dict())
        if distributed.is_main():
            checkpoint = Checkpoint(
                step=self.step,
                seed=self.seed,
                model=self.multitask.state_dict(),
                optimizer=self.optimizer.state_dict(),
                scaler=self.precision.scaler.state_dict(),
                stream=position,
            )
            save_checkpoint(self.run, checkpoint, self.settings.keep)
            heads = self.multitask.exports()
            write_folder(self.run / "encoders", lambda folder: self.multitask.encoders.save(folder, heads))
        distributed.barrier()
        self._saved = self.step

    def resume(self) -> int:
        """Go to the last checkpoint of the run folder; returns its step.

        Raises:
            UserError: there is none, or it is of another seed, other encoders, tasks or data.
        """
        checkpoint = load_checkpoint(self.run)
        if checkpoint.seed != self.seed:
            raise UserError(
                f"run {self.run} was started with seed {checkpoint.seed}, now it is {self.seed}: its order of the data "
                f"would change; resume with --seed {checkpoint.seed}"
            )
        try:
            self.multitask.load_state_dict(dict(checkpoint.model))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:400]
            raise UserError(
                f"the checkpoint of {self.run} does not fit this run's encoders and tasks ({reason}); resume with the "
                "settings in its config.yaml"
            ) from error
        load_moments(self.optimizer, checkpoint.optimizer)
        if self.precision.scaler.is_enabled() and checkpoint.scaler:
            self.precision.scaler.load_state_dict(dict(checkpoint.scaler))
        self.stream.load_state_dict(checkpoint.stream)
        self.step = self._saved = checkpoint.step
        return self.step
