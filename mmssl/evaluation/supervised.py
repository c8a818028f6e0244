"""Training an encoder with a linear head on labelled clips: one loop for fine-tuning, supervised rows and students.

AdamW (arXiv 1711.05101), layer-wise learning rate decay (`layerwise`), linear warm-up and half a cosine (arXiv
1608.03983), label smoothing (arXiv 1512.00567) where asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmssl.errors import UserError
from mmssl.evaluation.classifier import Classifier, Machine, frozen_vectors, predict
from mmssl.evaluation.crops import Augmentation, drawn_crops
from mmssl.evaluation.footage import Footage
from mmssl.evaluation.layerwise import layerwise_groups
from mmssl.randomness import Draws

MOST_SETTINGS = 4
CLIP_NORM = 1.0
_STANDARDISED_ON = 256  # clips


@dataclass(frozen=True)
class Setting:
    """What is chosen on the validation part: the head's learning rate, and how much it falls from layer to layer."""

    lr: float
    layer_decay: float

    def __str__(self) -> str:
        return f"lr {self.lr:g}, layer decay {self.layer_decay:g}"


@dataclass(frozen=True)
class Recipe:
    """How classifiers are trained; the same for every row of a table.

    Args:
        epochs: passes over the train clips.
        batch_size: clips a step.
        learning_rates, layer_decays: every pair is tried on the validation part; at most 4 pairs.
        weight_decay: of matrices and kernels.
        warmup: share of the steps.
        label_smoothing: share of the target that is spread over all classes.
        augmentation: of training views.
    """

    epochs: int = 30
    batch_size: int = 16
    learning_rates: tuple[float, ...] = (3e-3, 1e-3)
    layer_decays: tuple[float, ...] = (1.0, 0.75)
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if not 1 <= len(self.settings) <= MOST_SETTINGS:
            raise UserError(
                f"{len(self.learning_rates)} learning rates x {len(self.layer_decays)} layer decays are "
                f"{len(self.settings)} settings; 1 to {MOST_SETTINGS} may be tried, as many for every row"
            )
        if min(self.epochs, self.batch_size) < 1:
            raise UserError(f"epochs={self.epochs} and batch_size={self.batch_size} must be at least 1")
        for name, values in (("learning rate", self.learning_rates), ("layer decay", self.layer_decays)):
            if wrong := [v for v in values if not v > 0]:
                raise UserError(f"a {name} must be > 0, got {wrong[0]}")
        if max(self.layer_decays) > 1:
            raise UserError(f"a layer decay must be at most 1 (all layers alike), got {max(self.layer_decays)}")
        if not (0 <= self.warmup < 1 and 0 <= self.label_smoothing < 1 and self.weight_decay >= 0):
            raise UserError(
                f"warmup={self.warmup} and label_smoothing={self.label_smoothing} must be in [0, 1), "
                f"weight_decay={self.weight_decay} at least 0"
            )

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All pairs, in the order given."""
        return tuple(Setting(lr, decay) for lr in self.learning_rates for decay in self.layer_decays)

    def about(self) -> dict[str, Any]:
        """Plain values."""
        how = self.augmentation
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "settings_tried": [str(setting) for setting in self.settings],
            "weight_decay": self.weight_decay,
            "warmup": self.warmup,
            "label_smoothing": self.label_smoothing,
            "smallest_crop": how.smallest,
            "mirror": how.mirror,
            "colour": how.colour,
        }


#: (logits [B, C], views [B, T, 3, H, W], rows [B]) -> scalar
Loss = Callable[[torch.Tensor, torch.Tensor, np.ndarray], torch.Tensor]


def label_loss(labels: np.ndarray, smoothing: float) -> Loss:
    """Mean cross-entropy with the labels int [N] of all clips."""
    targets = torch.as_tensor(labels, dtype=torch.long)

    def loss(logits: torch.Tensor, _: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        return F.cross_entropy(logits, targets[rows].to(logits.device), label_smoothing=smoothing)

    return loss


def multiplier(step: int, steps: int, warmup: float) -> float:
    """What the rate is multiplied by at a step, in (0, 1]: a straight line up, then half a cosine down."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def fit_classifier(
    model: Classifier,
    footage: Footage,
    rows: np.ndarray,
    loss: Loss,
    recipe: Recipe,
    setting: Setting,
    *,
    seed: int,
    machine: Machine,
    steps: int | None = None,
) -> Classifier:
    """Train all of `model` on the clips `rows`; the last step's weights are kept.

    The order of clips, their views and augmentations are functions of (seed, epoch, key): rows of a table that share a
    seed see the same views.

    Args:
        model: changed in place.
        footage: the clips.
        rows: int [n], which of them.
        loss: see `Loss`.
        recipe: see `Recipe`.
        setting: the learning rate and its decay.
        seed: of the draws, and of dropout.
        machine: device and numbers.
        steps: instead of the recipe's epochs.

    Raises:
        UserError: the loss is not finite.
    """
    model.to(machine.device)
    _standardise(model, footage, rows, machine)
    batch = min(recipe.batch_size, len(rows))
    steps = recipe.epochs * -(-len(rows) // batch) if steps is None else steps
    groups = layerwise_groups(model.parts(), setting.lr, setting.layer_decay, recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups)
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    size = min(footage.canvas)
    model.train()
    with torch.random.fork_rng(devices=[machine.device] if machine.device.type == "cuda" else []):
        torch.manual_seed(seed)  # of dropout, where an encoder has it
        for step, (frames, chosen, seeds) in enumerate(footage.training(rows, seed, batch, steps)):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * multiplier(step, steps, recipe.warmup)
            draws = Draws(seeds.to(machine.device), "supervised")
            views = drawn_crops(frames.to(machine.device), draws, size, recipe.augmentation)
            with machine.autocast():
                logits = model(views)
            value = loss(logits.float(), views, chosen)
            if not bool(torch.isfinite(value)):
                raise UserError(
                    f"the loss is {value.item()} at step {step} with {setting}; give lower --learning_rates"
                )
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
    return model.eval()


def _standardise(model: Classifier, footage: Footage, rows: np.ndarray, machine: Machine) -> None:
    """Standardise by at most 256 of the train clips, evenly taken."""
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _STANDARDISED_ON)).round().astype(np.int64))]
    found = frozen_vectors(model, footage, some, views=1, machine=machine)
    if not np.isfinite(found).all():
        raise UserError("the encoder gives features that are not finite; its weights are broken, train it again")
    model.standardise(torch.as_tensor(found[:, 0]).to(machine.device))


