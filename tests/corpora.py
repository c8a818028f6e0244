"""Small shards of real encoded media for tests, written without mmssl's own builder."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.media import flash_and_click


def write_tar(path: Path, samples: Sequence[tuple[str, Mapping[str, bytes]]]) -> Path:
    """A tar of (key, {extension: bytes}) in webdataset's convention."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def sample(folder: Path, key: str, number: int, **media: Any) -> tuple[str, dict[str, bytes]]:
    """A 2 s clip with a flash and a click at an instant of its own, one sentence, and a description."""
    settings: dict[str, Any] = {"seconds": 2.0, "at": (0.4 + 0.1 * (number % 12),), "fps": 12.5, "size": (32, 32)}
    settings |= {"audio_rate": 16000, "seed": number} | media
    file = flash_and_click(folder / f"{key}.mp4", **settings)
    vtt = f"WEBVTT\n\n00:00:00.200 --> 00:00:01.500\nsentence number {number} of the corpus\n"
    about = {"key": key, "duration": settings["seconds"], "label": f"class{number % 3}"}
    data = file.read_bytes()
    file.unlink()
    return key, {"mp4": data, "vtt": vtt.encode(), "json": json.dumps(about).encode()}


def write_corpus(folder: Path, shards: Sequence[int], prefix: str = "train") -> str:
    """Shards with the given numbers of samples; returns their specification."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for shard, count in enumerate(shards):
        samples = [sample(folder, f"clip{number + i:04d}", number + i) for i in range(count)]
        write_tar(folder / f"{prefix}-{shard:06d}.tar", samples)
        number += count
    return str(folder / f"{prefix}-{{000000..{len(shards) - 1:06d}}}.tar")
