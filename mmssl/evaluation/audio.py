"""Audio classification by frozen features: linear probe and nearest neighbours, beside what needs no network.

Protocols ``audio-linear-v1`` and ``audio-knn-v1``: the probes, seeds and folds of ``action-linear-v1`` and
``action-knn-v1`` on the audio encoder's features of a clip's sound. Every model sees the same clips, train parts and
seeds, and the pretrained one is compared with each of the others, paired by seed and clip: with the same architecture
at random weights, with the mean log-mel spectrum and its standard deviation over time, and with loudness alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.action import Clips, arrange, given_sets
from mmssl.evaluation.feature_cache import FeatureCache, told_of
from mmssl.evaluation.features import FeatureTable, Progress, extract_all, join
from mmssl.evaluation.folds import TRAIN_SHARE, drawn_part
from mmssl.evaluation.judged import hits_of_clips
from mmssl.evaluation.knn import knn_scores, neighbours_for
from mmssl.evaluation.labels import relabelled
from mmssl.evaluation.linear import fit_chosen
from mmssl.evaluation.scores import Judged, Scores
from mmssl.evaluation.without_network import file_facts
from mmssl.metrics.statistics import Interval, paired_difference, verdict
from mmssl.nn.encoders import Build, Encoders

PROTOCOLS = {"linear": "audio-linear-v1", "knn": "audio-knn-v1"}
STATISTICS = Build("mmssl.nn.sound_statistics.SoundStatistics")
#: one number has no direction, and four facts have no cosine worth the name: these are judged by the linear probe alone
LINEAR_ALONE = ("loudness", "file_facts")


@dataclass(frozen=True)
class AudioScores(Scores):
    """Scores, and what may be said of pretrained against every baseline.

    Args:
        beside: probe -> baseline -> pretrained minus it, paired by seed and clip.
    """

    beside: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`."""
        found = super().as_dict()
        for probe, others in self.beside.items():
            found[probe]["pretrained_minus"] = {
                name: difference.as_dict() | {"verdict": verdict(difference)} for name, difference in others.items()
            }
        return found

    def sentences(self) -> list[str]:
        """A line a probe and baseline."""
        return [
            f"{probe}: pretrained minus {name.replace('_', ' ')} {100 * d.mean:+.1f} points "
            f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]: {verdict(d)}"
            for probe, others in self.beside.items()
            for name, d in others.items()
        ]


