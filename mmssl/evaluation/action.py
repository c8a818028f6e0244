"""Action recognition by frozen features: the chosen probes on one pass over the clips, pretrained beside random init.

Seed s means: another random initialisation (of the baseline), another 80 % of each class's train clips, another
start of the head. Pretrained and random init are paired by seed and clip. Beside them stands what needs no network:
the source files' size, length and rate (`file_facts`), because clips cropped action by action can be told apart
without looking at them, and the motion energy and colours of the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from mmssl.evaluation.judged import hits_of_clips
from mmssl.evaluation.probes import PROBES, chosen_probes
from mmssl.evaluation.probing import Seen
from mmssl.evaluation.retrieval import RetrievalChance
from mmssl.evaluation.scores import Judged, Scores
from mmssl.evaluation.tokens import GIGABYTES, TOKENS
from mmssl.evaluation.without_network import file_facts as file_facts
from mmssl.evaluation.without_network import pixel_bundles
from mmssl.metrics.statistics import Interval, paired_difference, verdict
from mmssl.nn.encoders import Encoders

MODELS = ("pretrained", "random_init")
DEFAULT_PROBES = ("linear", "knn")


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
    probes: Sequence[str] = DEFAULT_PROBES,
    tokens: int = TOKENS,
    token_gigabytes: float = GIGABYTES,
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
        probes: names of `PROBES`.
        tokens: the most tokens a view that the attentive probe sees.
        token_gigabytes: bound of the tokens' memory.

    Raises:
        UserError: the sets do not fit each other, clips have no labels, or a probe is unknown.
    """
    asked = chosen_probes(probes)
    if seeds < 1:
        raise UserError(f"seeds is {seeds}; at least 1 is needed, 5 for a comparison")
    sets = given_sets(shards, train, test, group)
    bundles = [Encoders.from_pretrained(encoders)]
    bundles += [Encoders.from_pretrained(encoders, random_init=True, seed=s) for s in range(seeds)]
    pixels = pixel_bundles(encoder) if bundles[0][encoder].modality in ("image", "video") else {}
    bundles += pixels.values()
    with_tokens = any(probe.takes == "tokens" for probe in asked.values())
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
            tokens=tokens if with_tokens else 0,
            token_gigabytes=token_gigabytes,
        )
        for one in sets
    ]
    tables = [join([one[number] for one in made]) for number in range(len(bundles))]
    clips = arrange(tables[0], sizes=[len(one[0]) for one in made], group=group)
    free = dict(zip(pixels, tables[1 + seeds :], strict=True))
    scores = probe(tables[0], tables[1 : 1 + seeds], clips, device, list(asked), free)
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
    probes: Sequence[str] = DEFAULT_PROBES,
    pixels: Mapping[str, FeatureTable] | None = None,
) -> Scores:
    """Fit and judge all probes over seeds and folds.

    What needs no network (`file_facts`, `pixels`) has vectors and no tokens: a probe of tokens is compared with what
    the linear probe makes of them.

    Args:
        pretrained: features of the trained encoder, one for all seeds or one a seed (several pretrainings).
        random_init: features of one random initialisation a seed, of the same clips.
        clips: labels and folds.
        device: where the probes are fitted.
        probes: names of `PROBES`.
        pixels: features of the same clips that need no network, by name.
    """
    asked, seeds, classes = chosen_probes(probes), len(random_init), len(clips.classes)
    trained = [pretrained] * seeds if isinstance(pretrained, FeatureTable) else list(pretrained)
    if len(trained) != seeds:
        raise ValueError(f"{len(trained)} trained encoders cannot be paired with {seeds} random initialisations")
    facts = file_facts(trained[0].metas)
    free = {} if facts is None else {"file_facts": Seen(facts)}
    free |= {name: Seen(table.features) for name, table in (pixels or {}).items()}
    judge_of = {name: name if one.takes == "vectors" else "linear" for name, one in asked.items()}
    judged: dict[str, dict[str, Judged]] = {}
    for name in PROBES:
        models = [*MODELS] * (name in asked) + [*free] * (name in judge_of.values())
        if models:
            judged[name] = {model: Judged.empty(seeds, len(clips.keys)) for model in models}
    majority: list[tuple[float, int]] = []
    chosen: dict[str, dict[str, set[float]]] = {}
    chance = RetrievalChance()
    for seed in range(seeds):
        seen = {"pretrained": _seen(trained[seed]), "random_init": _seen(random_init[seed]), **free}
        for number, fold in enumerate(clips.folds):
            part = drawn_part([clips.keys[i] for i in fold.train], clips.labels[fold.train], seed)
            rows = fold.train[part]
            labels, tested = clips.labels[rows], clips.labels[fold.test]
            for name, model, found in _each(judged):
                answers = PROBES[name](
                    seen[model].part(rows),
                    labels,
                    seen[model].part(fold.test),
                    classes,
                    groups=clips.groups[rows],
                    seed=seed,
                    device=device,
                )
                found.put(seed, fold.test, answers.scores, tested, number, answers.similarity, labels)
                if model == "pretrained":
                    for setting, value in answers.chosen.items():
                        chosen.setdefault(name, {}).setdefault(setting, set()).add(value)
            most = np.bincount(labels, minlength=classes).argmax()
            majority.append((float((tested == most).sum()), len(tested)))
            chance.add(labels, tested)
    return _scores(trained[0].about, clips, judged, judge_of, majority, seeds, chosen, chance)


