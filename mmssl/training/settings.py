"""Settings of the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mmssl.errors import UserError
from mmssl.tasks.base import Control, PretextTask


@dataclass(frozen=True)
class TrainSettings:
    """How long and how to train; steps are optimizer steps throughout.

    Args:
        steps: steps of the whole run.
        precision: "bf16", "fp16" (GPU), "fp32", or "auto": bf16 on a GPU that has it, else fp16, fp32 on the CPU.
        accumulate: micro-batches a step; each holds batch_size / accumulate clips over all ranks.
        allow_accumulated_negatives: accept that a contrastive task compares within a micro-batch only.
        clip_norm: largest gradient norm of each part (every encoder, every task's heads); null for none.
        checkpoint_every: steps between checkpoints.
        keep: newest checkpoints kept.
        log_every: steps between rows of metrics.jsonl (means over them).
        monitor_every: steps between looks at the features; 0 for none.
        monitor_batches: held-out batches that are looked at.
        gradients_every: steps between measuring each task's gradient at each encoder (as costly as two steps); 0 for
            none.
        heldout_every: steps between held-out scores, which are made at the end too; 0 for none.
        heldout_batches: held-out batches scored.
        sampled_tasks: tasks drawn for each step; null for all of them.
        tensorboard: whether to write tensorboard/ too.
        control: "none"; or a training that must teach nothing: "broken_pairs" (labels, sounds or sentences change
            places within a batch) or "blind" (the encoders are shown nothing of what carries the answer). The held-out
            scores of a control are of true clips and belong at the floor.
    """

    steps: int = 1000
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    accumulate: int = 1
    allow_accumulated_negatives: bool = False
    clip_norm: float | None = 1.0
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 10
    monitor_every: int = 200
    monitor_batches: int = 4
    gradients_every: int = 1000
    heldout_every: int = 500
    heldout_batches: int = 8
    sampled_tasks: int | None = None
    tensorboard: bool = True
    control: Control = "none"

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "accumulate",
            "checkpoint_every",
            "keep",
            "log_every",
            "monitor_batches",
            "heldout_batches",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("monitor_every", "gradients_every", "heldout_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must be at least 0 (0 for never), got {getattr(self, name)}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"train.clip_norm must be > 0, or null for no clipping, got {self.clip_norm}")
        if self.sampled_tasks is not None and self.sampled_tasks < 1:
            raise ValueError(f"train.sampled_tasks must be at least 1, or null for all, got {self.sampled_tasks}")

    def check_tasks(self, tasks: Mapping[str, PretextTask[Any, Any]]) -> None:
        """Refuse what these tasks cannot do.

        Raises:
            UserError: accumulation with a task whose loss compares the rows of a batch.
        """
        comparing = [name for name, task in tasks.items() if task.negatives]
        if self.accumulate > 1 and comparing and not self.allow_accumulated_negatives:
            raise UserError(
                f"train.accumulate is {self.accumulate}, but the task{'s' * (len(comparing) > 1)} "
                f"{', '.join(comparing)} compare{'s' * (len(comparing) == 1)} the clips of a batch, and would see only "
                "those of a micro-batch; set train.accumulate to 1, or train.allow_accumulated_negatives to true"
            )
