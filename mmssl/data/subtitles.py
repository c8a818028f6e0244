"""Subtitles: reading cues from any usual file or embedded stream, cutting them to a clip, writing WebVTT.

SubRip and WebVTT are split into cues here, because a malformed cue must be counted and left out, and not become
text of the cue before it; ASS/SSA, SAMI, MicroDVD, TTML and others go through pysubs2; YouTube's json3 and its
rolling captions (each cue repeats the line before) become one cue a line. Times are float seconds.

Bytes from strangers cost bounded time: files above `LARGEST` are refused, cues above `LONGEST_TEXT` are left out.
"""

from __future__ import annotations

import html
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path

import charset_normalizer
import pysubs2

from mmssl.errors import UserError

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa", ".json3", ".srv3.json", ".sub", ".smi", ".sami", ".ttml")
LARGEST = 8 << 20  # bytes: ten hours of captions timed word by word
LARGEST_OTHER = 1 << 20  # bytes, of formats that are rare and slow to parse
LONGEST_TEXT = 4000  # characters of a cue, its markup counted in
LATEST = 1e6  # seconds (eleven days)
_MOST_ROLLING = 8  # lines of a rolling caption on screen
_MOST_SAMPLED = 1 << 16  # bytes from which an encoding is told
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_CUE_LINE = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(?:\s+.*)?$")
_TAG = re.compile(r"</?[a-zA-Z0-9][^<>]*>|\{\\[^}]*\}")
_SPACE = re.compile(r"[^\S\n]+")
# What subtitles are written in, the likeliest first; among all of Python's encodings a rare one often seems to fit.
_ENCODINGS = (
    "cp1252 cp1250 iso8859_2 cp1251 koi8_r koi8_u cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874 cp932 euc_jp gb18030 "
    "big5 cp949 iso8859_15 iso8859_5 cp866"
).split()
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9]")  # ASS: the text is the outline of a shape
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Cue:
    """One sentence or line with its time, seconds; `text` has no tags and is never empty."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Subtitles:
    """Cues sorted by start; `dropped` counts the ones left out by cause."""

    cues: tuple[Cue, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    encoding: str = "utf-8"


def read_subtitles(source: Path | str | bytes) -> Subtitles:
    """Read a subtitle file, or its bytes.

    Raises:
        UserError: the file is missing, larger than `LARGEST`, is no text, or has no known subtitle format.
    """
    if isinstance(source, bytes):
        name, data = "subtitles", source
    else:
        name = f"subtitles '{source}'"
        try:
            with open(source, "rb") as file:
                data = file.read(LARGEST + 1)
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror})") from None
    if len(data) > LARGEST:
        raise UserError(f"{name}: larger than {LARGEST >> 20} MiB, which no captions of a video are; cut the file up")
    text, encoding = decode_text(data)
    if text is None:
        raise UserError(f"{name}: this is no text in a known encoding")
    dropped: Counter[str] = Counter()
    head = text.lstrip()[:2000]
    if not head:
        rows: list[tuple[float, float, str]] = []
    elif head.startswith("{") and '"events"' in text:
        rows = _json3(text, name)
    elif head.startswith("WEBVTT"):
        rows = _blocks(text, dropped, blank_ends=True)
    elif "[Script Info]" in head or "[Events]" in text or "-->" not in text:
        if "[Events]" not in text and len(data) > LARGEST_OTHER:
            raise UserError(f"{name}: larger than {LARGEST_OTHER >> 20} MiB and neither SubRip, WebVTT, ASS nor json3")
        rows = _by_pysubs2(text, name)
    else:
        rows = _blocks(text, dropped, blank_ends=False)
    return Subtitles(_normalised(rows, dropped), dict(dropped), encoding)


def from_rows(rows: Iterable[tuple[float, float, str]]) -> Subtitles:
    """Make subtitles of raw (start, end, text) rows: tags stripped, sorted, rolling captions reduced."""
    dropped: Counter[str] = Counter()
    return Subtitles(_normalised(list(rows), dropped), dict(dropped))


def cut(cues: Iterable[Cue], start: float, end: float, *, clamp: bool = False) -> tuple[Cue, ...]:
    """Return the cues that touch [start, end), on a clock where `start` is 0.

    Times may lie outside the clip (negative before it); with `clamp` they are cut to [0, end - start].
    """
    found = []
    for cue in cues:
        if cue.end > start and cue.start < end:
            a, b = cue.start - start, cue.end - start
            if clamp:
                a, b = max(a, 0.0), min(b, end - start)
            found.append(Cue(round(a, 3), round(b, 3), cue.text))
    return tuple(found)


def write_vtt(cues: Iterable[Cue]) -> str:
    """Write cues (times >= 0) as a WebVTT document."""
    parts = ["WEBVTT\n"]
    for cue in cues:
        # A backslash would begin one of ASS's codes, which SubRip and WebVTT files of the wild hold too.
        text = html.escape(cue.text, quote=False).replace("\\", "&#92;")
        parts.append(f"{_stamp(cue.start)} --> {_stamp(cue.end)}\n{text}\n")
    return "\n".join(parts)


def decode_text(data: bytes) -> tuple[str | None, str]:
    """Decode bytes of unknown encoding: byte order mark, UTF-8, then the most plausible; None if it is no text."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding
    if b"\0" in data[:4096]:
        even, odd = data[0:4096:2].count(0), data[1:4096:2].count(0)
        timed = b"-\0-\0>" in data or b"-\0>\0" in data  # an arrow: text however few of its letters are Latin
        if max(even, odd) < 0.3 * min(len(data), 4096) / 2 and not timed:
            return None, "binary"
        encoding = "utf-16-be" if even > odd else "utf-16-le"
        return data.decode(encoding, errors="replace"), encoding
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    matches = charset_normalizer.from_bytes(_telling(data), cp_isolation=_ENCODINGS)
    best = matches.best()
    level = [m for m in matches if best is not None and (m.chaos, m.coherence) == (best.chaos, best.coherence)]
    encoding = "cp1252" if best is None or any(m.encoding == "cp1252" for m in level) else best.encoding
    return data.decode(encoding, errors="replace"), encoding


