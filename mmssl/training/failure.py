"""A loss or gradient that is not a finite number: which tasks, which clips, kept for replay."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.errors import UserError
from mmssl.training.files import write_whole
from mmssl.training.ranks import gather_objects


def save_failed_step(
    run: Path,
    step: int,
    batches: Sequence[Batch],
    losses: Mapping[str, torch.Tensor],
    norms: Mapping[str, torch.Tensor],
    truths: Mapping[str, tuple[str, ...]] | None = None,
) -> UserError:
    """Write ``nan_step_{step}.json`` (rank 0) and return the error to raise; all ranks must call it.

    The file names the tasks and the parts of the model concerned, every task's loss, and the clips of each rank
    (key, source, seed of the draws) in the order of the batch, so that the step can be made again; with `truths` also
    which truth the tasks were given, which replay must read with the clips.
    """
    mine: dict[str, Any] = {
        "losses": {name: float(value) for name, value in losses.items()},
        "gradients": {name: float(value) for name, value in norms.items()},
        "clips": [
            {"key": key, "source": source, "seed": seed}
            for batch in batches
            for key, source, seed in zip(batch.keys, batch.sources, batch.seeds.tolist(), strict=True)
        ],
    }
    ranks = gather_objects(mine)

    def wrong(what: str) -> list[str]:
        return sorted({name for found in ranks for name, value in found[what].items() if not math.isfinite(value)})

    tasks, parts = wrong("losses"), wrong("gradients")
    path = run / f"nan_step_{step}.json"
    if distributed.is_main():
        for found in ranks:  # JSON knows no NaN: as text, so that inf and nan stay apart
            for what in ("losses", "gradients"):
                found[what] = {n: v if math.isfinite(v) else str(v) for n, v in found[what].items()}
        content = {"step": step, "tasks": tasks, "parts": parts, "ranks": ranks}
        if truths:
            content["truth"] = {name: list(names) for name, names in truths.items()}
        write_whole(path, json.dumps(content, indent=2))
    if tasks:
        what = f"the loss of {', '.join(tasks)} is not a finite number"
    else:
        what = f"the gradient of {', '.join(parts)} is not a finite number"
    return UserError(
        f"step {step}: {what}; the clips of that batch are in {path}. The last checkpoint is good: lower optimizer.lr, "
        "set train.clip_norm or use train.precision fp32, and --resume"
    )
