"""Action recognition by frozen features: linear probe and nearest neighbours, pretrained beside random init.

Seed s means: another random initialisation (of the baseline), another 80 % of each class's train clips, another
start of the head. Pretrained and random init are paired by seed and clip. What the source files' size, length and
rate alone tell (`file_facts`) stands beside them, because clips cropped action by action can be told apart without
looking at them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.feature_cache import FeatureCache, told_of
from mmssl.evaluation.features import FeatureTable, Progress, extract_all, join
from mmssl.evaluation.folds import (
    TRAIN_SHARE,
    Fold,
    by_split,
    check_folds,
    class_names,
    corpus_name,
    drawn_part,
    group_names,
    leave_one_out,
    official_folds,
    recorded_together,
)
from mmssl.evaluation.knn import PROTOCOL as KNN
from mmssl.evaluation.knn import knn_scores, neighbours_for
from mmssl.evaluation.linear import PROTOCOL as LINEAR
from mmssl.evaluation.linear import fit_chosen
from mmssl.evaluation.per_clip import PerClip
from mmssl.evaluation.scores import Judged, Scores
from mmssl.metrics.statistics import paired_difference, verdict
from mmssl.nn.encoders import Encoders

FACTS = ("width", "height", "seconds", "frame_rate")
MODELS = ("pretrained", "random_init")


@dataclass(frozen=True)
class Clips:
    """The clips of an evaluation, without their features.

    Args:
        keys: their keys.
        labels: int [N].
        classes: names of the classes.
        folds: how they are split.
        groups: int [N]; clips of one source or group are never split, nor resampled, apart.
        how: how they are split, in words.
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    folds: Sequence[Fold]
    groups: np.ndarray
    how: str