def evaluate_audio(
    encoders: Path | str,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    *,
    group: str | None = None,
    label: str | None = None,
    encoder: str = "audio",
    seconds: float = 2.0,
    views: int = 1,
    seeds: int = 5,
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> AudioScores:
    """Evaluate the audio encoder of a run on clips with labels and sound.

    Args:
        encoders: run folder or `encoders` folder.
        shards: one set of clips, split by their field `split`, or by `group`.
        train: with `test`, two sets of clips instead of one.
        test: see `train`.
        group: regular expression on a clip's source or key; one group at a time is left out of train and tested.
        label: dotted path into a clip's description that holds its label, for instance "truth.material".
        encoder: which encoder; of modality audio.
        seconds: length of a view.
        views: views a clip, evenly spread over its length; 1 is the middle.
        seeds: how many seeds.
        batch_size: clips at a time.
        workers: decode processes.
        device: where encoders and probes run.
        autocast: whether the encoders run in bfloat16; the statistics and the probes stay as they are.
        cache: where features are looked up and kept.
        progress: called with (clips done, clips in all) of each pass; there are two a set of clips.

    Raises:
        UserError: the sets do not fit each other, clips have no labels, none has sound, or the encoder hears none.
    """
    if seeds < 1:
        raise UserError(f"seeds is {seeds}; at least 1 is needed, 5 for a comparison")
    sets = given_sets(shards, train, test, group)
    bundles = [Encoders.from_pretrained(encoders)]
    heard = bundles[0][encoder]
    if heard.modality != "audio":
        raise UserError(
            f"encoder '{encoder}' is of modality '{heard.modality}'; audio classification needs one of audio"
        )
    bundles += [Encoders.from_pretrained(encoders, random_init=True, seed=s) for s in range(seeds)]
    plain = Encoders({encoder: Build(STATISTICS.class_path, {"rate": heard.rate})})
    try:
        picture = Span(seconds, heard.rate)
    except ValueError as error:
        raise UserError(f"seconds={seconds}: {error}") from error
    made: list[list[FeatureTable]] = []
    for one in sets:
        tables: list[FeatureTable] = []
        # The statistics have a front end of their own, so they are a pass of their own; sound is cheap to decode.
        for some, precise in ((bundles, not autocast), ([plain], True)):
            tables += extract_all(
                some,
                one,
                encoder=encoder,
                picture=picture,
                views=views,
                batch_size=batch_size,
                workers=workers,
                device=device,
                autocast=not precise,
                cache=cache,
                progress=progress,
            )
        made.append([table if label is None else relabelled(table, label) for table in tables])
    joined = [join([one[number] for one in made]) for number in range(len(made[0]))]
    clips = arrange(joined[0], sizes=[len(one[0]) for one in made], group=group)
    models = {
        "pretrained": [joined[0].features] * seeds,
        "random_init": [table.features for table in joined[1:-1]],
        "mel_statistics": [joined[-1].features[..., :-1]] * seeds,
        "loudness": [joined[-1].features[..., -1:]] * seeds,
    }
    facts = file_facts(joined[0].metas)
    if facts is not None:
        models["file_facts"] = [facts] * seeds
    about = {name: value for name, value in joined[0].about.items() if name != "size"}  # no picture was looked at
    about["features"] = told_of(joined)
    return judge(models, clips, {"label": "label", **about}, device)


def judge(
    models: Mapping[str, Sequence[np.ndarray]], clips: Clips, about: Mapping[str, Any], device: torch.device | str
) -> AudioScores:
    """Fit and judge both probes of every model over seeds and folds.

    Args:
        models: name -> features float32 [N, V, D], one table a seed; "pretrained" and "random_init" among them.
        clips: labels and folds of the N clips.
        about: how the features were made.
        device: where the linear probes are fitted.
    """
    seeds, n, classes = len(models["pretrained"]), len(clips.keys), len(clips.classes)
    probes = {
        "linear": {name: Judged.empty(seeds, n) for name in models},
        "knn": {name: Judged.empty(seeds, n) for name in models if name not in LINEAR_ALONE},
    }
    hits, tested_in_all, neighbours = 0, 0, set()
    for seed in range(seeds):
        for number, fold in enumerate(clips.folds):
            part = drawn_part([clips.keys[i] for i in fold.train], clips.labels[fold.train], seed)
            rows, labels = fold.train[part], clips.labels[fold.train[part]]
            tested = clips.labels[fold.test]
            k = neighbours_for(labels)
            neighbours.add(k)
            for name, by_seed in models.items():
                seen, unseen = by_seed[seed][rows], by_seed[seed][fold.test]
                fitted = fit_chosen(seen, labels, classes, groups=clips.groups[rows], seed=seed, device=device)
                probes["linear"][name].put(seed, fold.test, fitted.probabilities(unseen), tested, number)
                if name in probes["knn"]:
                    votes = knn_scores(seen, labels, unseen, classes, k)
                    probes["knn"][name].put(seed, fold.test, votes[:, None], tested, number)
            hits += int((tested == np.bincount(labels, minlength=classes).argmax()).sum())
            tested_in_all += len(tested)
    beside = {
        probe: {name: _difference(judged, name, clips) for name in judged if name != "pretrained"}
        for probe, judged in probes.items()
    }
    return AudioScores(
        name="audio",
        about={
            "protocol": PROTOCOLS,
            **about,
            "clips": n,
            "test_clips": int(sum(len(fold.test) for fold in clips.folds)),
            "classes": list(clips.classes),
            "folds": len(clips.folds),
            "split": clips.how,
            "train_share": TRAIN_SHARE,
            "seeds": seeds,
            "neighbours": sorted(neighbours),
            "accuracy": "video accuracy: probabilities averaged over views; fractions",
        },
        models={
            p: {m: found.as_dict(clips.labels, clips.groups) for m, found in judged.items()}
            for p, judged in probes.items()
        },
        baselines={"chance": 1.0 / classes, "majority": hits / tested_in_all},
        differences={probe: others["random_init"] for probe, others in beside.items()},
        verdicts={probe: verdict(others["random_init"]) for probe, others in beside.items()},
        confusion=probes["linear"]["pretrained"].confusion(clips.labels, classes),
        beside=beside,
        per_clip=hits_of_clips(clips.keys, clips.groups, probes),
    )


def _difference(judged: Mapping[str, Judged], name: str, clips: Clips) -> Interval:
    ours, theirs = judged["pretrained"].video, judged[name].video
    tested = ~np.isnan(ours[0])
    return paired_difference(ours[:, tested], theirs[:, tested], clips.groups[tested])
