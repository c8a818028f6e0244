"""Checking shards: tar, index, descriptions and, on request, every clip decoded, in several processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmssl.data.decode.choose import DECODERS
from mmssl.data.shards.check_clip import Fault
from mmssl.data.shards.check_pool import Task, check_in_processes
from mmssl.data.shards.check_worker import CheckSettings, check_sample, decoder_of
from mmssl.data.shards.index import SampleEntry, index_path, read_index
from mmssl.data.shards.spec import expand_shards
from mmssl.data.shards.tar_headers import CutShort
from mmssl.data.shards.tar_headers import members as members_of
from mmssl.data.shards.walk import ReadAhead
from mmssl.data.storage import Shard, read_range, status
from mmssl.errors import UserError, nearest

END_MARK = 1024  # bytes of zeros with which a tar ends


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a shard; `key` is None where the shard as a whole is meant, `cause` is to count by."""

    shard: Shard
    key: str | None
    cause: str
    message: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"shard": str(self.shard), "key": self.key, "cause": self.cause, "message": self.message}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at, what is wrong with it, and what is odd without being wrong (`notes`)."""

    shards: int
    clips: int
    decoded: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def causes(self) -> dict[str, int]:
        """Number of problems by cause, the most frequent first."""
        return dict(Counter(problem.cause for problem in self.problems).most_common())

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "ok": self.ok,
            "shards": self.shards,
            "clips": self.clips,
            "decoded": self.decoded,
            "seconds": round(self.seconds, 3),
            "clips_per_second": round(self.clips / max(self.seconds, 1e-9), 2),
            "causes": self.causes,
            "problems": [problem.as_dict() for problem in self.problems],
            "notes": [note.as_dict() for note in self.notes],
        }


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """How far a check is: shards whose clips are all handed out, clips done, problems so far."""

    shards_done: int
    shards: int
    clips: int
    problems: int
    seconds: float


class _Findings:
    """Problems and notes with their place, so that the report has the order of the shards."""

    def __init__(self, paths: Sequence[Shard]) -> None:
        self.paths = paths
        self.shards_done = 0
        self.keys: dict[str, Shard] = {}
        self.built: dict[str, bool] = {}
        self.places: list[tuple[int, str]] = []  # shard number and key of each task
        self.rows: list[tuple[int, int, bool, Problem]] = []  # shard number, task number, note, problem

    def add(self, shard: int, task: int, key: str | None, fault: Fault) -> None:
        problem = Problem(self.paths[shard], key, fault.cause, fault.message)
        self.rows.append((shard, task, fault.note, problem))

    @property
    def problems(self) -> int:
        return sum(not note for _, _, note, _ in self.rows)

    def sorted(self, notes: bool) -> tuple[Problem, ...]:
        rows = [row for row in self.rows if row[2] is notes]
        return tuple(problem for _, _, _, problem in sorted(rows, key=lambda row: row[:2]))


def check_shards(
    spec: str | list[str],
    decode: bool = False,
    on_progress: Callable[[CheckProgress], None] | None = None,
    *,
    processes: int = 2,
    decoder: str = "pyav",
    stall_seconds: float = 60.0,
) -> CheckReport:
    """Read every shard through: tar headers against the index, descriptions, subtitles; with `decode` all clips.

    Args:
        spec: shard specification.
        decode: decode every clip plainly and by the stream's decoder, and compare.
        on_progress: told after every clip.
        processes: workers; 0 checks in this process, where a clip that crashes the decoder ends the check.
        decoder: the stream's decoder.
        stall_seconds: a clip that decodes no frame for so long is given up.

    Raises:
        UserError: no shards are named, one is missing, or a setting cannot be used.
    """
    if processes < 0 or not stall_seconds > 0:
        raise UserError(f"processes={processes}, stall_seconds={stall_seconds}: at least 0 and more than 0 are needed")
    if decoder not in DECODERS:
        raise UserError(f"no decoder '{decoder}' (there are {', '.join(DECODERS)}){nearest(decoder, DECODERS)}")
    begin = time.monotonic()
    paths = expand_shards(spec)
    findings = _Findings(paths)
    local = [path for path in paths if isinstance(path, Path)]
    built = frozenset(str(path.parent) for path in local if path.with_name("build.json").exists())
    settings = CheckSettings(decode, decoder, built)
    tasks = _tasks(paths, findings, settings)
    if processes:
        results = check_in_processes(tasks, settings, processes, stall_seconds)
    else:
        here = decoder_of(settings)
        results = ((number, check_sample(shard, entry, settings, here)) for number, shard, entry in tasks)
    clips = 0
    for number, faults in results:
        clips += 1
        shard, key = findings.places[number]
        for fault in faults:
            findings.add(shard, number, key, fault)
        if on_progress is not None:
            seconds = time.monotonic() - begin
            on_progress(CheckProgress(findings.shards_done, len(paths), clips, findings.problems, seconds))
    return CheckReport(
        shards=len(paths),
        clips=clips,
        decoded=clips if decode else 0,
        problems=findings.sorted(notes=False),
        notes=findings.sorted(notes=True),
        seconds=time.monotonic() - begin,
    )


def _tasks(paths: Sequence[Shard], findings: _Findings, settings: CheckSettings) -> Iterator[Task]:
    """The samples of all shards, each shard looked at as a whole when its turn comes."""
    for shard, path in enumerate(paths):
        before = len(findings.places) - 1  # faults of the shard come before those of its clips
        built = isinstance(path, Path) and str(path.parent) in settings.built
        try:
            index = read_index(path, store=False)
        except UserError as error:
            findings.add(shard, before, None, Fault("shard", str(error)))
            findings.shards_done = shard + 1
            continue
        for fault in check_tar(path, index.samples):
            findings.add(shard, before, None, fault)
        if built and not index_path(path).exists():  # foreign tars need none
            fault = Fault("index", "no index beside it; it is made when the shard is next read")
            findings.add(shard, before, None, fault)
        if index.without_media:
            message = f"{index.without_media} samples hold no video and are left out"
            findings.add(shard, before, None, Fault("missing member", message, note=not built))
        left = len(index.samples)
        for entry in index.samples:
            left -= 1
            number = len(findings.places)
            findings.places.append((shard, entry.key))
            if entry.key in findings.keys:
                fault = Fault("key", f"the key is also in '{findings.keys[entry.key].name}'")
                findings.add(shard, number, entry.key, fault)
            findings.keys[entry.key] = path
            if not left:  # said with its last clip, whose result may come before another task is asked for
                findings.shards_done = shard + 1
            yield number, path, entry
        findings.shards_done = shard + 1


def check_tar(path: Shard, samples: list[SampleEntry]) -> list[Fault]:
    """Compare the headers of the tar with its index, and see that it ends as a tar does."""
    faults = []
    expected = {f"{entry.key}.{name}": place for entry in samples for name, place in entry.members.items()}
    size, _ = status(path)
    try:
        with ReadAhead(path, size) as read:
            for member in members_of(read, size, str(path)):
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")  # an index has extensions in lower case
                name = f"{folder}/{stem}.{extension.lower()}" if folder else f"{stem}.{extension.lower()}"
                place = expected.pop(name, None)
                if place is not None and place != (member.at, member.size):
                    faults.append(Fault("index", f"the index has '{member.name}' at another place"))
    except CutShort as cut:
        faults.append(Fault("tar", f"the tar cannot be read through: it is cut short within '{cut.name}'"))
    faults += [Fault("missing member", f"the index has '{name}', the tar has not") for name in expected]
    whole = not any(fault.cause == "tar" for fault in faults)
    if whole and (size < END_MARK or read_range(path, size - END_MARK, END_MARK).strip(b"\0")):
        faults.append(Fault("tar", "the tar has no end mark: it was cut short, or is still written"))
    return faults
