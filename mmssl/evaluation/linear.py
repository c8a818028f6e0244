"""Linear probe, protocol ``action-linear-v1``: multinomial logistic regression on frozen, standardised features.

Objective: mean cross-entropy + strength / 2 * |W|^2 (the bias is free), minimised by full-batch L-BFGS in float64
on the CPU and float32 elsewhere. The strength is one of five, chosen on a validation part of train (never on test),
then the probe is fitted on all of train. Equal to scikit-learn's LogisticRegression with C = 1 / (strength * N).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from mmssl.evaluation.folds import validation_rows
from mmssl.evaluation.probing import Answers, Seen
from mmssl.metrics.classification import top_k_accuracy

PROTOCOL = "action-linear-v1"
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
ITERATIONS = 200


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Args:
        mean, scale: float64 [D], the standardisation.
        weight: float64 [C, D].
        bias: float64 [C].
        strength: of the L2 penalty.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    strength: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Float64 [..., C] of features [..., D]."""
        return np.asarray((features - self.mean) / self.scale @ self.weight.T + self.bias)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Float64 [..., C], softmax of the logits."""
        logits = self.logits(features)
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale, float64 [D] each, of features [N, D]; a constant dimension is left unscaled."""
    x = features.astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    return mean, np.where(std > 1e-8 * max(float(std.max()), 1e-30), std, 1.0)


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strengths: tuple[float, ...],
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[LinearProbe]:
    """One probe for each strength (best given strongest first: each starts from the one before).

    Args:
        features: [N, D].
        labels: int [N] in 0..C-1.
        classes: C.
        strengths: of the L2 penalty, > 0.
        seed: of the first weights, normal with a spread of 0.01.
        device: where it is fitted.
    """
    mean, scale = standardisation(features)
    kind = torch.float64 if torch.device(device).type == "cpu" else torch.float32
    x = torch.as_tensor((features - mean) / scale, dtype=kind, device=device)
    y = torch.as_tensor(labels, dtype=torch.long, device=device)
    start = torch.randn(classes, x.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weight = (0.01 * start).to(device, kind).requires_grad_()
    bias = torch.zeros(classes, dtype=kind, device=device, requires_grad=True)
    probes = []
    for strength in strengths:
        minimise(x, y, weight, bias, strength)
        w, b = (p.detach().double().cpu().numpy().copy() for p in (weight, bias))
        probes.append(LinearProbe(mean, scale, w, b, strength))
    return probes


def minimise(
    x: torch.Tensor,
    y: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    strength: float,
    gradient: float = 1e-5,
    change: float = 1e-10,
    iterations: int = ITERATIONS,
) -> None:
    """Move weight [C, D] and bias [C] to the minimum of cross-entropy + strength / 2 * |weight|^2, by L-BFGS.

    Args:
        x: float [N, D].
        y: int [N], or float [N, C] of target probabilities.
        weight: float [C, D], where the search starts and ends; it needs a gradient.
        bias: float [C], likewise.
        strength: of the penalty.
        gradient: it ends where no derivative is larger,
        change: or where a step changes less,
        iterations: or after so many.
    """
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        tolerance_grad=gradient,
        tolerance_change=change,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, y) + strength / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def fit_chosen(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    groups: np.ndarray,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> LinearProbe:
    """A probe on clips of several views, its strength chosen on a part of them.

    Args:
        features: [N, V, D]; every view is a training row.
        labels: int [N].
        classes: C.
        groups: int [N]; clips of one group never lie on both sides of the validation split.
        seed: of the split and of the first weights.
        device: where it is fitted.
    """
    held = validation_rows(labels, groups, seed)
    strength = STRENGTHS[len(STRENGTHS) // 2]
    if held.any():
        rows, targets = _flat(features[~held], labels[~held])
        candidates = fit(rows, targets, classes, STRENGTHS, seed, device)
        judged = [merit(probe.probabilities(features[held]), labels[held]) for probe in candidates]
        strength = STRENGTHS[max(range(len(judged)), key=judged.__getitem__)]
    rows, targets = _flat(features, labels)
    return fit(rows, targets, classes, (strength,), seed, device)[0]


class Linear:
    """`fit_chosen` as a probe."""

    protocol = PROTOCOL
    takes: Literal["vectors", "tokens"] = "vectors"

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
        """See `Probe`."""
        fitted = fit_chosen(train.features, labels, classes, groups=groups, seed=seed, device=device)
        return Answers(fitted.probabilities(test.features), chosen={"strength": fitted.strength})


def _flat(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.reshape(-1, features.shape[-1]), np.repeat(labels, features.shape[1])


def merit(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy, then mean log likelihood where accuracies are equal (they often are on few clips), of [N, V, C]."""
    scores = probabilities.mean(axis=1)
    likelihood = np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12))
    return top_k_accuracy(scores, labels), float(likelihood.mean())