def choose_setting(
    make: Callable[[], Classifier],
    footage: Footage,
    train: np.ndarray,
    held: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    machine: Machine,
    views: int,
    steps: int | None = None,
) -> Setting:
    """The setting whose classifier, trained on `train`, does best on `held`: accuracy, then mean log likelihood.

    The middle one of the recipe where nothing can be held out.

    Args:
        make: builds the untrained classifier.
        footage: the clips.
        train: rows to train on.
        held: rows to judge by, of other source files or groups.
        labels: int [N] of all clips.
        recipe: with the settings.
        seed: of the trainings.
        machine: device and numbers.
        views: views a clip that the held-out clips are judged by; the middle crop.
        steps: as in `fit_classifier`.
    """
    settings: Sequence[Setting] = recipe.settings
    if len(settings) == 1 or len(held) == 0:
        return settings[len(settings) // 2]
    judged = []
    loss = label_loss(labels, recipe.label_smoothing)
    for setting in settings:
        model = fit_classifier(make(), footage, train, loss, recipe, setting, seed=seed, machine=machine, steps=steps)
        mean = predict(model, footage, held, views=views, crops=1, machine=machine).mean(axis=1)
        right = mean[np.arange(len(held)), labels[held]]
        accuracy = float((mean.argmax(axis=1) == labels[held]).mean())
        judged.append((accuracy, float(np.log(np.maximum(right, 1e-12)).mean())))
    return settings[max(range(len(judged)), key=judged.__getitem__)]