def _seen(table: FeatureTable) -> Seen:
    return Seen(table.features, table.tokens)


def _each(judged: Mapping[str, Mapping[str, Judged]]) -> Iterator[tuple[str, str, Judged]]:
    return ((name, model, found) for name, models in judged.items() for model, found in models.items())


def _scores(
    about: Mapping[str, Any],
    clips: Clips,
    probes: Mapping[str, Mapping[str, Judged]],
    judge_of: Mapping[str, str],
    majority: Sequence[tuple[float, int]],
    seeds: int,
    chosen: Mapping[str, Mapping[str, set[float]]],
    chance: RetrievalChance,
) -> Scores:
    def gap(ours: Judged, theirs: Judged) -> Interval:
        tested = ours.tested()
        return paired_difference(ours.video[:, tested], theirs.video[:, tested], clips.groups[tested])

    models, differences, beside = {}, {}, {}
    for name, judge in judge_of.items():
        ours = probes[name]["pretrained"]
        free = {model: found for model, found in probes[judge].items() if model not in MODELS}
        models[name] = {model: found.as_dict(clips.labels, clips.groups) for model, found in probes[name].items()}
        if judge not in judge_of:  # what the linear probe makes of pixels, where it is not asked for by itself
            for model, found in free.items():
                models[name][f"{model}_by_{judge}_probe"] = found.as_dict(clips.labels, clips.groups)
        differences[name] = gap(ours, probes[name]["random_init"])
        beside[name] = {model: gap(ours, found) for model, found in free.items()}
    first = next(iter(judge_of))
    return Scores(
        name="action",
        about={
            "protocol": {name: PROBES[name].protocol for name in judge_of},
            **about,
            "clips": len(clips.keys),
            "test_clips": int(sum(len(fold.test) for fold in clips.folds)),
            "classes": list(clips.classes),
            "folds": len(clips.folds),
            "fold_names": [fold.name for fold in clips.folds],
            "split": clips.how,
            "train_share": TRAIN_SHARE,
            "seeds": seeds,
            "chosen": {n: {s: sorted(v) for s, v in settings.items()} for n, settings in chosen.items()},
            "confusion_of": first,
            "accuracy": "video accuracy: probabilities averaged over views; fractions",
        },
        models=models,
        baselines={
            "chance": 1.0 / len(clips.classes),
            "majority": sum(hits for hits, _ in majority) / sum(count for _, count in majority),
        },
        differences=differences,
        verdicts={name: verdict(found) for name, found in differences.items()},
        confusion=probes[first]["pretrained"].confusion(clips.labels, len(clips.classes)),
        beside=beside,
        per_clip=hits_of_clips(clips.keys, clips.groups, probes),
        retrieval_chance=chance.as_dict() if "retrieval" in judge_of else {},
    )
