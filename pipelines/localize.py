"""`mmssl localize`: maps of where a sound comes from, drawn over the picture, and scored where boxes are known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rich.box
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmssl.clip import EncodedClip
from mmssl.data.shards.index import expand_shards, read_index
from mmssl.errors import UserError
from mmssl.evaluation.per_clip import PerClip
from mmssl.localization.draw import Drawn, any_absent, any_boxes, clip_of_file, clips_of, draw_all
from mmssl.localization.evaluate import LocalizationScores, evaluate_localization
from mmssl.localization.film import Film
from mmssl.localization.maps import check_head
from mmssl.localization.overlay import heat_colours
from mmssl.localization.presence import evaluate_presence
from mmssl.localization.prior import check_prior
from mmssl.nn.encoders import Encoders
from mmssl.report.media import picture_size
from mmssl.report.viewed import ViewedClip
from mmssl.report.viewer import write_viewer
from pipelines.evaluate import write_results
from pipelines.shared import make_folder


def run(
    encoders: Path,
    out: Path,
    shards: str | None = None,
    video: Path | None = None,
    head: str = "av_localization",
    rate: float = 4.0,
    size: int = 96,
    limit: int | None = None,
    frames: int = 1,
    workers: int = 2,
    batch_size: int = 32,
    seed: int = 0,
    device: str | None = None,
    object_prior: Path | None = None,
) -> dict[str, Any]:
    """Sound maps of shards or a video file: a page to look at them, PNG, mp4 with sound, npz; scores where boxes are.

    Args:
        encoders: run folder of `mmssl pretrain`, or its encoders folder.
        out: folder for index.html (the page), {key}.png, {key}.mp4, {key}.npz, media/ and results.json.
        shards: shards whose clips are drawn.
        video: a video file instead of shards, of any length.
        head: name of the task whose exported head gives the maps.
        rate: maps a second.
        size: height and width of what the model sees.
        limit: draw so many clips at most; the scores are over all.
        frames: frames judged a clip; 1 is the middle.
        workers: decode processes of the scoring.
        batch_size: clips at a time.
        seed: of the random maps and of whose sound is the wrong one.
        device: cpu or cuda; the fastest there is unless given.
        object_prior: a run or encoders folder whose image encoder gives a map of objects that hears nothing; it is
            scored alone and mixed into the model's map, in rows of their own.
    """
    begin = time.perf_counter()
    if (shards is None) == (video is None):
        raise UserError("give either --shards or --video")
    if rate <= 0 or size < 16 or frames < 1:
        raise UserError(f"rate={rate}, size={size}, frames={frames}: rate > 0, size >= 16 and frames >= 1 are needed")
    bundle, matcher = Encoders.from_pretrained(encoders), Encoders.load_head(encoders, head)
    check_head(bundle, matcher)
    on = device or ("cuda" if torch.cuda.is_available() else "cpu")
    clips: Iterator[EncodedClip | Film]
    if shards is not None:
        clips, total = clips_of(shards), sum(len(read_index(path)) for path in expand_shards(shards))
        scored = any_boxes(shards)
    else:
        assert video is not None
        films: list[EncodedClip | Film] = [clip_of_file(video)]
        clips, total, scored = iter(films), 1, False
    prior = _prior(object_prior, scored)
    make_folder(out)
    console = Console()
    drawn: list[Drawn] = []
    failed: list[tuple[str, str]] = []
    results: dict[str, Any] = {}
    per_clip: PerClip | None = None
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        bar = progress.add_task("drawn", total=total if limit is None else min(limit, total), visible=video is None)
        shares = _Shares(progress) if video is not None else lambda *_: None
        for one in draw_all(
            bundle, matcher, clips, out, limit=limit, rate=rate, size=size, device=on, watch=True, progress=shares
        ):
            if isinstance(one, Drawn):
                drawn.append(one)
            else:
                failed.append(one)
            progress.advance(bar)
        if scored and shards is not None:
            bar = progress.add_task("scored", total=None)
            scores = evaluate_localization(
                bundle,
                matcher,
                shards,
                size=size,
                frames=frames,
                batch_size=batch_size,
                workers=workers,
                device=on,
                seed=seed,
                prior=prior,
                progress=lambda done, whole: progress.update(bar, completed=done, total=whole),
            )
            results, per_clip = scores.as_dict(), per_frame(scores)
        if scored and shards is not None and any_absent(shards):
            results["presence"] = evaluate_presence(
                bundle, matcher, shards, size=size, batch_size=batch_size, workers=workers, device=on
            ).as_dict()
    if not drawn:
        causes = "; ".join(f"'{key}': {cause}" for key, cause in failed[:3]) or "no clip has sound"
        raise UserError(f"nothing could be drawn ({causes})")
    results |= {
        "head": head,
        "encoders": str(encoders),
        "shards": shards,
        "video": None if video is None else str(video),
        "drawn": [
            {
                "key": d.key,
                "png": d.png.name,
                "mp4": d.mp4.name,
                "npz": f"{d.png.stem}.npz",
                "hit": d.hit,
                "faults": list(d.faults),
            }
            for d in drawn
        ],
        "not_drawn": [{"key": key, "cause": cause} for key, cause in failed],
        "seconds_used": round(time.perf_counter() - begin, 2),
    }
    page = write_page(out, drawn, head, encoders)
    path = write_results(out, results, per_clip)
    if scored:
        print_scores(console, results)
    console.print(f"{len(drawn)} overlays and {path.name} in {out}; to look at: {page}", soft_wrap=True, markup=False)
    for key, cause in failed[:5]:
        console.print(f"not drawn: '{key}': {cause}", soft_wrap=True, markup=False)
    for one in [one for one in drawn if one.faults][:5]:
        console.print(f"'{one.key}': {'; '.join(one.faults)}", soft_wrap=True, markup=False)
    return results


class _Shares:
    """Bars for the parts of the work on one film, in per cent."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def __call__(self, what: str, share: float) -> None:
        for name in [name for name in self._bars if name != what]:
            self._progress.update(self._bars[name], completed=100)  # what follows has begun
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=100)
        self._progress.update(self._bars[what], completed=round(100 * share))


