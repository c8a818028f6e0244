"""The sentences of an encoded clip: its own cues and those of its context, on its clock."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, TypeGuard

from mmssl.clip import EncodedClip, Sentence
from mmssl.data.subtitles import LONGEST_TEXT, decode_text, read_subtitles
from mmssl.errors import UserError

CONTEXT_SECONDS = 30.0  # sentences further from the clip than this are left out
TOUCHING = 0.05  # seconds: times of a cue and of its row in the context are rounded


def sentences_of(clip: EncodedClip) -> tuple[Sentence, ...]:
    """The clip's cues and the ``context`` of its description, sorted by time, each once; see `read_sentences`."""
    return read_sentences(clip)[0]


def read_sentences(clip: EncodedClip) -> tuple[tuple[Sentence, ...], dict[str, int]]:
    """The sentences within 30 s of a clip, sorted by time, and what was left out, counted by cause.

    Sentences come from the clip's subtitles (or a caption, which is one sentence over the whole clip) and from the
    ``context`` of its description, whose rows are ``[start, end, text]`` or ``{"start": seconds, "end": seconds,
    "text": str}``. A cue that both have counts once, with the times of the context: the subtitles of built shards are
    cut to the clip, the context is not. Subtitles that cannot be read lose the text and never the clip.

    The causes begin with ``"subtitles: "``, those of context rows with ``"context: "``.
    """
    left_out: Counter[str] = Counter()
    rows = _context(clip.meta.get("context"), left_out)
    by_text: dict[str, list[Sentence]] = defaultdict(list)
    for row in rows:
        by_text[row.text].append(row)
    own = []
    for cue in _own(clip, left_out):
        same = by_text[cue.text]
        twin = next((row for row in same if _touch(row, cue)), None)
        if twin is None:
            own.append(cue)
        else:
            same.remove(twin)  # a sentence said twice is there twice
    duration = clip.meta.get("duration")
    until = float(duration) if isinstance(duration, int | float) and math.isfinite(duration) else math.inf
    near = []
    for sentence in [*rows, *own]:
        if sentence.end < -CONTEXT_SECONDS or sentence.start > until + CONTEXT_SECONDS:
            left_out["subtitles: more than 30 s away"] += 1
        else:
            near.append(sentence)
    return tuple(sorted(near, key=lambda s: (s.start, s.end, s.text))), dict(left_out)


def _own(clip: EncodedClip, left_out: Counter[str]) -> list[Sentence]:
    if clip.caption:
        return _caption(clip, left_out)
    if not clip.subtitles:
        return []
    try:
        subtitles = read_subtitles(clip.subtitles)
    except UserError:
        left_out["subtitles: unreadable"] += 1
        return []
    left_out.update({f"subtitles: {cause}": count for cause, count in subtitles.dropped.items()})
    return [Sentence(cue.text, cue.start, cue.end) for cue in subtitles.cues]


def _caption(clip: EncodedClip, left_out: Counter[str]) -> list[Sentence]:
    text, duration = decode_text(clip.caption)[0], clip.meta.get("duration")
    said = " ".join((text or "").split())
    if text is None:
        left_out["subtitles: unreadable"] += 1
    elif len(said) > LONGEST_TEXT:
        left_out["subtitles: text too long"] += 1
    elif said:
        return [Sentence(said, 0.0, float(duration) if _is_time(duration) else 0.0)]
    return []


def _context(rows: Any, left_out: Counter[str]) -> list[Sentence]:
    """The rows that are sentences with times; foreign descriptions may hold anything under that name."""
    found = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, Mapping):
            start, end, text = row.get("start"), row.get("end"), row.get("text")
        elif isinstance(row, list) and len(row) == 3:
            start, end, text = row
        else:
            left_out["context: malformed"] += 1
            continue
        if not isinstance(text, str) or not text.strip() or not (_is_time(start) and _is_time(end)) or start > end:
            left_out["context: malformed"] += 1
        elif len(text) > LONGEST_TEXT:
            left_out["context: text too long"] += 1
        else:
            found.append(Sentence(text, float(start), float(end)))
    return found


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _touch(a: Sentence, b: Sentence) -> bool:
    return a.start <= b.end + TOUCHING and b.start <= a.end + TOUCHING