def evaluate_action(
    encoders: Path | str,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    *,
    group: str | None = None,
    encoder: str = "video",
    picture: Span = Span(2.0, 8.0),
    size: int | tuple[int, int] = 96,
    views: int = 1,
    seeds: int = 5,
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Evaluate the encoders of a run on labelled clips.

    Args:
        encoders: run folder or `encoders` folder.
        shards: one set of clips, split by their field `split`, or by `group`.
        train: with `test`, two sets of clips instead of one.
        test: see `train`.
        group: regular expression on a clip's source or key; one group at a time is left out of train and tested.
        encoder: which encoder.
        picture: length and rate of a view.
        size: height and width of the frames.
        views: views a clip.
        seeds: how many seeds.
        batch_size: clips at a time.
        workers: decode processes.
        device: where encoders and probes run.
        autocast: whether all encoders run in bfloat16; features and probes stay as they are.
        cache: where features are looked up and kept.
        progress: called with (clips done, clips in all) of each pass.

    Raises:
        UserError: the sets do not fit each other, or clips have no labels.
    """
    if seeds < 1:
        raise UserError(f"seeds is {seeds}; at least 1 is needed, 5 for a comparison")
    sets = given_sets(shards, train, test, group)
    bundles = [Encoders.from_pretrained(encoders)]
    bundles += [Encoders.from_pretrained(encoders, random_init=True, seed=s) for s in range(seeds)]
    made = [
        extract_all(
            bundles,
            one,
            encoder=encoder,
            picture=picture,
            size=size,
            views=views,
            batch_size=batch_size,
            workers=workers,
            device=device,
            autocast=autocast,
            cache=cache,
            progress=progress,
        )
        for one in sets
    ]
    tables = [join([one[number] for one in made]) for number in range(len(bundles))]
    clips = arrange(tables[0], sizes=[len(one[0]) for one in made], group=group)
    scores = probe(tables[0], tables[1:], clips, device)
    return replace(scores, about={**scores.about, "features": told_of(tables)})


def given_sets(shards: str | None, train: str | None, test: str | None, group: str | None) -> list[str]:
    """The sets of clips that the arguments name: one, or train and test."""
    if shards is not None and train is None and test is None:
        return [shards]
    if shards is None and train is not None and test is not None:
        if group is not None:
            raise UserError("group splits one set of clips; give --shards with it, not --train and --test")
        return [train, test]
    raise UserError("give either --shards (one set of clips) or both --train and --test")


def arrange(table: FeatureTable, sizes: Sequence[int], group: str | None = None) -> Clips:
    """Classes and folds of the clips of one set, or of two (train, then test), checked.

    Args:
        table: the clips.
        sizes: number of clips of each set.
        group: regular expression of the groups to leave out, for one set.
    """
    classes = class_names(table.labels, table.keys)
    labels = np.array([classes.index(str(label)) for label in table.labels])
    groups = recorded_together(table.keys, table.metas)
    if len(sizes) == 2:
        both = sorted(set(table.keys[: sizes[0]]) & set(table.keys[sizes[0] :]))
        if both:
            raise UserError(f"{len(both)} clips are in train and in test, the first is '{both[0]}'")
        order = np.arange(len(table))
        folds, how = [Fold("test", order[: sizes[0]], order[sizes[0] :])], "train and test shards"
    elif group is not None:
        groups = group_names(table.keys, table.metas, group)
        folds, how = leave_one_out(groups, group), f"leave one group out ({group})"
    elif folds := official_folds(table.metas):
        how = f"official folds of {corpus_name(table.metas)}"
    else:
        folds, how = by_split(table.metas), "the clips' field `split`"
    check_folds(folds, labels, classes)
    return Clips(table.keys, labels, classes, folds, np.unique(groups, return_inverse=True)[1], how)


def probe(
    pretrained: FeatureTable | Sequence[FeatureTable],
    random_init: Sequence[FeatureTable],
    clips: Clips,
    device: torch.device | str = "cpu",
) -> Scores:
    """Fit and judge all probes over seeds and folds.

    Args:
        pretrained: features of the trained encoder, one for all seeds or one a seed (several pretrainings).
        random_init: features of one random initialisation a seed, of the same clips.
        clips: labels and folds.
        device: where the linear probes are fitted.
    """
    seeds, n, classes = len(random_init), len(clips.keys), len(clips.classes)
    trained = [pretrained] * seeds if isinstance(pretrained, FeatureTable) else list(pretrained)
    if len(trained) != seeds:
        raise ValueError(f"{len(trained)} trained encoders cannot be paired with {seeds} random initialisations")
    linear = {model: Judged.empty(seeds, n) for model in MODELS}
    knn = {model: Judged.empty(seeds, n) for model in MODELS}
    facts = file_facts(trained[0].metas)
    if facts is not None:
        linear["file_facts"] = Judged.empty(seeds, n)
    majority, neighbours = [], set()
    for seed in range(seeds):
        for fold in clips.folds:
            part = drawn_part([clips.keys[i] for i in fold.train], clips.labels[fold.train], seed)
            rows = fold.train[part]
            labels, tested = clips.labels[rows], clips.labels[fold.test]
            features = {"pretrained": trained[seed].features, "random_init": random_init[seed].features}
            if facts is not None:
                features["file_facts"] = facts
            k = neighbours_for(labels)
            neighbours.add(k)
            for model, table in features.items():
                fitted = fit_chosen(table[rows], labels, classes, groups=clips.groups[rows], seed=seed, device=device)
                linear[model].put(seed, fold.test, fitted.probabilities(table[fold.test]), tested)
                if model in knn:
                    votes = knn_scores(table[rows], labels, table[fold.test], classes, k)
                    knn[model].put(seed, fold.test, votes[:, None], tested)
            most = np.bincount(labels, minlength=classes).argmax()
            majority.append((float((tested == most).sum()), len(tested)))
    return _scores(trained[0].about, clips, {"linear": linear, "knn": knn}, majority, seeds, sorted(neighbours))


def _scores(
    about: Mapping[str, Any],
    clips: Clips,
    probes: Mapping[str, Mapping[str, Judged]],
    majority: Sequence[tuple[float, int]],
    seeds: int,
    neighbours: Sequence[int],
) -> Scores:
    differences, verdicts = {}, {}
    for name, models in probes.items():
        ours, theirs = models["pretrained"].video, models["random_init"].video
        tested = ~np.isnan(ours[0])
        differences[name] = paired_difference(ours[:, tested], theirs[:, tested], clips.groups[tested])
        verdicts[name] = verdict(differences[name])
    return Scores(
        name="action",
        about={
            "protocol": {"linear": LINEAR, "knn": KNN},
            **about,
            "clips": len(clips.keys),
            "test_clips": int(sum(len(fold.test) for fold in clips.folds)),
            "classes": list(clips.classes),
            "folds": len(clips.folds),
            "split": clips.how,
            "train_share": TRAIN_SHARE,
            "seeds": seeds,
            "neighbours": list(neighbours),
            "accuracy": "video accuracy: probabilities averaged over views; fractions",
        },
        models={n: {m: judged.as_dict(clips.labels) for m, judged in models.items()} for n, models in probes.items()},
        baselines={
            "chance": 1.0 / len(clips.classes),
            "majority": sum(hits for hits, _ in majority) / sum(count for _, count in majority),
        },
        differences=differences,
        verdicts=verdicts,
        confusion=probes["linear"]["pretrained"].confusion(clips.labels, len(clips.classes)),
        per_clip=_per_clip(clips, probes),
    )


def _per_clip(clips: Clips, probes: Mapping[str, Mapping[str, Judged]]) -> PerClip:
    """The hits of the clips that were tested."""
    tested = np.flatnonzero(~np.isnan(next(iter(probes["linear"].values())).video).all(axis=0))
    hits = {
        f"{name}/{model}": judged.video[:, tested]
        for name, models in probes.items()
        for model, judged in models.items()
    }
    keys, groups = ([values[i] for i in tested] for values in (clips.keys, clips.groups))
    return PerClip(tuple(keys), tuple(str(group) for group in groups), hits)


def file_facts(metas: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Float32 [N, 1, 4]: logarithms of the original width, height, seconds and frame rate; None where they say nothing.

    A fact that a clip lacks counts as 1 (a logarithm of 0).
    """
    facts = np.zeros((len(metas), 1, len(FACTS)), dtype=np.float32)
    for row, meta in enumerate(metas):
        original = meta.get("original")
        values = original if isinstance(original, Mapping) else {}
        for column, name in enumerate(FACTS):
            value = values.get(name)
            if isinstance(value, int | float) and value > 0:
                facts[row, 0, column] = np.log(value)
    return facts if (facts.std(axis=0) > 1e-6).any() else None
