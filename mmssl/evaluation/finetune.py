"""Fine-tuning on labelled clips, protocol ``action-finetune-v1``, beside the same architecture trained from scratch.

Seed s means: other random weights of the row that starts from scratch, another 80 % of each class's train clips,
another start of the head, other views. Both rows see the same views of the same clips, and are tuned alike: at most 4
pairs of learning rate and layer decay, chosen once a fold on a validation part of seed 0's train clips (whole source
files or groups). Tested by 10 views x 3 crops, whose probabilities are averaged (arXiv 1711.07971, arXiv 1812.03982).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.action import Clips, arrange, file_facts, given_sets
from mmssl.evaluation.classifier import Classifier, Machine, predict
from mmssl.evaluation.features import FeatureTable
from mmssl.evaluation.folds import TRAIN_SHARE, Fold, drawn_part, validation_rows
from mmssl.evaluation.footage import MEMORY, Footage, Progress, Survey, make_footage, survey
from mmssl.evaluation.judged import Judged, hits_of_clips
from mmssl.evaluation.linear import fit_chosen
from mmssl.evaluation.scores import Scores
from mmssl.evaluation.supervised import Recipe, Setting, choose_setting, fit_classifier, label_loss
from mmssl.metrics.statistics import paired_difference, verdict
from mmssl.nn.encoders import Encoders

PROTOCOL = "action-finetune-v1"
ROWS = ("pretrained", "supervised_from_scratch")
_VIEWS_TO_CHOOSE = 3  # a clip; the middle crop
Build = Callable[[str, int, int], Classifier]


@dataclass(frozen=True)
class FinetuneScores(Scores):
    """Scores whose difference is taken from the row trained from scratch."""

    def sentences(self) -> list[str]:
        """What may be said of the pretrained start, and how the clips were read."""
        lines = [
            f"{probe}: pretrained minus supervised from scratch {100 * d.mean:+.1f} points "
            f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]: {self.verdicts[probe]}"
            for probe, d in self.differences.items()
        ]
        return lines + reading(self.about)


def reading(about: Mapping[str, Any]) -> list[str]:
    """How frames were kept, and what was done with clips shorter than a view."""
    lines = [f"frames: {about['frames']}, {about['size'][0]} x {about['size'][1]} pixels"]
    if short := about["shorter_than_a_view"]:
        lines.append(f"{short} clips are shorter than a view of {about['seconds']} s: their last frame is shown on")
    if about["crops"] != about["crops_wanted"]:
        lines.append(f"{about['crops']} crop a view instead of {about['crops_wanted']}: the frames are square")
    return lines


def evaluate_finetune(
    encoders: Path | str,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    *,
    group: str | None = None,
    encoder: str = "video",
    picture: Span = Span(2.0, 8.0),
    size: int = 96,
    views: int = 10,
    crops: int = 3,
    seeds: int = 5,
    recipe: Recipe | None = None,
    memory: int = MEMORY,
    workers: int = 2,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    progress: Progress | None = None,
) -> FinetuneScores:
    """Fine-tune an encoder of a run on labelled clips.

    Args:
        encoders: run folder or `encoders` folder.
        shards: one set of clips, split by their field `split`, or by `group`.
        train: with `test`, two sets of clips instead of one.
        test: see `train`.
        group: regular expression on a clip's source or key; one group at a time is left out of train and tested.
        encoder: which encoder, of modality video or image.
        picture: length and rate of a view.
        size: side of the crops that the encoder sees, in pixels.
        views: views a test clip, evenly spread.
        crops: crops a view, evenly spread along its longer side; a square picture has one.
        seeds: how many seeds.
        recipe: how both rows are trained.
        memory: bytes of frames that may be kept; a larger corpus is decoded again in every epoch.
        workers: decode processes.
        device: where classifiers are trained.
        autocast: whether they run in bfloat16.
        progress: called with (trainings done, in all); choosing a setting counts as one.

    Raises:
        UserError: the sets do not fit each other, clips have no labels, or the encoder takes no clips.
    """
    recipe = recipe or Recipe()
    check_numbers(seeds=seeds, views=views, crops=crops, size=size)
    check_encoder(encoders, encoder)
    looked = survey(given_sets(shards, train, test, group), workers=workers)
    clips = arranged(looked, group)
    footage = make_footage(looked, picture, size, memory=memory, workers=workers)
    machine = Machine(torch.device(device), autocast)
    build = partial(build_classifier, encoders, encoder, len(clips.classes))
    judged, chosen = _judge(Finetuning(build, footage, clips, recipe, machine, views, crops), seeds, progress)
    ours, theirs = (judged[row].video for row in ROWS)
    tested = ~np.isnan(ours[0])
    difference = paired_difference(ours[:, tested], theirs[:, tested], clips.groups[tested])
    return FinetuneScores(
        name="finetune",
        about={
            "protocol": {"finetune": PROTOCOL},
            "encoder": encoder,
            **about_clips(clips, footage, views, crops),
            "precision": "bfloat16" if autocast else "float32",
            "train_share": TRAIN_SHARE,
            "seeds": seeds,
            "recipe": recipe.about(),
            "chosen": {row: dict(counts) for row, counts in chosen.items()},
            "accuracy": "video accuracy: probabilities averaged over views and crops; fractions",
        },
        models={"finetune": {row: found.as_dict(clips.labels, clips.groups) for row, found in judged.items()}},
        baselines={"chance": 1.0 / len(clips.classes), "majority": majority_accuracy(clips)}
        | facts_baseline(looked, clips, seeds, machine.device),
        differences={"finetune": difference},
        verdicts={"finetune": verdict(difference)},
        confusion=judged["pretrained"].confusion(clips.labels, len(clips.classes)),
        per_clip=hits_of_clips(clips.keys, clips.groups, {"finetune": judged}),
    )


@dataclass(frozen=True)
class Finetuning:
    """How the classifiers of one evaluation are tuned, trained and tested.

    Args:
        build: (row, seed, seed of the head) -> untrained classifier.
        footage: the clips' frames.
        clips: their labels and folds.
        recipe: how every row is trained.
        machine: device and numbers.
        views: views a test clip.
        crops: crops a view.
    """

    build: Build
    footage: Footage
    clips: Clips
    recipe: Recipe
    machine: Machine
    views: int
    crops: int

    def choose(self, row: str, fold: Fold) -> Setting:
        """The setting of a row in a fold, by the validation part of seed 0's train clips."""
        rows, labels = train_part(self.clips, fold, 0), self.clips.labels
        held = validation_rows(labels[rows], self.clips.groups[rows], 0)
        return choose_setting(
            lambda: self.build(row, 0, 0),
            self.footage,
            rows[~held],
            rows[held],
            labels,
            self.recipe,
            seed=0,
            machine=self.machine,
            views=min(self.views, _VIEWS_TO_CHOOSE),
        )

    def fit(self, row: str, fold: Fold, setting: Setting, seed: int) -> Classifier:
        """The classifier of a row, trained on the seed's train clips of the fold."""
        return fit_classifier(
            self.build(row, seed, seed),
            self.footage,
            train_part(self.clips, fold, seed),
            label_loss(self.clips.labels, self.recipe.label_smoothing),
            self.recipe,
            setting,
            seed=seed,
            machine=self.machine,
        )

    def test(self, model: Classifier, fold: Fold) -> np.ndarray:
        """Float64 [n, V * K, C]: probabilities of the fold's test clips."""
        return predict(model, self.footage, fold.test, views=self.views, crops=self.crops, machine=self.machine)


