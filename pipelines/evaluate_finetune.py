"""`mmssl evaluate finetune`: an encoder trained on labelled clips, beside the same one trained from scratch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl.errors import UserError
from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.crops import Augmentation
from mmssl.evaluation.finetune import FinetuneScores
from mmssl.evaluation.supervised import Recipe
from mmssl.nn.encoders import evaluation_folder
from pipelines.evaluate import write_results
from pipelines.print_scores import print_scores
from pipelines.shared import counting_bar, view_span


def finetune(
    encoders: Path,
    shards: str | None = None,
    train: str | None = None,
    test: str | None = None,
    group: str | None = None,
    out: Path | None = None,
    encoder: str = "video",
    seconds: float = 2.0,
    rate: float = 8.0,
    size: int = 96,
    views: int = 10,
    crops: int = 3,
    seeds: int = 5,
    epochs: int = 30,
    batch_size: int = 16,
    learning_rates: tuple[float, ...] = (3e-3, 1e-3),
    layer_decays: tuple[float, ...] = (1.0, 0.75),
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    label_smoothing: float = 0.0,
    smallest_crop: float = 0.7,
    mirror: bool = True,
    colour: float = 0.2,
    memory_gib: float = 2.0,
    workers: int = 2,
    bfloat16: bool | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Fine-tune an encoder and a linear head on labelled clips; writes results.json.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        shards: one set of clips, split by their field split (train, test), or by --group.
        train: shards of the train clips, with --test.
        test: shards of the test clips, with --train.
        group: regular expression on a clip's source or key; one group at a time is left out and tested.
        out: folder for results.json; beside the encoders unless given.
        encoder: which encoder of the bundle, of modality video or image.
        seconds: length of a view.
        rate: frames a second.
        size: side of the crops that the encoder sees, in pixels.
        views: views a test clip, evenly spread.
        crops: crops a view, evenly spread along the longer side; square clips have one.
        seeds: train parts, starts of the head, random initialisations that the score is averaged over.
        epochs: passes over the train clips.
        batch_size: clips a step.
        learning_rates: tried on a validation part of train, each with each layer decay; at most 4 pairs.
        layer_decays: what the rate is multiplied by from a layer to the one before it; 1 leaves it alike.
        weight_decay: of matrices and kernels.
        warmup: share of the steps in which the rate rises.
        label_smoothing: share of the target spread over all classes.
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
    folder = out if out is not None else evaluation_folder(encoders) / "finetune"
    recipe = Recipe(
        epochs=epochs,
        batch_size=batch_size,
        learning_rates=learning_rates,
        layer_decays=layer_decays,
        weight_decay=weight_decay,
        warmup=warmup,
        label_smoothing=label_smoothing,
        augmentation=augmentation(smallest_crop, mirror, colour),
    )
    console = Console()
    with counting_bar(console, "trainings") as bar:
        task = bar.add_task("fine-tuning", total=None)
        scores: FinetuneScores = EVALUATIONS["finetune"](
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
            recipe=recipe,
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
    print_scores(console, "Actions by fine-tuning", scores)
    console.print(f"{path}", soft_wrap=True)
    return results


def augmentation(smallest_crop: float, mirror: bool, colour: float) -> Augmentation:
    """How training views are changed.

    Raises:
        UserError: a number out of range.
    """
    try:
        return Augmentation(smallest_crop, mirror, colour)
    except ValueError as error:
        raise UserError(f"smallest_crop={smallest_crop} and colour={colour}: {error}") from error


def kept_bytes(memory_gib: float) -> int:
    """Bytes of frames that may be kept.

    Raises:
        UserError: below 0.
    """
    if not memory_gib >= 0:
        raise UserError(f"memory_gib is {memory_gib}; give 0 to decode again in every epoch, or more")
    return int(memory_gib * 2**30)