def _telling(data: bytes) -> bytes:
    """The first lines with other bytes than ASCII: what tells an encoding, without the time lines around it."""
    lines: dict[bytes, None] = {}  # each once
    size = 0
    for line in data.splitlines():
        if not line.isascii() and line not in lines:
            lines[line[:_MOST_SAMPLED]] = None
            size += len(line) + 1
            if size > _MOST_SAMPLED:
                break
    return b"\n".join(lines)


def _blocks(text: str, dropped: Counter[str], *, blank_ends: bool) -> list[tuple[float, float, str]]:
    """Split SubRip or WebVTT at its time lines; in WebVTT an empty line ends the text of a cue."""
    lines = text.splitlines()
    at = [i for i, line in enumerate(lines) if "-->" in line]
    rows = []
    for i, following in zip_longest(at, at[1:]):
        match = _CUE_LINE.match(lines[i])
        if match is None:
            dropped["malformed time"] += 1
            continue
        body = lines[i + 1 : following]
        if blank_ends:
            body = body[: next((j for j, line in enumerate(body) if not line), len(body))]
        elif following is not None:
            while body and not body[-1].strip():
                body.pop()
            if body and body[-1].strip().isdigit():  # the number of the next cue
                body.pop()
        times = match.groups()
        rows.append((_seconds(times[:4]), _seconds(times[4:]), "\n".join(body)))
    return rows


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction}")


def _by_pysubs2(text: str, name: str) -> list[tuple[float, float, str]]:
    try:
        format_ = "ass" if "[Events]" in text else None  # files without a style section are not recognised
        parsed = pysubs2.SSAFile.from_string(text, format_=format_)
    except Exception as error:  # its parsers raise whatever the text brings about, XML's syntax errors too
        raise UserError(f"{name}: no known subtitle format ({type(error).__name__}: {str(error)[:200]})") from None
    shown = [e for e in parsed if not e.is_comment]
    # Left as it is where it will be left out, see `_why_not`.
    return [(e.start / 1000, e.end / 1000, e.text if _why_not(e.text) else e.plaintext) for e in shown]


