"""What a pretext task is, and how several of them train the same encoders on one decoded batch.

A task sees a batch and its draws, never the truth, except for what it declares to need of it. `pretext` makes inputs
and pseudo labels without gradient, `forward` computes losses and metrics with the shared encoders, `after_step` looks
after teachers, queues and centroids. Adding a task is one file, one line in `mmssl.tasks.TASKS` and one small config.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import nn

from mmssl import distributed
from mmssl.batch import Batch, Truth
from mmssl.clip import Window
from mmssl.errors import UserError
from mmssl.nn.blinded import blinded
from mmssl.nn.encoders import Encoders, Head
from mmssl.ops.partners import exchanged
from mmssl.randomness import Draws

ExampleT = TypeVar("ExampleT", bound=NamedTuple)
BatchT = TypeVar("BatchT")

#: How a task is trained: as it is meant, or as a control that must stay at its floor on true held-out clips.
Control = Literal["none", "broken_pairs", "blind"]


class Moment(NamedTuple):
    """Where training stands. `progress` is step / total_steps, in [0, 1]."""

    step: int
    total_steps: int
    epoch: int
    progress: float


@dataclass(frozen=True)
class Score:
    """How a task is judged on held-out clips.

    Args:
        metric: name of one of the metrics in `Outcome.metrics`.
        floor: what chance, or the best trivial predictor, reaches; None where it depends on the batch, then the
            task gives a metric named ``floor``.
        ceiling: what a perfect model reaches.
        higher_is_better: direction.
    """

    metric: str
    floor: float | None
    ceiling: float
    higher_is_better: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a task's forward gives.

    Args:
        losses: scalars with gradient; their sum is the task's loss. This rank's share: the mean over ranks is the
            loss of the global batch (see `distributed.global_mean`).
        metrics: for each name (sum, count) as detached scalar tensors over this rank's valid rows, so that means
            over steps and ranks are exact.
        carry: detached tensors for `after_step`.
    """

    losses: Mapping[str, torch.Tensor]
    metrics: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    carry: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> torch.Tensor:
        """Sum of the losses."""
        return torch.stack([loss.float() for loss in self.losses.values()]).sum()


