"""Building shards: from a folder or manifest of videos to WebDataset tars of short clips, resumable.

Sources go to worker processes; their clips are stored in the order of the sources, whatever worker is faster, so
that the same corpus and settings give the same samples in the same shards.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mmssl.data.corpora.listing import list_corpus
from mmssl.data.corpora.source import Segment, Source, digest
from mmssl.data.shards.build_pool import BuildPool
from mmssl.data.shards.clips import BuiltClip, Failure, SourceReport
from mmssl.data.shards.index import read_index
from mmssl.data.shards.settings import BuildSettings
from mmssl.data.shards.store import ShardStore
from mmssl.errors import UserError

LARGEST_BACKLOG = 256 << 20
_SHOWN_FAILURES = 3


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is; seconds are those of this run, media seconds those of its clips."""

    sources: int
    sources_done: int
    clips: int
    failures: int
    media_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class BuildSummary:
    """What a build made, and what the folder holds now.

    `made` counts the clips of this run, `clips` and `hours` what all shards hold; `causes` counts the failures of
    `failures.jsonl`; `rests` are ends of files shorter than `min_seconds`; `ignored` counts files by suffix.
    """

    folder: Path
    shards: tuple[Path, ...]
    sources: int
    sources_present: int
    made: int
    clips: int
    hours: float
    with_sound: int
    with_sentences: int
    rests: int
    causes: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def build(
    source: Path,
    out: str | Path,
    settings: BuildSettings | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> BuildSummary:
    """Cut, encode and store the videos of a corpus as shards in the folder `out`.

    A second run with the same settings makes only what is missing; sources that failed are tried again if their
    file changed. What fails is listed in `failures.jsonl` and never stops the rest.

    Raises:
        UserError: the corpus lists nothing or nothing of it can be decoded; the folder holds another build.
    """
    settings = settings or BuildSettings()
    source, out = Path(source), Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"output '{out}' is a file; name a folder")
    listing = list_corpus(source, settings.labels, settings.subtitle_language, settings.corpus, settings.allow_missing)
    sources = list(listing.sources)
    if settings.dense_truth:
        sources = with_dense_truth(sources, source)
    if settings.shuffle:
        sources.sort(key=lambda item: (digest(item.name), item.name))
    if settings.limit is not None:
        sources = sources[: settings.limit]
    store = ShardStore(out, source, settings.content(), settings.samples_per_shard, listing.record)
    run = _Run(sources, settings, store, on_progress)
    try:
        run.go()
    except BaseException:
        store.abandon()
        raise
    store.close()
    failures = [Failure(item.name, item.start, item.cause, item.message) for item in listing.unusable]
    failures += [Failure(**row) for line in store.settled.values() for row in line["failures"]]
    failures.sort(key=lambda failure: (failure.source, failure.start or 0.0))
    store.write_failures(failures)
    return _summary(store, run, listing.ignored, failures, source)


