"""Learning rate over steps: linear warm-up, then half a cosine; a pure function, so a checkpoint need not hold it.

Cosine: Loshchilov and Hutter, "SGDR", arXiv 1608.03983 (without restarts). Warm-up: Goyal et al., arXiv 1706.02677.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ScheduleSettings:
    """How the learning rate moves.

    Args:
        name: "cosine" falls along half a cosine after the warm-up, "constant" stays.
        warmup: share of all steps in which the rate rises in a straight line, in [0, 1).
        final: multiple of the learning rate that the cosine ends at, in [0, 1].
    """

    name: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    final: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"optimizer.schedule.warmup is a share of all steps in [0, 1), got {self.warmup}")
        if not 0 <= self.final <= 1:
            raise ValueError(f"optimizer.schedule.final is a multiple of the rate in [0, 1], got {self.final}")


def multiplier(step: int, total: int, settings: ScheduleSettings) -> float:
    """What the learning rate is multiplied by at a step, in (0, 1].

    Args:
        step: steps already made, 0 at the first one.
        total: steps of the whole run.
        settings: the schedule.
    """
    warmup = round(settings.warmup * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.name == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * progress))
