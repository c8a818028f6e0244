"""`mmssl soundstage`: render the embedded corpus."""

from __future__ import annotations

import time
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl.data.soundstage import generate


def run(
    out: Path,
    clips: int = 100,
    seed: int = 0,
    preset: str = "demo",
    split: str = "train",
    processes: int = 2,
    dense_truth: bool = False,
) -> None:
    """Render a Soundstage corpus.

    Args:
        out: folder of the corpus; a second run renders only what is missing.
        clips: clips of the split.
        seed: seed of the corpus.
        preset: demo, moving_camera, quick or hard.
        split: train, val or test; splits never share a scene.
        processes: how many render at a time.
        dense_truth: write depth, normals, instances, flow and camera of every clip too.
    """
    began = time.monotonic()
    columns = (
        TextColumn("Soundstage"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} clips/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("render", total=clips, rate=0.0)

        def tell(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, rate=done / (time.monotonic() - began))

        summary = generate(out, clips, seed, preset, split, processes, dense_truth, tell)
    seconds = time.monotonic() - began
    print(
        f"{out}: {summary.rendered} clips rendered in {seconds:.1f} s ({summary.rendered / seconds:.1f} clips/s), "
        f"{summary.clips} in the corpus; next: mmssl shards build {out} SHARDS"
    )