class _Run:
    """One run: which sources are left, what came of them, in which order it is stored."""

    def __init__(
        self,
        sources: list[Source],
        settings: BuildSettings,
        store: ShardStore,
        on_progress: Callable[[BuildProgress], None] | None,
    ) -> None:
        self.settings, self.store, self.on_progress = settings, store, on_progress
        self.total = len(sources)
        self.left = [item for item in sources if not self._settled(item)]
        self.made = 0
        self.failed = 0
        self.media_seconds = 0.0
        self.begin = time.monotonic()
        self._turn = 0  # index in `left` of the source whose clips may be stored
        self._clips: dict[int, deque[BuiltClip]] = {}
        self._ends: dict[int, SourceReport | Failure] = {}
        self._backlog = 0
        self._made_of: Counter[int] = Counter()

    def _settled(self, item: Source) -> bool:
        line = self.store.settled.get(item.name)
        if line is None:
            return False
        if any(row["start"] is None for row in line["failures"]):  # the source as a whole failed
            return not self.settings.retry_failed and line["stamp"] == stamp_of(item)
        return True

    def go(self) -> None:
        """Work through the sources."""
        self._report()
        given = 0
        with BuildPool(self.settings) as pool:
            while self._turn < len(self.left):
                while pool.free and given < len(self.left) and self._may_give(given):
                    item = self.left[given]
                    pool.submit(given, item, frozenset(self.store.present.get(item.name, ())))
                    given += 1
                for task, content in pool.events():
                    if isinstance(content, BuiltClip):
                        self._clips.setdefault(task, deque()).append(content)
                        self._backlog += sum(map(len, content.members.values()))
                    else:
                        self._ends[task] = content
                self._store_in_turn()

    def _may_give(self, task: int) -> bool:
        """Whether memory allows to work ahead of the source whose turn it is."""
        return task == self._turn or self._backlog < LARGEST_BACKLOG

    def _store_in_turn(self) -> None:
        while self._turn < len(self.left):
            item = self.left[self._turn]
            clips = self._clips.get(self._turn, deque())
            while clips:
                clip = clips.popleft()
                self._backlog -= sum(map(len, clip.members.values()))
                self.store.add(item.name, prefix_of(clip, self.settings), clip)
                self.made += 1
                self._made_of[self._turn] += 1
                self.media_seconds += clip.duration
                self._report()
            end = self._ends.pop(self._turn, None)
            if end is None:
                return
            self._settle(item, end, self._made_of[self._turn])
            self._clips.pop(self._turn, None)
            self._turn += 1
            self._report()

    def _settle(self, item: Source, end: SourceReport | Failure, made: int) -> None:
        failures = [end] if isinstance(end, Failure) else list(end.failures)
        self.failed += len(failures)
        line: dict[str, Any] = {
            "stamp": stamp_of(item),
            "clips": made + len(self.store.present.get(item.name, ())),
            "rests": 0 if isinstance(end, Failure) else end.rests,
            "dropped_cues": {} if isinstance(end, Failure) else end.dropped_cues,
            "failures": [asdict(failure) for failure in failures],
        }
        self.store.settle(item.name, line)

    def _report(self) -> None:
        if self.on_progress is not None:
            done = self.total - len(self.left) + self._turn
            seconds = time.monotonic() - self.begin
            self.on_progress(BuildProgress(self.total, done, self.made, self.failed, self.media_seconds, seconds))


def with_dense_truth(sources: list[Source], corpus: Path) -> list[Source]:
    """The sources with their files of dense truth: those that the manifest names, else `truth/{key}.npz` beside it.

    Raises:
        UserError: none has one.
    """
    folder = (corpus if corpus.is_dir() else corpus.parent) / "truth"

    def found(item: Source, segment: Segment) -> Path | None:
        usual = folder / f"{segment.key or item.path.stem}.npz"
        return segment.dense if segment.dense is not None else usual if usual.is_file() else None

    given = [replace(i, segments=tuple(replace(s, dense=found(i, s)) for s in i.segments)) for i in sources]
    if not any(segment.dense for item in given for segment in item.segments):
        raise UserError(
            f"dense_truth is set, and there is none of '{corpus}': no file '{folder}/<key>.npz' and no column "
            "'dense_truth' in a manifest; render the corpus with dense_truth, or leave the setting out"
        )
    return given


def stamp_of(item: Source) -> list[int] | None:
    """Size and modification time of a source, to see whether a file that failed has changed."""
    try:
        status = item.path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def prefix_of(clip: BuiltClip, settings: BuildSettings) -> str:
    """The prefix of the shards that a clip goes to: its split, or that of the settings."""
    if clip.split is None:
        return settings.prefix
    return re.sub(r"[^0-9A-Za-z_-]+", "_", clip.split).strip("_-") or settings.prefix


def _summary(
    store: ShardStore, run: _Run, ignored: dict[str, int], failures: list[Failure], source: Path
) -> BuildSummary:
    shards = tuple(store.shards())
    samples = [sample for path in shards for sample in read_index(path).samples]
    causes = Counter(failure.cause for failure in failures)
    if not samples:
        (store.folder / "build.json").unlink(missing_ok=True)
        (store.folder / "progress.jsonl").unlink(missing_ok=True)
        shown = "; ".join(f"{f.source}: {f.cause} ({f.message})" for f in failures[:_SHOWN_FAILURES])
        raise UserError(
            f"empty corpus: no clip could be made of the {run.total} sources of '{source}' ({shown}); "
            f"all causes are in '{store.folder / 'failures.jsonl'}'"
        )
    return BuildSummary(
        folder=store.folder,
        shards=shards,
        sources=run.total,
        sources_present=run.total - len(run.left),
        made=run.made,
        clips=len(samples),
        hours=sum(sample.duration or 0.0 for sample in samples) / 3600,
        with_sound=sum(bool(sample.has_audio) for sample in samples),
        with_sentences=sum(bool(sample.n_sentences) for sample in samples),
        rests=sum(line.get("rests", 0) for line in store.settled.values()),
        causes=dict(causes.most_common()),
        ignored=ignored,
        seconds=time.monotonic() - run.begin,
    )
