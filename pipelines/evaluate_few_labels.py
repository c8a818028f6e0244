"""`mmssl evaluate few_labels`: actions from 1 % and 10 % of the labels, by probe, fine-tuning and distillation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.few_labels import SHARES, FewLabels, FewLabelsScores
from mmssl.evaluation.supervised import Recipe
from mmssl.nn.encoders import evaluation_folder
from pipelines.evaluate import write_results
from pipelines.evaluate_finetune import augmentation, kept_bytes
from pipelines.print_scores import print_scores
from pipelines.shared import counting_bar, view_span


def few_labels(
    encoders: Path,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    group: str | None = None,
    out: Path | None = None,
    encoder: str = "video",
    shares: tuple[float, ...] = SHARES,
    start: str = "auto",
    seconds: float = 2.0,
    rate: float = 8.0,
    size: int = 96,
    views: int = 3,
    crops: int = 1,
    seeds: int = 5,
    steps: int = 200,
    student_steps: int = 400,
    temperature: float = 1.0,
    batch_size: int = 16,
    learning_rates: tuple[float, ...] = (3e-3, 1e-3),
    layer_decays: tuple[float, ...] = (1.0, 0.75),
    weight_decay: float = 0.05,
    smallest_crop: float = 0.7,
    mirror: bool = True,
    colour: float = 0.2,
    memory_gib: float = 2.0,
    workers: int = 2,
    bfloat16: bool | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Learn actions from few labels: linear probe, fine-tuning, and a student of unlabelled clips; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        shards: one set of clips, split by their field split (train, test), or by --group.
        train: shards of the train clips, with --test.
        test: shards of the test clips, with --train.
        group: regular expression on a clip's source or key; one group at a time is left out and tested.
        out: folder for results.json; beside the encoders unless given.
        encoder: which encoder of the bundle, of modality video or image.
        shares: of the labels, at least one a class; 0.01 is 1 %.
        start: where fine-tuning takes hold: the name of an exported head, level, pooled, or auto.
        seconds: length of a view.
        rate: frames a second.
        size: side of the crops that the encoder sees, in pixels.
        views: views a test clip, evenly spread.
        crops: crops a view, evenly spread along the longer side; square clips have one.
        seeds: shares of labels, starts of the head, random initialisations that the score is averaged over.
        steps: of fine-tuning.
        student_steps: of the student.
        temperature: of the teacher's and the student's probabilities while it learns.
        batch_size: clips a step.
        learning_rates: tried on a validation part of the labelled clips, each with each layer decay; at most 4 pairs.
        layer_decays: what the rate is multiplied by from a layer to the one before it; 1 leaves it alike.
        weight_decay: of matrices and kernels.
        smallest_crop: smallest side of a training crop, as a share of the shorter side.
        mirror: mirror half of the training views; off where left and right are what the classes are about.
        colour: how far brightness and colours of training views go, from 0.
        memory_gib: frames that may be kept in memory; a larger corpus is decoded again in every epoch.
        workers: decode processes.
        bfloat16: run in bfloat16; on a GPU unless given.
        device: cpu or cuda; the fastest there is unless given.
    """
    begin = time.perf_counter()
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    folder = out if out is not None else evaluation_folder(encoders) / "few_labels"
    recipe = Recipe(
        batch_size=batch_size,
        learning_rates=learning_rates,
        layer_decays=layer_decays,
        weight_decay=weight_decay,
        augmentation=augmentation(smallest_crop, mirror, colour),
    )
    console = Console()
    with counting_bar(console, "folds x seeds x rows") as bar:
        task = bar.add_task("few labels", total=None)
        scores: FewLabelsScores = EVALUATIONS["few_labels"](
            encoders,
            shards,
            train,
            test,
            group=group,
            encoder=encoder,
            picture=view_span(seconds, rate),
            size=size,
            views=views,
            crops=crops,
            seeds=seeds,
            how=FewLabels(shares, start, steps, student_steps, temperature, recipe),
            memory=kept_bytes(memory_gib),
            workers=workers,
            device=where,
            autocast=where.startswith("cuda") if bfloat16 is None else bfloat16,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    results: dict[str, Any] = scores.as_dict() | {
        "shards": shards,
        "train": train,
        "test": test,
        "encoders": str(encoders),
        "seconds_used": round(time.perf_counter() - begin, 2),
    }
    path = write_results(folder, results, scores.per_clip)
    print_scores(console, "Actions from few labels by", scores)
    console.print(f"{path}", soft_wrap=True)
    return results
