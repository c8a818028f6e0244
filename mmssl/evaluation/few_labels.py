"""Few labels, protocol ``action-few-labels-v1``: 1 % and 10 % of the labels, by three ways to use them.

Linear probe on frozen features; fine-tuning from a middle layer (`middle`); and distillation: the fine-tuned network
teaches a student, which starts where it started, on all train clips without their labels (SimCLR-v2, arXiv
2006.10029; soft labels: Hinton et al., arXiv 1503.02531). Each has a random initialisation beside it, treated alike.

Seed s means: another share of labels, at least one a class, drawn from (seed, key); another random initialisation,
start of the head and views. The learning rate is chosen once a fold and share among the labelled clips of seed 0;
where these are too few for a validation part of whole source files, it is the middle one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.action import MODELS, Clips, given_sets
from mmssl.evaluation.classifier import Classifier, Machine, frozen_vectors, predict
from mmssl.evaluation.finetune import (
    about_clips,
    arranged,
    check_encoder,
    check_numbers,
    facts_baseline,
    majority_accuracy,
    reading,
    train_part,
)
from mmssl.evaluation.folds import validation_rows
from mmssl.evaluation.footage import MEMORY, Footage, Progress, make_footage, survey
from mmssl.evaluation.judged import Judged, hits_of_clips
from mmssl.evaluation.linear import fit_chosen
from mmssl.evaluation.middle import Middle, find_middle
from mmssl.evaluation.scores import Scores
from mmssl.evaluation.supervised import Loss, Recipe, Setting, choose_setting, fit_classifier, label_loss
from mmssl.metrics.statistics import paired_difference, verdict
from mmssl.nn.encoders import Encoders

PROTOCOL = "action-few-labels-v1"
SHARES = (0.01, 0.1)
WAYS = ("linear", "finetune", "distilled")


@dataclass(frozen=True)
class FewLabels:
    """How few labels are used.

    Args:
        shares: of the labels, each in (0, 1].
        start: where the classifier takes hold, see `find_middle`.
        steps: of fine-tuning, whatever the number of labels.
        student_steps: of the student.
        temperature: that the logits of teacher and student are divided by, > 0.
        recipe: batches, settings and augmentation; its epochs are not used.
    """

    shares: tuple[float, ...] = SHARES
    start: str = "auto"
    steps: int = 200
    student_steps: int = 400
    temperature: float = 1.0
    recipe: Recipe = Recipe()  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        if not self.shares or len(set(self.shares)) < len(self.shares) or not all(0 < s <= 1 for s in self.shares):
            raise UserError(f"shares are different numbers in (0, 1], got {list(self.shares)}; 0.01 is 1 %")
        check_numbers(steps=self.steps, student_steps=self.student_steps)
        if not self.temperature > 0:
            raise UserError(f"temperature must be > 0, got {self.temperature}")


@dataclass(frozen=True)
class FewLabelsScores(Scores):
    """Scores that also say where the classifier took hold and how the clips were read."""

    def sentences(self) -> list[str]:
        """What may be said of pretrained against random init, a line a way and share."""
        shares = ", ".join(f"{100 * float(s):g} % = {n} labels" for s, n in self.about["labels"].items())
        return [*super().sentences(), f"fine-tuned from {self.about['start']}; {shares}", *reading(self.about)]


def evaluate_few_labels(
    encoders: Path | str,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    *,
    group: str | None = None,
    encoder: str = "video",
    picture: Span = Span(2.0, 8.0),
    size: int = 96,
    views: int = 3,
    crops: int = 1,
    seeds: int = 5,
    how: FewLabels | None = None,
    memory: int = MEMORY,
    workers: int = 2,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    progress: Progress | None = None,
) -> FewLabelsScores:
    """Learn actions from few labels.

    Args:
        encoders: run folder or `encoders` folder.
        shards: one set of clips, split by their field `split`, or by `group`.
        train: with `test`, two sets of clips instead of one.
        test: see `train`.
        group: regular expression on a clip's source or key; one group at a time is left out of train and tested.
        encoder: which encoder, of modality video or image.
        picture: length and rate of a view.
        size: side of the crops that the encoder sees, in pixels.
        views: views a test clip, evenly spread; the linear probe is fitted on as many.
        crops: crops a view of the fine-tuned networks, evenly spread along its longer side.
        seeds: how many seeds.
        how: shares of labels, and how they are used.
        memory: bytes of frames that may be kept; a larger corpus is decoded again in every epoch.
        workers: decode processes.
        device: where classifiers are trained.
        autocast: whether they run in bfloat16.
        progress: called with (folds and seeds done, in all).

    Raises:
        UserError: the sets do not fit each other, clips have no labels, or the encoder takes no clips.
    """
    how = how or FewLabels()
    check_numbers(seeds=seeds, views=views, crops=crops, size=size)
    check_encoder(encoders, encoder)
    middle = find_middle(encoders, Encoders.from_pretrained(encoders), encoder, how.start)
    looked = survey(given_sets(shards, train, test, group), workers=workers)
    clips = arranged(looked, group)
    footage = make_footage(looked, picture, size, memory=memory, workers=workers)
    machine = Machine(torch.device(device), autocast)
    run = _Run(Path(encoders), encoder, middle, footage, clips, how, machine, views, crops)
    run.judge(seeds, progress)
    differences = {}
    for name, rows in run.judged.items():
        ours, theirs = (rows[model].video for model in MODELS)
        tested = ~np.isnan(ours[0])
        differences[name] = paired_difference(ours[:, tested], theirs[:, tested], clips.groups[tested])
    baselines = {"chance": 1.0 / len(clips.classes), "majority": majority_accuracy(clips)}
    for share in how.shares:
        facts = facts_baseline(looked, clips, seeds, machine.device, share)
        baselines |= {f"{name}_{share:g}": value for name, value in facts.items()}
    return FewLabelsScores(
        name="few_labels",
        about={
            "protocol": {"few_labels": PROTOCOL},
            "encoder": encoder,
            **about_clips(clips, footage, views, crops),
            "precision": "bfloat16" if autocast else "float32",
            "seeds": seeds,
            "start": str(middle),
            "labels": {f"{share:g}": count for share, count in run.labels.items()},
            "steps": how.steps,
            "student_steps": how.student_steps,
            "temperature": how.temperature,
            "recipe": {k: v for k, v in how.recipe.about().items() if k != "epochs"},
            "chosen": {name: dict(counts) for name, counts in run.chosen.items()},
            "accuracy": "video accuracy: probabilities averaged over views and crops; fractions",
        },
        models={
            name: {m: one.as_dict(clips.labels, clips.groups) for m, one in rows.items()}
            for name, rows in run.judged.items()
        },
        baselines=baselines,
        differences=differences,
        verdicts={name: verdict(difference) for name, difference in differences.items()},
        confusion=run.judged[f"finetune_{how.shares[-1]:g}"]["pretrained"].confusion(clips.labels, len(clips.classes)),
        per_clip=hits_of_clips(clips.keys, clips.groups, run.judged),
    )


class _Run:
    """All trainings of one evaluation, and what they gave."""

    def __init__(
        self,
        encoders: Path,
        encoder: str,
        middle: Middle,
        footage: Footage,
        clips: Clips,
        how: FewLabels,
        machine: Machine,
        views: int,
        crops: int,
    ) -> None:
        self.encoders, self.encoder, self.middle = encoders, encoder, middle
        self.footage, self.clips, self.how, self.machine = footage, clips, how, machine
        self.views, self.crops = views, crops
        self.judged: dict[str, dict[str, Judged]] = {}
        self.chosen: dict[str, Counter[str]] = {}
        self.labels: dict[float, int] = {}  # of the first fold and seed

    def judge(self, seeds: int, progress: Progress | None) -> None:
        """Every fold, seed, row, share and way."""
        count = len(self.clips.keys)
        self.judged = {
            f"{way}_{share:g}": {model: Judged.empty(seeds, count) for model in MODELS}
            for share in self.how.shares
            for way in WAYS
        }
        settings: dict[tuple[str, str, float], Setting] = {}
        for seed in range(seeds):
            for model in MODELS:
                vectors = self._vectors(model, seed)
                for number, fold in enumerate(self.clips.folds):
                    for share in self.how.shares:
                        rows = train_part(self.clips, fold, seed, share)
                        self.labels.setdefault(share, len(rows))
                        key = (model, fold.name, share)
                        if seed == 0:
                            settings[key] = self._choose(model, rows)
                            self.chosen.setdefault(f"{model}_{share:g}", Counter())[str(settings[key])] += 1
                        found = self._ways(model, seed, rows, fold.train, fold.test, vectors, settings[key])
                        for way, scores in found.items():
                            judged = self.judged[f"{way}_{share:g}"][model]
                            judged.put(seed, fold.test, scores, self.clips.labels[fold.test], number)
                    if progress is not None:
                        done = (seed * len(MODELS) + MODELS.index(model)) * len(self.clips.folds) + number + 1
                        progress(done, seeds * len(MODELS) * len(self.clips.folds))

    def _ways(
        self,
        model: str,
        seed: int,
        rows: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        vectors: np.ndarray,
        setting: Setting,
    ) -> dict[str, np.ndarray]:
        """Probabilities [n, V, C] of the test clips by each way, learned from the labels of `rows`."""
        clips, how = self.clips, self.how
        labels, groups, classes = clips.labels[rows], clips.groups[rows], len(clips.classes)
        fitted = fit_chosen(vectors[rows], labels, classes, groups=groups, seed=seed, device=self.machine.device)
        teacher = self._fit(model, seed, rows, label_loss(clips.labels, how.recipe.label_smoothing), setting, how.steps)
        soft = soft_label_loss(teacher, how.temperature, self.machine)
        student = self._fit(model, seed, train, soft, setting, how.student_steps)
        return {
            "linear": fitted.probabilities(vectors[test]),
            "finetune": self._predict(teacher, test),
            "distilled": self._predict(student, test),
        }

    def _choose(self, model: str, rows: np.ndarray) -> Setting:
        labels = self.clips.labels
        held = validation_rows(labels[rows], self.clips.groups[rows], 0)
        return choose_setting(
            lambda: self._build(model, 0),
            self.footage,
            rows[~held],
            rows[held],
            labels,
            self.how.recipe,
            seed=0,
            machine=self.machine,
            views=self.views,
            steps=self.how.steps,
        )

    def _build(self, model: str, seed: int) -> Classifier:
        untrained = model != MODELS[0]
        bundle = Encoders.from_pretrained(self.encoders, random_init=untrained, seed=seed)
        start = self.middle.make(self.encoders, bundle, self.encoder, seed if untrained else None)
        return Classifier(bundle[self.encoder], len(self.clips.classes), start, seed=seed)

    def _fit(self, model: str, seed: int, rows: np.ndarray, loss: Loss, setting: Setting, steps: int) -> Classifier:
        return fit_classifier(
            self._build(model, seed),
            self.footage,
            rows,
            loss,
            self.how.recipe,
            setting,
            seed=seed,
            machine=self.machine,
            steps=steps,
        )

    def _predict(self, model: Classifier, rows: np.ndarray) -> np.ndarray:
        return predict(model, self.footage, rows, views=self.views, crops=self.crops, machine=self.machine)

    def _vectors(self, model: str, seed: int) -> np.ndarray:
        """Float32 [N, V, D]: frozen features of all clips by the encoder's own vector."""
        bundle = Encoders.from_pretrained(self.encoders, random_init=model != MODELS[0], seed=seed)
        frozen = Classifier(bundle[self.encoder], len(self.clips.classes))
        rows = np.arange(len(self.clips.keys))
        return frozen_vectors(frozen, self.footage, rows, views=self.views, machine=self.machine)


def soft_label_loss(teacher: Classifier, temperature: float, machine: Machine) -> Loss:
    """Cross-entropy of the student with the teacher's probabilities on the same views, both at a temperature."""

    def loss(logits: torch.Tensor, views: torch.Tensor, _: np.ndarray) -> torch.Tensor:
        with torch.no_grad(), machine.autocast():
            told = teacher(views)
        return F.cross_entropy(logits / temperature, (told.float() / temperature).softmax(dim=1))

    return loss
