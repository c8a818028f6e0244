"""Attentive probe, protocol ``action-attentive-v1``: one learned query attends to frozen tokens, then a linear head.

As in V-JEPA (arXiv 2404.08471) and AIM (arXiv 2401.08541): keys and values are linear in the standardised tokens, the
query is learned and split over heads, and what it gathers is classified linearly. The tokens of a convolutional map do
not know their place, so that a learned offset per place, zero at first, is added to what the keys are made of.
Trained by AdamW with 10 % warm-up and a cosine, all settings side by side on the same batches; learning rate and weight
decay are one of four pairs, chosen on a validation part of train (never on test), then trained anew on all of train.

The order of sums is changed, not their result: q·(K x) = (Kᵀ q)·x and Σ a (V x) = V (Σ a x), so that neither keys nor
values of all tokens are ever computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from mmssl.errors import UserError
from mmssl.evaluation.folds import validation_rows
from mmssl.evaluation.linear import merit
from mmssl.evaluation.probing import Answers, Seen

PROTOCOL = "action-attentive-v1"
#: (learning rate, weight decay)
SETTINGS = ((5e-3, 0.01), (5e-3, 1.0), (2e-2, 0.01), (2e-2, 1.0))
HEADS = 8
BATCH = 128
EPOCHS = 20
LEAST_STEPS = 300
AT_ONCE = 2**28  # bytes of standardised tokens that are kept rather than made anew for every batch
WARM_UP = 0.1
_DECAYED = ("key", "value", "head", "place")


class AttentiveProbes:
    """One attentive probe a setting, of one shape and the same first weights, run over the same tokens.

    Args:
        tokens: L.
        width: C of the tokens.
        classes: classes.
        count: how many probes.
        seed: of the first weights.
        device: where they lie.
    """

    def __init__(
        self, tokens: int, width: int, classes: int, count: int, seed: int, device: torch.device | str
    ) -> None:
        self.heads = math.gcd(width, HEADS)
        generator = torch.Generator().manual_seed(seed)

        def normal(std: float, *shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator) * std

        each = width // self.heads
        start = {
            "query": normal(0.02, self.heads, each),  # small: the first attention is nearly the average
            "key": normal(width**-0.5, self.heads, each, width),
            "place": torch.zeros(tokens, width),
            "value": normal(width**-0.5, self.heads, each, width),
            "head": normal(0.01, classes, width),
            "bias": torch.zeros(classes),
        }
        self.parts = [{n: p.clone().to(device).requires_grad_() for n, p in start.items()} for _ in range(count)]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """[S, B, classes] of standardised tokens [B, L, C]."""
        all_of = {name: torch.stack([part[name] for part in self.parts]) for name in self.parts[0]}
        heads, each = all_of["query"].shape[1:]
        direction = torch.einsum("shd,shdc->shc", all_of["query"], all_of["key"]) * each**-0.5
        place = torch.einsum("shc,slc->shl", direction, all_of["place"])
        probes, batch = len(self.parts), len(x)
        match = (x @ direction.flatten(0, 1).T).transpose(1, 2) + place.flatten(0, 1)  # [B, S * heads, L]
        gathered = (match.softmax(dim=2) @ x).unflatten(1, (probes, heads))  # [B, S, heads, C]
        told = torch.einsum("bshc,shdc->sbhd", gathered, all_of["value"]).reshape(probes, batch, heads * each)
        return torch.baddbmm(all_of["bias"][:, None], told, all_of["head"].transpose(1, 2))


@dataclass(frozen=True)
class Fitted:
    """Trained probes and the standardisation of their tokens, float32 [C] each."""

    probes: AttentiveProbes
    mean: torch.Tensor
    scale: torch.Tensor

    @torch.no_grad()
    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Float64 [S, N, V, classes] of tokens [N, V, L, C]."""
        flat = tokens.reshape(-1, *tokens.shape[2:])
        found = []
        for first in range(0, len(flat), BATCH):
            x = _standardised(flat[first : first + BATCH], self.mean, self.scale)
            found.append(self.probes.logits(x).double().softmax(dim=2).cpu())
        return np.asarray(torch.cat(found, dim=1).unflatten(1, tokens.shape[:2]).numpy())