def rate(values: torch.Tensor, weight: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum, count) of per-row values [B], weighted by `weight` [B]: the form of `Outcome.metrics`."""
    values = values.detach().float()
    weight = torch.ones_like(values) if weight is None else weight.detach().float()
    return (values * weight).sum(), weight.sum()


class PretextTask(nn.Module, Generic[BatchT, ExampleT]):
    """A pretext task.

    Class attributes:
        uses: which encoder modality each role needs, e.g. ``{"image": "image", "audio": "audio"}``: encoder name
            in the bundle -> modality.
        needs: what a clip must have to be a valid row: any of "picture", "sound", "text".
        score: how it is judged.
        ablated_input: which of its inputs ("picture", "sound", "text") carries the information that its label is
            about; zeroing it must bring the score to the floor.
        paired: fields of its example that hold one side of what belongs together (the labels, or the sounds); in the
            control training with broken pairs their rows change places.
        negatives: whether its loss compares rows of the batch (then gradient accumulation is refused).
        needs_truth: names of dense truth (`mmssl.clip.TRUTH_NAMES`) that it declares to need, which its window asks
            for and which it gets by `batch.privileged_at`; empty for honest self-supervision. Clips without it are no
            valid rows.

    Attributes:
        window: what it wants decoded.
    """

    uses: ClassVar[Mapping[str, str]]
    needs: ClassVar[tuple[Literal["picture", "sound", "text"], ...]]
    score: Score
    ablated_input: ClassVar[Literal["picture", "sound", "text"]]
    paired: ClassVar[tuple[str, ...]]
    negatives: ClassVar[bool] = False
    needs_truth: ClassVar[tuple[str, ...]] = ()

    window: Window

    @abstractmethod
    def setup(self, encoders: Encoders) -> None:
        """Make heads that fit the encoders' widths. Called once, before the optimizer is made."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the task's own heads; more than one when parts need other learning rates."""
        return [{"params": list(self.parameters())}]

    @abstractmethod
    def pretext(self, batch: BatchT, draws: Draws, moment: Moment) -> ExampleT:
        """Inputs and pseudo labels, batched, on the device, without gradient and outside autocast."""

    def break_pairs(self, example: ExampleT, draws: Draws) -> ExampleT:
        """The example with the `paired` sides of other clips of the *global* batch, drawn anew for every batch.

        What comes out must say nothing about what belongs together:

        - Where each row has a label of its own, no clip keeps its side (a derangement). A free permutation leaves one
          clip of a batch its own on average, and the likeliest label of an input would still be the true one.
        - Where rows are compared with each other (`negatives`), every clip's side goes to every clip equally often,
          itself included (a free permutation). The own side is then as often the match as any other is; in a
          derangement it would be among the mismatches in every batch, which teaches the truth with the sign changed.

        Where a field holds k rows a clip, they change places among themselves as well: the first of four rotations
        is the same in all clips. A task with several candidates inside a row (steps, places) exchanges those as well.
        On several ranks the sides are gathered; all ranks must call this.

        Raises:
            UserError: the global batch holds one clip.
        """
        count = len(draws)
        drawn = distributed.gather(draws.uniform("broken pairs"))
        if len(drawn) < 2:
            raise UserError(
                "train.control broken_pairs: a batch of one clip has no other to change places with; set "
                "data.batch_size to at least 2 clips for each of train.accumulate's micro-batches"
            )
        clips = exchanged(drawn, derange=not self.negatives)[distributed.rank() * count :][:count]
        changes = {}
        for name in self.paired:
            side: torch.Tensor = getattr(example, name)
            parts = len(side) // count
            rows = clips[:, None] * parts + draws.permutation("broken parts", parts)
            changes[name] = distributed.gather_filled(side)[rows.flatten()]
        return example._replace(**changes)

    @abstractmethod
    def forward(self, example: ExampleT, encoders: Encoders, moment: Moment) -> Outcome:
        """Losses and metrics."""

    def after_step(self, encoders: Encoders, carries: Sequence[Mapping[str, torch.Tensor]], moment: Moment) -> None:
        """Update teachers, queues, centroids; once for every optimizer step really made."""

    def exports(self) -> Head | None:
        """The small head needed after training (a `Matcher`, or what else builds itself of `init_args`), or None."""
        return None


class MultiTask(nn.Module):
    """Encoders and tasks as one module; everything trained goes through its `forward`.

    Args:
        encoders: the shared bundle.
        tasks: the tasks by name; `setup` is called here.
        weights: weight of each task's loss in the sum, 1 where not named.
        control: what is taken from the tasks while training: "broken_pairs" pairs each input with the label or the
            sound of another, "blind" shows the encoders nothing of the input that carries the answer. Never in
            evaluation mode: scores are of true clips.
    """

    def __init__(
        self,
        encoders: Encoders,
        tasks: Mapping[str, PretextTask[Any, Any]],
        weights: Mapping[str, float] | None = None,
        control: Control = "none",
    ) -> None:
        super().__init__()
        self.control = control
        if not tasks:
            raise UserError("no task to train: name at least one under `tasks:`")
        self.encoders = encoders
        self.tasks: dict[str, PretextTask[Any, Any]] = dict(tasks)  # typed view; registered below
        self.weights = {name: 1.0 for name in tasks} | dict(weights or {})
        for name in self.weights:
            if name not in tasks:
                raise UserError(f"weights name the task '{name}', which is not trained ({', '.join(tasks)})")
        for name, task in tasks.items():
            for encoder, modality in task.uses.items():
                if encoders[encoder].modality != modality:
                    raise UserError(
                        f"task '{name}' needs the encoder '{encoder}' to be of modality '{modality}', "
                        f"it is of '{encoders[encoder].modality}'"
                    )
            task.setup(encoders)
        self.heads = nn.ModuleDict(tasks)

    @property
    def window(self) -> Window:
        """Union of what the tasks want decoded."""
        windows = [task.window for task in self.tasks.values()]
        union = windows[0]
        for window in windows[1:]:
            union = union | window
        return union

    @property
    def truths(self) -> dict[str, tuple[str, ...]]:
        """Names of the truth that each task is trained with, of those that are."""
        return {name: task.needs_truth for name, task in self.tasks.items() if task.needs_truth}

    def forward(
        self, batch: Any, moment: Moment, only: Sequence[str] | None = None, truth: Truth | None = None
    ) -> tuple[torch.Tensor, dict[str, Outcome]]:
        """Weighted sum of the losses, and each task's outcome.

        Args:
            batch: the decoded batch.
            moment: where training stands.
            only: names of the tasks of this step (sampled tasks), or None for all.
            truth: what is known about the batch. Each task is given what it declares to need, others nothing of it.

        Raises:
            ValueError: a task needs truth that is not given.
        """
        outcomes: dict[str, Outcome] = {}
        terms: list[torch.Tensor] = []
        self.encoders.forget()
        try:
            for name in only or self.tasks:
                task = self.tasks[name]
                draws = batch.draws(name)
                # Labels and choices are the same whatever the precision of the networks: full precision.
                with torch.no_grad(), torch.autocast(draws.seeds.device.type, enabled=False):
                    example = task.pretext(_given(name, task, batch, truth), draws, moment)
                    if self.training and self.control == "broken_pairs":
                        example = task.break_pairs(example, draws)
                if self.training and self.control == "blind":
                    self.encoders.forget()  # another task may hide another input
                    with blinded(self.encoders, task.ablated_input, task):
                        outcomes[name] = task(example, self.encoders, moment)
                else:
                    outcomes[name] = task(example, self.encoders, moment)
                terms.append(self.weights[name] * outcomes[name].loss)
        finally:
            self.encoders.forget()
        return torch.stack(terms).sum(), outcomes

    def after_step(self, carries: Mapping[str, Sequence[Mapping[str, torch.Tensor]]], moment: Moment) -> None:
        """Pass each task the carries of its micro-batches."""
        for name, task_carries in carries.items():
            self.tasks[name].after_step(self.encoders, task_carries, moment)

    def exports(self) -> dict[str, Head]:
        """Heads to be saved, by task."""
        heads = {name: task.exports() for name, task in self.tasks.items()}
        return {name: head for name, head in heads.items() if head is not None}

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """(name, module) of each part whose gradient is clipped by itself: every encoder, every task's heads."""
        for name in self.encoders.names():
            yield f"encoders.{name}", self.encoders[name]
        yield from self.tasks.items()


def _given(name: str, task: PretextTask[Any, Any], batch: Any, truth: Truth | None) -> Any:
    """The batch as a task may see it: with exactly the truth that it declares to need."""
    if not task.needs_truth:
        return batch.with_privileged({}) if getattr(batch, "privileged", None) else batch
    dense = {} if truth is None else truth.dense
    if missing := [field for field in task.needs_truth if field not in dense]:
        raise ValueError(
            f"task '{name}' needs the truth '{missing[0]}', which is not given: its window must ask for it, and the "
            "truth of the stream go into MultiTask.forward"
        )
    return batch.with_privileged({field: dense[field] for field in task.needs_truth})


def valid_rows(task: PretextTask[Any, Any], batch: Batch) -> torch.Tensor:
    """Float32 [B]: the batch's weight where the clip has all that the task needs, else 0."""
    valid = batch.weight > 0
    have = {"picture": batch.has_picture, "sound": batch.has_audio, "text": batch.has_text}
    for what in task.needs:
        valid = valid & have[what]
    for name in task.needs_truth:
        valid = valid & batch.privileged[name].known.flatten(1).any(dim=1)
    return torch.where(valid, batch.weight, torch.zeros_like(batch.weight))
