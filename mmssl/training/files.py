"""Files that appear whole or not at all: written aside, flushed to the disk, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (a rename survives a power cut only then)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.partial")
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder; killed in the middle, what is left does not carry its name any more."""
    aside = folder.with_name(f".{folder.name}.removed")
    if aside.exists():
        shutil.rmtree(aside)
    folder.rename(aside)
    shutil.rmtree(aside)


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a folder aside, flush it, and put it in the place of `folder`.

    A folder that is already there is moved away just before; what a killed process left aside is cleared first.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir(parents=True)
    fill(aside)
    for path in sorted(aside.rglob("*")):
        if path.is_file():
            sync_file(path)
        else:
            sync_folder(path)
    sync_folder(aside)
    if folder.exists():
        remove_folder(folder)
    aside.rename(folder)
    sync_folder(folder.parent)


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left aside in `folder`."""
    for pattern in (".*.partial", ".*.removed"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
