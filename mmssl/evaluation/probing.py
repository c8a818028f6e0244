"""What a probe of frozen features is: it learns from train clips and answers for test clips without their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch


@dataclass(frozen=True)
class Seen:
    """Frozen features of some clips.

    Args:
        features: float32 [N, V, D], a vector a view.
        tokens: float16 [N, V, L, C], places of a view; None where the encoder has none or no probe takes them.
    """

    features: np.ndarray
    tokens: np.ndarray | None = None

    def part(self, rows: np.ndarray) -> Seen:
        """The clips `rows`, int [n]."""
        return Seen(self.features[rows], None if self.tokens is None else self.tokens[rows])


@dataclass(frozen=True)
class Answers:
    """What a probe says of M test clips.

    Args:
        scores: float64 [M, V, C], probabilities a view (V is 1 where views were averaged before).
        similarity: float64 [M, N] to the N train clips, of a probe that retrieves them.
        chosen: settings that the probe chose on train, by name.
    """

    scores: np.ndarray
    similarity: np.ndarray | None = None
    chosen: Mapping[str, float] = field(default_factory=dict)


class Probe(Protocol):
    """A probe of frozen features.

    Attributes:
        protocol: its versioned name.
        takes: what it looks at: the clips' vectors, or their tokens.
    """

    protocol: str
    takes: Literal["vectors", "tokens"]

    def __call__(
        self,
        train: Seen,
        labels: np.ndarray,
        test: Seen,
        classes: int,
        *,
        groups: np.ndarray,
        seed: int,
        device: torch.device | str,
    ) -> Answers:
        """Learn from `train` and answer for `test`; a function of its arguments alone.

        Args:
            train: N clips.
            labels: int [N] in 0..classes-1, every class present.
            test: M clips.
            classes: C.
            groups: int [N]; clips of one group never lie on both sides of a validation split.
            seed: of all that is drawn.
            device: where it computes.
        """
        ...
