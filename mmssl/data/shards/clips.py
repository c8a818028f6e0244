"""A finished clip: its members in the tar, and its description."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmssl.data.dense_truth import MEMBER as DENSE_TRUTH
from mmssl.data.subtitles import Cue, cut, write_vtt

CONTEXT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that became no clip (or lost a part): where, a short cause to count by, and the details."""

    source: str
    start: float | None
    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class BuiltClip:
    """One sample to store: `members` maps the extension to its bytes."""

    key: str
    split: str | None
    members: dict[str, bytes]
    duration: float
    has_audio: bool
    label: str | None
    n_sentences: int


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What became of a source: clips made, rests left out for being short, clips there already, failures."""

    clips: int = 0
    rests: int = 0
    present: int = 0
    failures: tuple[Failure, ...] = ()
    dropped_cues: dict[str, int] = field(default_factory=dict)


def assemble(
    key: str,
    split: str | None,
    media: bytes,
    table: bytes | None,
    cues: Sequence[Cue],
    start: float,
    duration: float,
    description: dict[str, Any],
    dense: bytes | None = None,
) -> BuiltClip:
    """Put a clip together: `{key}.mp4`, `.pkt` if it has a packet table, `.vtt` if a cue touches it, and `.json`.

    `cues` are on the source's clock, where the clip lies at [start, start + duration). A truth that is a file is
    taken into the description if it is JSON, else it becomes the member `{key}.truth.{suffix}`. Dense truth
    becomes `{key}.truth.npz`.
    """
    spoken = cut(cues, start, start + duration, clamp=True)
    spoken = tuple(cue for cue in spoken if cue.end > cue.start)
    around = cut(cues, start - CONTEXT_SECONDS, start + duration + CONTEXT_SECONDS)
    context = [[round(cue.start - CONTEXT_SECONDS, 3), round(cue.end - CONTEXT_SECONDS, 3), cue.text] for cue in around]
    meta = {"key": key, **description, "split": split, "n_sentences": len(spoken), "context": context}
    members = {"mp4": media}
    if table is not None:
        members["pkt"] = table
    if spoken:
        members["vtt"] = write_vtt(spoken).encode()
    if isinstance(meta["truth"], Path):
        meta["truth"], stored = _truth_file(meta["truth"])
        members.update(stored)
    if dense is not None:
        members[DENSE_TRUTH] = dense
    members["json"] = json.dumps(meta, ensure_ascii=False).encode()
    return BuiltClip(key, split, members, duration, meta["has_audio"], meta["label"], len(spoken))


def _truth_file(path: Path) -> tuple[Any, dict[str, bytes]]:
    data = path.read_bytes()
    if path.suffix.lower() == ".json":
        return json.loads(data), {}
    member = f"truth{path.suffix.lower()}"
    return {"member": member}, {member: data}