def _judge(
    tuned: Finetuning, seeds: int, progress: Progress | None
) -> tuple[dict[str, Judged], dict[str, Counter[str]]]:
    """Both rows over folds and seeds, and how often each setting was chosen by row."""
    clips = tuned.clips
    judged = {row: Judged.empty(seeds, len(clips.keys)) for row in ROWS}
    chosen: dict[str, Counter[str]] = {row: Counter() for row in ROWS}
    done, total = 0, len(clips.folds) * len(ROWS) * (seeds + 1)
    for number, fold in enumerate(clips.folds):
        for row in ROWS:
            setting = tuned.choose(row, fold)
            chosen[row][str(setting)] += 1
            for seed in range(-1, seeds):  # the first turn has chosen
                if seed >= 0:
                    scores = tuned.test(tuned.fit(row, fold, setting, seed), fold)
                    judged[row].put(seed, fold.test, scores, clips.labels[fold.test], number)
                done += 1
                if progress is not None:
                    progress(done, total)
    return judged, chosen


def majority_accuracy(clips: Clips) -> float:
    """Accuracy of always naming the most frequent class of a fold's train clips."""
    hits = sum(
        float((clips.labels[fold.test] == np.bincount(clips.labels[fold.train]).argmax()).sum()) for fold in clips.folds
    )
    return hits / sum(len(fold.test) for fold in clips.folds)