def _json3(text: str, name: str) -> list[tuple[float, float, str]]:
    """YouTube's json3: events with segments; an event of the rolling window lasts until the next one starts."""
    try:
        events = json.loads(text)["events"]
        rows = []
        for event in events:
            words = "".join(segment.get("utf8", "") for segment in event.get("segs", []))
            if words.strip():
                start = event["tStartMs"] / 1000
                start = start if math.isfinite(start) else math.inf  # left out later; NaN would spoil the sorting
                rows.append((start, start + event.get("dDurationMs", 0) / 1000, words))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{name}: not json3 ({type(error).__name__}: {str(error)[:200]})") from None
    rows.sort(key=lambda row: row[0])
    return [
        (a, min(b, following[0]) if following[0] > a else b, words)
        for (a, b, words), following in zip_longest(rows, rows[1:], fillvalue=(math.inf, 0.0, ""))
    ]


def _clean(text: str) -> str:
    """Strip tags and entities; lines stay apart, white space within them is one blank."""
    text = html.unescape(_TAG.sub("", text).replace("\\N", "\n").replace("\\h", " "))
    if not text.replace("\n", "").isprintable():
        text = "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") or c == "\t")
    lines = (_SPACE.sub(" ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _why_not(raw: str) -> str | None:
    """Why a cue is left out for its text as it came, or None."""
    if len(raw) > LONGEST_TEXT:
        return "text too long"
    return "drawing" if _DRAWING.search(raw) else None


def _normalised(rows: list[tuple[float, float, str]], dropped: Counter[str]) -> tuple[Cue, ...]:
    cues = []
    for start, end, raw in rows:
        cause = _why_not(raw)
        text = "" if cause else _clean(raw)
        if cause is None and not text:
            cause = "empty"
        elif cause is None and not (abs(start) <= LATEST and abs(end) <= LATEST):  # NaN is neither
            cause = "impossible time"
        elif cause is None and round(end, 3) <= round(start, 3):
            cause = "no duration"
        elif cause is None and round(end, 3) <= 0:
            cause = "before the beginning"
        if cause is None:  # what is on the screen when the video begins, begins there
            cues.append(Cue(max(round(start, 3), 0.0), round(end, 3), text))
        else:
            dropped[cause] += 1
    cues.sort(key=lambda cue: (cue.start, cue.end))
    unrolled = _unrolled(cues)
    if len(unrolled) < len(cues):
        dropped["repeated"] += len(cues) - len(unrolled)
    return tuple(Cue(cue.start, cue.end, cue.text.replace("\n", " ")) for cue in unrolled)


def _unrolled(cues: list[Cue]) -> list[Cue]:
    """Reduce rolling captions: take away the leading lines that the cue before, touching this one, ended with.

    Done only if at least a third of the touching neighbours (and three of them) repeat, so that a person who says
    "No." twice keeps both.
    """
    pairs = [(a, b) for a, b in pairwise(cues) if b.start <= a.end + 0.05]
    repeats = sum(_overlap(a.text.split("\n"), b.text.split("\n")) > 0 for a, b in pairs)
    if repeats < 3 or repeats * 3 < len(pairs):
        return cues
    kept: list[Cue] = []
    shown: list[str] = []
    shown_until = -1.0
    for cue in cues:
        lines = cue.text.split("\n")
        new = lines[_overlap(shown, lines) if cue.start <= shown_until + 0.05 else 0 :]
        shown, shown_until = lines, cue.end
        if new:
            kept.append(Cue(cue.start, cue.end, "\n".join(new)))
        elif kept and kept[-1].text.endswith(lines[-1]):  # still on the screen
            kept[-1] = Cue(kept[-1].start, max(kept[-1].end, cue.end), kept[-1].text)
    return kept


def _overlap(before: list[str], after: list[str]) -> int:
    """Largest n such that the last n lines of `before` are the first n of `after`."""
    return next((n for n in range(min(len(before), len(after), _MOST_ROLLING), 0, -1) if before[-n:] == after[:n]), 0)


def _stamp(seconds: float) -> str:
    milliseconds = round(max(seconds, 0.0) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
