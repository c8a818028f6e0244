"""`mmssl embed`: the features of clips in one file that numpy alone can read."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from rich.console import Console

from mmssl.errors import UserError
from mmssl.evaluation.feature_cache import open_cache
from mmssl.evaluation.features import extract
from mmssl.nn.encoders import Encoders, evaluation_folder
from pipelines.shared import counting_bar, view_span


def run(
    encoders: Path,
    out: Path,
    shards: str,
    features: Path | None = None,
    encoder: str = "video",
    seconds: float = 2.0,
    rate: float = 8.0,
    size: int = 96,
    views: int = 1,
    random_init: bool = False,
    seed: int = 0,
    workers: int = 2,
    batch_size: int = 64,
    device: str | None = None,
) -> None:
    """Write the features of all clips of the shards into one .npz without pickles (format mmssl-features-2).

    Args:
        encoders: run folder of `mmssl pretrain`, its encoders folder, or a YAML file that names classes of encoders.
        out: the file to write, ending in .npz.
        shards: a tar, a range such as 'corpus/train-{000000..000003}.tar', a glob or a folder.
        features: folder in which features are kept for the next time; evaluation/features beside the encoders unless
            given.
        encoder: which encoder of the bundle.
        seconds: length of a view.
        rate: frames a second.
        size: height and width of the frames.
        views: views a clip, evenly spread; 1 is the clip's middle.
        random_init: draw new weights, as the baseline of the evaluations does.
        seed: of the new weights.
        workers: decode processes.
        batch_size: clips at a time.
        device: cpu or cuda; the fastest there is unless given.
    """
    begin = time.perf_counter()
    if out.suffix != ".npz":
        raise UserError(f"'{out}' must end in .npz")
    console = Console()
    with counting_bar(console) as progress:
        bar = progress.add_task("features", total=None)
        table = extract(
            Encoders.from_pretrained(encoders, random_init=random_init, seed=seed),
            shards,
            encoder=encoder,
            picture=view_span(seconds, rate),
            size=size,
            views=views,
            batch_size=batch_size,
            workers=workers,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            cache=open_cache(evaluation_folder(encoders) / "features", features),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.save(out)
    except OSError as error:
        raise UserError(f"features cannot be written to '{out}' ({error.strerror})") from error
    clips, made, width = table.features.shape
    console.print(
        f"{clips} clips, {made} view(s), {width} dimensions in {time.perf_counter() - begin:.1f} s; "
        f"{table.about['clips_from_cache']} clips came from the cache",
        highlight=False,
    )
    if left_out := table.about["left_out"]:
        key, cause = next(iter(left_out.items()))
        console.print(f"{len(left_out)} clips left out, for instance '{key}': {cause}", markup=False)
    console.print(f"{out}", soft_wrap=True)