def write_page(out: Path, drawn: Sequence[Drawn], head: str, encoders: Path) -> Path:
    """Write index.html, which plays the drawn clips with their maps."""
    clips = []
    for one in drawn:
        seen = one.watched
        assert seen is not None  # drawn with watch=True
        known = [text for text in (one.label, one.kind if one.kind != one.label else None) if text]
        links = {"npz": seen.npz.name, "mp4": one.mp4.name, "png": one.png.name}
        clips.append(
            ViewedClip(
                key=one.key,
                media=f"{seen.media.parent.name}/{seen.media.name}",
                size=picture_size(one.png.read_bytes()),
                duration=seen.duration,
                times=seen.times,
                heat=seen.heat,
                range=seen.range,
                area=seen.area,
                confidence=seen.confidence,
                peaks=seen.peaks,
                frames=seen.frames,
                wave=seen.wave,
                boxes=seen.boxes,
                about=", ".join(known),
                notes=seen.notes,
                hit=None if one.hit is None else one.hit > 0.5,
                links=links,
            )
        )
    said = f"Maps of the head {head} of {encoders.name or encoders}, normalised over each clip."
    return write_viewer(out, clips, heat_colours(), "Where does the sound come from?", said)


def per_frame(scores: LocalizationScores) -> PerClip:
    """Peak in box of each judged frame, for comparisons of runs; a clip's frames are resampled together."""
    seen: dict[str, int] = {}
    keys = []
    for key in scores.keys:
        seen[key] = seen.get(key, -1) + 1
        keys.append(f"{key}#{seen[key]}")
    return PerClip(tuple(keys), scores.keys, {row: values[None] for row, values in scores.peak.items()})


def _prior(folder: Path | None, scored: bool) -> Encoders | None:
    """The bundle of an object prior, refused before anything is drawn where it cannot serve."""
    if folder is None:
        return None
    if not scored:
        raise UserError("--object-prior adds rows to the scores, and nothing is scored without shards that have boxes")
    prior = Encoders.from_pretrained(folder)
    check_prior(prior)
    return prior


def print_scores(console: Console, results: dict[str, Any]) -> None:
    """The table of `evaluate_localization`, in per cent, with 95 % intervals."""
    table = Table(
        title=f"Sound localization, {results['protocol']}: {results['n']} frames of {results['clips']} clips",
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    for name in ("peak in box", "AP in box", "cIoU", "AUC", "AP", "IoU", "model minus"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in results["rows"].items():
        if name == "ceiling":
            continue
        minus = results["model_minus"].get(name)
        if row is None:
            table.add_row(name.replace("_", " "), "no other sound")
            continue
        table.add_row(
            name.replace("_", " "),
            f"{100 * row['peak_in_box']:.1f} {_interval(row['interval']['peak_in_box'])}",
            *(f"{100 * row[k]:.1f}" for k in ("ap_peak", "ciou", "auc", "ap_ciou", "iou_fixed")),
            "" if minus is None else f"{100 * minus['mean']:+.1f} {_interval(minus)}",
        )
    top = results["rows"]["ceiling"]
    table.add_row("ceiling*", "100.0", "", f"{100 * top['ciou']:.1f}", f"{100 * top['auc']:.1f}", "", "", "")
    console.print(table)
    told = results["annotations"]
    files = [f"{one['file']} (sha256 {one['sha256']})" for one in told["files"]]
    boxes = ", ".join(files) or f"sha256 of the boxes {told['boxes_sha256']}"
    left = ", ".join(f"{n} {cause}" for cause, n in results["left_out"].items())
    console.print("* the best that a mask of half the picture can reach, which cIoU and AUC always cut", markup=False)
    console.print(f"judged: {results['judged']}{'; left out: ' + left if left else ''}", markup=False, soft_wrap=True)
    console.print(f"truth: {results['truth']}; {boxes}", markup=False, soft_wrap=True)
    if "presence" in results:
        print_presence(console, results["presence"])


def print_presence(console: Console, found: dict[str, Any]) -> None:
    """The table of `evaluate_presence`: how far each score tells seen sources from the others."""
    counts = ", ".join(f"{n} {group.replace('_', ' ')}" for group, n in found["clips"].items())
    table = Table(title=f"Is the source in sight, {found['protocol']}: {counts}")
    table.add_column("AUC of the score [95 %]", no_wrap=True)
    for name in ("off screen", "silent", "either"):
        table.add_column(f"seen against {name}", justify="right", no_wrap=True)
    for name, row in found["rows"].items():
        cells = [row[against] for against in ("off_screen", "silent", "either")]
        told = ["" if cell is None else f"{100 * cell['auc']:.1f} {_interval(cell)}" for cell in cells]
        table.add_row(name.replace("_", " "), *told)
    console.print(table)
    console.print(
        f"right finds by the map's maximum: average precision {100 * found['average_precision']:.1f} "
        f"({100 * found['average_precision_of_equal_scores']:.1f} if all clips had one score), "
        f"best F1 {100 * found['best_f1']:.1f}",
        markup=False,
        soft_wrap=True,
    )


def _interval(found: dict[str, float]) -> str:
    return f"[{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
