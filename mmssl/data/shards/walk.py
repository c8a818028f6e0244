"""Indexing a tar by walking its headers once, with the conventions of webdataset."""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from mmssl.data.shards.entry import MEDIA, SampleEntry, ShardIndex
from mmssl.errors import UserError

_LARGEST_JSON = 1 << 20


def walk(tar_path: Path, size: int) -> ShardIndex:
    """Index a tar from its headers; descriptions (.json, .cls) are read for label, duration and sound."""
    groups: list[tuple[str, dict[str, tuple[int, int]]]] = []
    seen: set[str] = set()
    try:
        with tarfile.open(tar_path, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or name.startswith("__") or "." not in name:
                    continue
                stem, extension = name.split(".", 1)
                key = f"{folder}/{stem}" if folder else stem
                extension = extension.lower()
                if member.size < 0:
                    raise UserError(f"shard '{tar_path}': the header of '{member.name}' is damaged; copy it again")
                if member.offset_data + member.size > size:
                    raise UserError(f"shard '{tar_path}' is cut short within '{member.name}'; copy it again")
                if not groups or groups[-1][0] != key:
                    if key in seen:
                        raise UserError(f"shard '{tar_path}' has two samples with the key '{key}'")
                    seen.add(key)
                    groups.append((key, {}))
                if extension in groups[-1][1]:
                    raise UserError(f"shard '{tar_path}' has two members '{key}.{extension}'")
                groups[-1][1][extension] = (member.offset_data, member.size)
    except (tarfile.TarError, ValueError, OverflowError) as error:  # extended headers hold any text
        raise UserError(f"shard '{tar_path}' is not a readable, uncompressed tar ({error})") from None
    samples = [(key, members) for key, members in groups if any(name in members for name in MEDIA)]
    with open(tar_path, "rb") as file:
        entries = [_described(file.fileno(), key, members) for key, members in samples]
    return ShardIndex(tar_path, entries, without_media=len(groups) - len(entries))


def _described(descriptor: int, key: str, members: dict[str, tuple[int, int]]) -> SampleEntry:
    meta: dict[str, Any] = {}
    if "json" in members and members["json"][1] <= _LARGEST_JSON:
        with contextlib.suppress(ValueError):  # a foreign description may be anything
            found = json.loads(os.pread(descriptor, members["json"][1], members["json"][0]))
            meta = found if isinstance(found, dict) else {}
    label = meta.get("label")
    if label is None and "cls" in members:
        label = os.pread(descriptor, members["cls"][1], members["cls"][0]).decode(errors="replace").strip()
    duration, has_audio, count = meta.get("duration"), meta.get("has_audio"), meta.get("n_sentences")
    return SampleEntry(
        key=key,
        members=members,
        duration=float(duration) if isinstance(duration, int | float) and duration > 0 else None,
        has_audio=has_audio if isinstance(has_audio, bool) else None,
        label=None if label is None else str(label),
        n_sentences=count if isinstance(count, int) else None,
    )