def fit(
    tokens: np.ndarray,
    labels: np.ndarray,
    classes: int,
    settings: Sequence[tuple[float, float]],
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Fitted:
    """Train one probe a setting, all on the same batches.

    Args:
        tokens: float [N, V, L, C]; every view is a training row.
        labels: int [N] in 0..classes-1.
        classes: how many.
        settings: pairs of learning rate and weight decay.
        seed: of the first weights and the order of the rows.
        device: where they are trained.
    """
    views, count, width = tokens.shape[1:]
    flat, targets = tokens.reshape(-1, count, width), torch.as_tensor(np.repeat(labels, views), dtype=torch.long)
    mean = flat.mean(axis=(0, 1), dtype=np.float64)
    deviation = np.sqrt(np.maximum(np.square(flat, dtype=np.float64).mean(axis=(0, 1)) - mean**2, 0.0))
    scale = np.where(deviation > 1e-4 * max(float(deviation.max()), 1e-30), deviation, 1.0)
    fitted = Fitted(
        AttentiveProbes(count, width, classes, len(settings), seed, device),
        torch.as_tensor(mean, dtype=torch.float32, device=device),
        torch.as_tensor(scale, dtype=torch.float32, device=device),
    )
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in part.items() if (n in _DECAYED) == decayed], "lr": rate, "weight_decay": wd}
            for part, (rate, decay) in zip(fitted.probes.parts, settings, strict=True)
            for decayed, wd in ((True, decay), (False, 0.0))
        ]
    )
    rows = len(flat)
    batch = min(BATCH, rows)
    steps = max(LEAST_STEPS, EPOCHS * math.ceil(rows / batch))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    whole = _standardised(flat, fitted.mean, fitted.scale) if flat.size * 4 <= AT_ONCE else None
    generator = torch.Generator().manual_seed(seed)
    order = torch.zeros(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(rows, generator=generator)])
        picked, order = order[:batch], order[batch:]
        if whole is None:
            x = _standardised(flat[picked.numpy()], fitted.mean, fitted.scale)
        else:
            x = whole[picked.to(whole.device)]
        logits = fitted.probes.logits(x)
        target = targets[picked].to(device).repeat(len(settings))
        loss = F.cross_entropy(logits.flatten(0, 1), target) * len(settings)  # each setting's own mean loss, added
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return fitted


def fit_chosen(
    tokens: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    groups: np.ndarray,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Fitted, tuple[float, float]]:
    """A probe and its setting, chosen on a part of the clips by whole groups; see `fit`."""
    held = validation_rows(labels, groups, seed)
    setting = SETTINGS[0]
    if held.any():
        tried = fit(tokens[~held], labels[~held], classes, SETTINGS, seed, device).probabilities(tokens[held])
        merits = [merit(one, labels[held]) for one in tried]
        setting = SETTINGS[max(range(len(merits)), key=merits.__getitem__)]
    return fit(tokens, labels, classes, (setting,), seed, device), setting


class AttentiveProbe:
    """`fit_chosen` as a probe."""

    protocol = PROTOCOL
    takes: Literal["vectors", "tokens"] = "tokens"

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
        """See `Probe`.

        Raises:
            UserError: the encoder gives no tokens.
        """
        if train.tokens is None or test.tokens is None:
            raise UserError(
                "the attentive probe needs feature maps or tokens, and the encoder gives neither: give other --probes"
            )
        fitted, (rate, decay) = fit_chosen(train.tokens, labels, classes, groups=groups, seed=seed, device=device)
        return Answers(fitted.probabilities(test.tokens)[0], chosen={"learning_rate": rate, "weight_decay": decay})


def _standardised(tokens: np.ndarray, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (torch.as_tensor(tokens, device=mean.device).float() - mean) / scale


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: linear warm-up, then half a cosine down to 0."""
    warm = WARM_UP * steps
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
