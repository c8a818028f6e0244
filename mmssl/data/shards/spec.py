"""Shard specifications: from what a person writes to the list of tars."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from mmssl.data.storage.settings import RemoteSettings
from mmssl.data.storage.url import Shard, Url
from mmssl.errors import UserError, nearest

_RANGE = re.compile(r"(\d+)\.\.(\d+)\Z")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def expand_shards(spec: str | list[str], remote: RemoteSettings | None = None) -> list[Shard]:
    """Return the tars that a specification names, in its order; all exist.

    A specification is a path, a range in braces (``train-{000000..000003}.tar``, ``{a,b}-000000.tar``), a glob, a
    folder (all tars in it, sorted), several of these joined by ``::``, or a list of these. Addresses of http, https,
    s3 and gs are read as `remote` says; http servers list no folders.

    Raises:
        UserError: nothing is named, a shard is missing or named twice, or the source is a command.
    """
    parts = [part.strip() for item in ([spec] if isinstance(spec, str) else spec) for part in item.split("::")]
    parts = [part for part in parts if part]
    if not parts:
        raise UserError("no shards given: name a tar, a range such as 'train-{000000..000003}.tar', or a folder")
    settings = remote or RemoteSettings()
    shards = [shard for part in parts for text in expand_braces(part) for shard in _resolve(text, part, settings)]
    seen: set[Shard] = set()
    for shard in shards:
        if shard in seen:
            raise UserError(f"shard '{shard}' is named twice in '{'::'.join(parts)}'; name each shard once")
        seen.add(shard)
    missing: list[Shard] = [shard for shard in shards if isinstance(shard, Path) and not shard.exists()]
    if urls := [shard for shard in shards if isinstance(shard, Url)]:
        from mmssl.data.storage.listing import missing_of

        missing += missing_of(urls)
    if missing:
        first = missing[0]
        more = f" (and {len(missing) - 1} more of {len(shards)})" if len(missing) > 1 else ""
        beside = [path.name for path in first.parent.glob("*.tar")] if isinstance(first, Path) else []
        near = nearest(first.name, beside)
        raise UserError(f"shard '{first}' does not exist{more}{near}; check the path or the range in braces")
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


def _resolve(text: str, part: str, remote: RemoteSettings) -> Sequence[Shard]:
    if text.startswith("pipe:"):
        raise UserError(f"shards '{part}': commands (pipe:) are never run; copy the shards or name their paths")
    if text.startswith("file:"):
        text = text.removeprefix("file://").removeprefix("file:")
    if _REMOTE.match(text):
        from mmssl.data.storage.listing import list_shards

        return list_shards(Url(text, remote))
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
