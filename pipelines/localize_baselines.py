"""`mmssl localize baselines`: what maps without any learning score on a file of boxes; no video is needed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmssl.localization.annotation_baselines import annotation_baselines
from mmssl.localization.annotations import Kind, read_annotations
from mmssl.training.environment import versions
from pipelines.evaluate import write_results
from pipelines.shared import make_folder

SAID = {"oracle": "oracle*", "true_boxes": "true boxes as a map"}


def run(
    annotations: Path, out: Path = Path("baselines"), kind: Kind | None = None, strict: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Centre disc, whole frame, random pixels and the best possible map on a released file of boxes.

    Args:
        annotations: VGG-SS's JSON file, or Flickr-SoundNet's folder of XML files.
        out: folder for results.json.
        kind: vggss (union of the boxes) or flickr (consensus of the annotators); told from the path unless given.
        strict: refuse boxes that reach out of the picture or have no area; otherwise they are cut to it and told of.
        seed: of the random maps.
    """
    begin = time.perf_counter()
    read = read_annotations(annotations, kind, strict)
    make_folder(out)
    console = Console()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        bar = progress.add_task("clips", total=len(read.clips))
        results = annotation_baselines(read, seed, lambda done, _: progress.update(bar, completed=done))
    results |= {"seconds_used": round(time.perf_counter() - begin, 2), "versions": versions()}
    path = write_results(out, results)
    print_baselines(console, results)
    console.print(f"{path}", soft_wrap=True, markup=False)
    return results


def print_baselines(console: Console, results: dict[str, Any]) -> None:
    """The table of `annotation_baselines`, in per cent, with what it was measured on."""
    told = results["annotations"]
    console.print(
        f"{told['file']}: {results['clips']:,} clips, {results['boxes']:,} boxes, {results['truth']}\n"
        f"sha256 {told['sha256']}",
        markup=False,
        soft_wrap=True,
    )
    table = Table(title=f"Maps without learning, {results['protocol']}")
    table.add_column("", no_wrap=True)
    for name in ("peak in box", "cIoU@0.5", "AUC", "IoU"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in results["rows"].items():
        cells = (f"{100 * row[k]:.1f}" for k in ("peak_in_box", "ciou", "auc", "iou_fixed"))
        table.add_row(SAID.get(name, name.replace("_", " ")), *cells)
    console.print(table)
    pixels, areas = (results["ceiling"][name] for name in ("of_pixels", "of_areas"))
    console.print(
        "* the true boxes first, then by the distance from the centre: the best that a map without equal values can "
        f"reach under the median cut. In closed form {100 * pixels['ciou']:.1f} / {100 * pixels['auc']:.1f} of boxes "
        f"cut to whole pixels, as the published code does, {100 * areas['ciou']:.1f} / {100 * areas['auc']:.1f} of "
        "the boxes themselves.",
        markup=False,
        soft_wrap=True,
    )
    area = results["true_area"]
    console.print(
        f"The truth covers {100 * area['median']:.1f} % of the picture in the median clip; "
        f"{100 * area['below_a_quarter']:.1f} % of the clips have less than a quarter, and can never reach 0.5.",
        markup=False,
        soft_wrap=True,
    )
    if told["faults"]:
        shown = "; ".join(told["faults"][:2])
        said = f"{len(told['faults'])} faulty boxes, cut to the picture: {shown}, ..."
        console.print(said, markup=False, soft_wrap=True)
