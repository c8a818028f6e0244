"""`mmssl shards build|info|check`: videos and subtitles to shards, what lies in shards, whether they are whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mmssl.data.corpora.listing import AUTO
from mmssl.data.shards.builder import BuildProgress, BuildSummary
from mmssl.data.shards.builder import build as build_shards
from mmssl.data.shards.check import CheckProgress, CheckReport, check_shards
from mmssl.data.shards.info import describe_shards
from mmssl.data.shards.settings import BuildSettings
from mmssl.errors import UserError

_SHOWN_LABELS = 20
_SHOWN_PROBLEMS = 20


def build(
    source: Path,
    out: Path,
    clip_seconds: float | None = 10.0,
    min_seconds: float = 1.0,
    stride: float | None = None,
    short_side: int = 128,
    size: tuple[int, int] | None = None,
    fit: Literal["short_side", "crop", "stretch"] = "short_side",
    frame_rate: float | None = 12.5,
    even_rate: bool = True,
    gop: int = 12,
    crf: int = 23,
    preset: str = "veryfast",
    tune: str = "fastdecode",
    audio_rate: int = 16000,
    audio_bitrate: int = 48000,
    samples_per_shard: int = 256,
    prefix: str = "clips",
    labels: Literal["folder", "none"] = "folder",
    dense_truth: bool = False,
    corpus: str = AUTO,
    allow_missing: bool = False,
    subtitle_language: str | None = None,
    shuffle: bool = True,
    max_pixels: int = 36_000_000,
    max_hours: float = 8.0,
    processes: int = 2,
    limit: int | None = None,
    retry_failed: bool = False,
    stall_seconds: float = 600.0,
) -> None:
    """Build shards from videos, a manifest, Soundstage or a known data set; a second run makes what is missing.

    Args:
        source: folder of videos, manifest (.csv, .tsv, .jsonl, .parquet), Soundstage folder, or one video.
        out: folder for the shards.
        clip_seconds: length of a clip; null makes one clip of a whole file or manifest row.
        min_seconds: a shorter rest at the end of a file is left out.
        stride: seconds from the start of one clip to the next; clip_seconds unless given.
        short_side: short side of the picture in pixels; smaller pictures are not enlarged.
        size: height and width of all clips instead of short_side; needs fit crop or stretch.
        fit: how a picture becomes that size.
        frame_rate: constant frames a second; null keeps the frames of the source at their times.
        even_rate: instead of exactly `frame_rate`, the nearest whole share of the source's own constant rate (25 gives
            12.5, 30 gives 15, 24 and 60 give 12), so that clips show its frames in an even rhythm.
        gop: frames from one key frame to the next at most.
        crf: quality of H.264; lower is better and bigger.
        preset: preset of x264.
        tune: tune of x264.
        audio_rate: samples a second of the sound (mono).
        audio_bitrate: bits a second of the AAC sound.
        samples_per_shard: clips in a tar.
        prefix: name before the number of a tar, for clips without a split.
        labels: folder takes the name of a file's folder as its label.
        dense_truth: store the dense truth of a corpus that has it (Soundstage's truth/{key}.npz, or the column
            dense_truth of a manifest) for the tasks that need it.
        corpus: auto, or a known data set: ucf101, hmdb51, kinetics400, kinetics600, kinetics700, kth, ut-interaction,
            vggss, flickr-soundnet, ave; its labels, official folds, groups and boxes go into the clips' description.
        allow_missing: build a known data set although files that its lists name are missing.
        subtitle_language: language code to choose among subtitles, for instance en.
        shuffle: store the sources in a fixed pseudo-random order, so that a shard mixes folders.
        max_pixels: sources with larger pictures are refused.
        max_hours: longer sources are refused.
        processes: worker processes.
        limit: use only so many sources, for a trial.
        retry_failed: try the sources again that failed in an earlier run.
        stall_seconds: a source that yields nothing for so long is given up.
    """
    settings = BuildSettings(
        clip_seconds=clip_seconds,
        min_seconds=min_seconds,
        stride=stride,
        short_side=short_side,
        size=size,
        fit=fit,
        frame_rate=frame_rate,
        even_rate=even_rate,
        gop=gop,
        crf=crf,
        preset=preset,
        tune=tune,
        audio_rate=audio_rate,
        audio_bitrate=audio_bitrate,
        samples_per_shard=samples_per_shard,
        prefix=prefix,
        labels=labels,
        dense_truth=dense_truth,
        corpus=corpus,
        allow_missing=allow_missing,
        subtitle_language=subtitle_language,
        shuffle=shuffle,
        max_pixels=max_pixels,
        max_hours=max_hours,
        processes=processes,
        limit=limit,
        retry_failed=retry_failed,
        stall_seconds=stall_seconds,
    )
    columns = (
        TextColumn("shards build"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("sources"),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("build", total=None, state="")

        def show(progress: BuildProgress) -> None:
            rate = progress.clips / max(progress.seconds, 1e-9)
            state = f"{progress.clips} clips  {rate:.1f} clips/s"
            if progress.failures:
                state += f"  {progress.failures} failed"
            bar.update(task, total=progress.sources, completed=progress.sources_done, state=state)

        summary = build_shards(source, out, settings, show)
    _print_summary(summary)


def _print_summary(summary: BuildSummary) -> None:
    rate = summary.made / max(summary.seconds, 1e-9)
    print(
        f"{summary.folder}: {summary.clips} clips ({summary.hours:.2f} h) in {len(summary.shards)} shards; "
        f"{summary.with_sound} with sound, {summary.with_sentences} with sentences"
    )
    print(
        f"this run: {summary.made} clips in {summary.seconds:.0f} s ({rate:.1f} clips/s); {summary.sources} sources, "
        f"{summary.sources_present} done before"
    )
    if summary.rests:
        print(f"left out: {summary.rests} ends of files shorter than min_seconds")
    if summary.ignored:
        print("passed over: " + ", ".join(f"{count} {name}" for name, count in sorted(summary.ignored.items())))
    if summary.causes:
        causes = ", ".join(f"{count} {cause}" for cause, count in summary.causes.items())
        print(f"failures: {causes}; listed in {summary.folder / 'failures.jsonl'}")


def info(shards: str) -> None:
    """Print what lies in shards: clips, hours, labels, sizes, shares with sound and sentences.

    Args:
        shards: a tar, a range such as 'corpus/train-{000000..000003}.tar', a glob or a folder.
    """
    facts = describe_shards(shards)
    table = Table("what", "value", title=shards, title_justify="left")
    table.add_row("shards", f"{len(facts.shards)} ({facts.bytes / 1e6:.1f} MB)")
    table.add_row("clips", str(facts.clips))
    table.add_row("hours", f"{facts.hours:.3f}")
    if facts.seconds is not None:
        table.add_row("seconds a clip", "shortest {:.2f}, median {:.2f}, longest {:.2f}".format(*facts.seconds))
    table.add_row("with sound", _share(facts.sound_share))
    table.add_row("with sentences", f"{_share(facts.sentence_share)}, {facts.sentences} sentences")
    if facts.without_media:
        table.add_row("without video", f"{facts.without_media} samples, left out")
    table.add_row("labels", f"{len(facts.labels)}, {facts.unlabelled} clips without")
    for label, count in list(facts.labels.items())[:_SHOWN_LABELS]:
        table.add_row(f"  {label}", str(count))
    if len(facts.labels) > _SHOWN_LABELS:
        table.add_row("  further labels", str(len(facts.labels) - _SHOWN_LABELS))
    Console(markup=False).print(table)


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.1f} %"


def check(
    shards: str,
    decode: bool = False,
    json: Path | None = None,
    processes: int = 2,
    decoder: str = "pyav",
    stall_seconds: float = 60.0,
) -> None:
    """Check that shards are whole; the exit code is 1 if something is wrong.

    Args:
        shards: a tar, a range such as 'corpus/train-{000000..000003}.tar', a glob or a folder.
        decode: decode every clip from beginning to end, and again as the stream does, and compare all with the json.
        json: file for the whole report.
        processes: worker processes.
        decoder: the stream's decoder that is compared with the plain reading.
        stall_seconds: a clip that decodes nothing for so long is given up.
    """
    columns = (
        TextColumn("shards check"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards"),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("check", total=None, state="")

        def show(progress: CheckProgress) -> None:
            rate = progress.clips / max(progress.seconds, 1e-9)
            state = f"{progress.clips} clips  {rate:.1f} clips/s"
            if progress.problems:
                state += f"  {progress.problems} problems"
            bar.update(task, total=progress.shards, completed=progress.shards_done, state=state)

        report = check_shards(shards, decode, show, processes=processes, decoder=decoder, stall_seconds=stall_seconds)
    if json is not None:
        _write_report(json, report)
    _print_check(report)
    if not report.ok:
        raise SystemExit(1)


def _write_report(path: Path, report: CheckReport) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"the report '{path}' cannot be written ({error.strerror}); give another --json") from None


def _print_check(report: CheckReport) -> None:
    for problems, left in ((report.problems, "problems"), (report.notes, "notes")):
        for problem in problems[:_SHOWN_PROBLEMS]:
            where = f"{problem.shard}{'' if problem.key is None else f' {problem.key}'}"
            print(f"{'note: ' if left == 'notes' else ''}{where}: {problem.message}")
        if len(problems) > _SHOWN_PROBLEMS:
            print(f"and {len(problems) - _SHOWN_PROBLEMS} more {left}")
    if report.problems:
        print("by cause: " + ", ".join(f"{count} {cause}" for cause, count in report.causes.items()))
    state = "whole" if report.ok else f"{len(report.problems)} problems"
    rate = report.clips / max(report.seconds, 1e-9)
    print(
        f"{report.shards} shards, {report.clips} clips, {report.decoded} decoded: {state} "
        f"({report.seconds:.1f} s, {rate:.1f} clips/s)"
    )