def train_part(clips: Clips, fold: Fold, seed: int, share: float = TRAIN_SHARE) -> np.ndarray:
    """Rows of a share of each class's train clips, at least one a class, drawn from (seed, key)."""
    keys = [clips.keys[i] for i in fold.train]
    return np.asarray(fold.train[drawn_part(keys, clips.labels[fold.train], seed, share)])


def build_classifier(
    encoders: Path | str, encoder: str, classes: int, row: str, seed: int, head_seed: int
) -> Classifier:
    """The untrained classifier of a row: from the run's weights, or from new ones of `seed`."""
    bundle = Encoders.from_pretrained(encoders, random_init=row != "pretrained", seed=seed)
    return Classifier(bundle[encoder], classes, seed=head_seed)


def check_encoder(encoders: Path | str, encoder: str) -> None:
    """Raise a UserError unless the encoder is there and takes clips."""
    modality = Encoders.from_pretrained(encoders)[encoder].modality
    if modality not in ("video", "image"):
        raise UserError(
            f"encoder '{encoder}' is of modality '{modality}'; clips are classified by a video or an image encoder"
        )


def check_numbers(**numbers: int) -> None:
    """Raise a UserError for a number below 1."""
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"{name} is {value}; at least 1 is needed" + ", 5 for a comparison" * (name == "seeds"))


def arranged(looked: Survey, group: str | None) -> Clips:
    """Classes and folds of surveyed clips, checked as for `evaluate_action`."""
    empty = np.zeros((len(looked), 1, 1), dtype=np.float32)
    return arrange(FeatureTable(looked.keys, empty, looked.labels, looked.metas), list(looked.sizes), group)


def about_clips(clips: Clips, footage: Footage, views: int, crops: int) -> dict[str, Any]:
    """What must be equal for scores to be compared."""
    square = footage.canvas[0] == footage.canvas[1]
    return footage.about() | {
        "views": views,
        "crops": 1 if square else crops,
        "crops_wanted": crops,
        "clips": len(clips.keys),
        "test_clips": int(sum(len(fold.test) for fold in clips.folds)),
        "classes": list(clips.classes),
        "folds": len(clips.folds),
        "split": clips.how,
    }


def facts_baseline(
    looked: Survey, clips: Clips, seeds: int, device: torch.device, share: float = TRAIN_SHARE
) -> dict[str, float]:
    """Accuracy of the linear probe on what the files' size, length and rate tell; nothing where they tell nothing."""
    facts = file_facts(looked.metas)
    if facts is None:
        return {}
    judged = Judged.empty(seeds, len(clips.keys))
    for fold in clips.folds:
        for seed in range(seeds):
            rows = train_part(clips, fold, seed, share)
            fitted = fit_chosen(
                facts[rows], clips.labels[rows], len(clips.classes), groups=clips.groups[rows], seed=seed, device=device
            )
            judged.put(seed, fold.test, fitted.probabilities(facts[fold.test]), clips.labels[fold.test])
    return {"file_facts": float(judged.as_dict(clips.labels)["mean"])}
