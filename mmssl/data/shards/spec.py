"""Shard specifications: from what a person writes to the list of tars."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from mmssl.errors import UserError, nearest

_RANGE = re.compile(r"(\d+)\.\.(\d+)\Z")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def expand_shards(spec: str | list[str]) -> list[Path]:
    """Return the tars that a specification names, in its order; all exist.

    A specification is a path, a range in braces (``train-{000000..000003}.tar``, ``{a,b}-000000.tar``), a glob, a
    folder (all tars in it, sorted), several of these joined by ``::``, or a list of these.

    Raises:
        UserError: nothing is named, a shard is missing or named twice, or the source is a command or remote.
    """
    parts = [part.strip() for item in ([spec] if isinstance(spec, str) else spec) for part in item.split("::")]
    parts = [part for part in parts if part]
    if not parts:
        raise UserError("no shards given: name a tar, a range such as 'train-{000000..000003}.tar', or a folder")
    shards = [path for part in parts for text in expand_braces(part) for path in _resolve(text, part)]
    seen: set[Path] = set()
    for path in shards:
        if path in seen:
            raise UserError(f"shard '{path}' is named twice in '{'::'.join(parts)}'; name each shard once")
        seen.add(path)
    missing = [path for path in shards if not path.exists()]
    if missing:
        more = f" (and {len(missing) - 1} more of {len(shards)})" if len(missing) > 1 else ""
        parent = missing[0].parent
        near = nearest(missing[0].name, [p.name for p in parent.glob("*.tar")]) if parent.is_dir() else ""
        raise UserError(f"shard '{missing[0]}' does not exist{more}{near}; check the path or the range in braces")
    return shards


def expand_braces(text: str) -> list[str]:
    """Expand the ranges (zero-padded as written) and lists in braces of one name, first brace slowest."""
    begin = text.find("{")
    end = text.find("}", begin)
    if begin < 0:
        return [text]
    if end < 0:
        raise UserError(f"shards '{text}': a brace is not closed")
    inside = text[begin + 1 : end]
    match = _RANGE.match(inside)
    if match:
        low, high = int(match[1]), int(match[2])
        if high < low:
            raise UserError(f"shards '{text}': the range {{{inside}}} runs backwards")
        choices = [str(number).zfill(len(match[1])) for number in range(low, high + 1)]
    elif "," in inside:
        choices = inside.split(",")
    else:
        raise UserError(f"shards '{text}': {{{inside}}} is neither a range (000000..000003) nor a list (a,b)")
    return [text[:begin] + choice + rest for choice in choices for rest in expand_braces(text[end + 1 :])]


def _resolve(text: str, part: str) -> list[Path]:
    if text.startswith("pipe:"):
        raise UserError(f"shards '{part}': commands (pipe:) are never run; copy the shards or name their paths")
    if text.startswith("file:"):
        text = text.removeprefix("file://").removeprefix("file:")
    if _REMOTE.match(text):
        raise UserError(f"shards '{part}': only local paths are read in this version; copy the shards first")
    path = Path(text)
    if path.is_dir():
        found = sorted(path.glob("*.tar"))
        if not found:
            raise UserError(f"the folder '{text}' holds no shards (*.tar)")
        return found
    if not path.exists() and any(sign in text for sign in "*?["):
        found = [Path(name) for name in sorted(glob.glob(text))]
        if not found:
            raise UserError(f"no shard matches '{text}'")
        return found
    return [path]
