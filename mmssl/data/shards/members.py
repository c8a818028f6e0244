"""Reading the members of a sample: bytes at known places of a tar, without walking it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mmssl.data.shards.entry import SampleEntry
from mmssl.errors import UserError


def read_members(tar_path: Path, entry: SampleEntry, extensions: Iterable[str] | None = None) -> dict[str, bytes]:
    """Read the members of a sample (all, or those of `extensions` that it has) without walking the tar.

    Raises:
        UserError: the shard is missing or ends before the member does.
    """
    wanted = entry.members if extensions is None else [name for name in extensions if name in entry.members]
    try:
        descriptor = os.open(tar_path, os.O_RDONLY)
    except FileNotFoundError:
        raise UserError(f"shard '{tar_path}' does not exist any more") from None
    try:
        members = {name: os.pread(descriptor, size, at) for name in wanted for at, size in [entry.members[name]]}
    finally:
        os.close(descriptor)
    for name, data in members.items():
        if len(data) != entry.members[name][1]:
            raise UserError(
                f"shard '{tar_path}' ends within '{entry.key}.{name}': it changed after it was indexed; "
                "run 'mmssl shards check' on it"
            )
    return members
