"""The shards that the benchmarks read: ordinary ones, those of the build's default, and a lossless reference.

Ten-second clips of the real videos of a folder (MMSSL_REAL_DATA), 170 x 128, 12.5 frames a second, a key frame every
12, 16 kHz mono AAC; repeated under new keys to 4 shards of 64. "ordinary" is x264's usual output and has no packet
tables; "default" is what `mmssl shards build` makes.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

from mmssl.data.shards import BuildSettings, build
from mmssl.data.shards.index import read_index, read_members

SIZE, CLIPS, SHARDS = (128, 170), 64, 4
KINDS = {"ordinary": {"tune": ""}, "default": {}, "lossless": {"tune": "", "crf": 0}}


def videos() -> Path:
    """The folder of real videos.

    Raises:
        SystemExit: MMSSL_REAL_DATA is not set.
    """
    root = os.environ.get("MMSSL_REAL_DATA")
    if not root:
        raise SystemExit("set MMSSL_REAL_DATA to a folder with videos (its part B/av_clips is read)")
    return Path(root) / "B" / "av_clips"


def build_kind(kind: str, folder: Path, limit: int | None = None) -> Path:
    """Build the clips of a kind; returns the folder of its shards."""
    settings = BuildSettings(size=SIZE, fit="crop", min_seconds=8.0, limit=limit, **KINDS[kind])  # type: ignore[arg-type]
    build(videos(), folder / f"{kind}-built", settings)
    return folder / f"{kind}-built"


def clips_of(folder: Path) -> list[dict[str, bytes]]:
    """The members of all clips with sound."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        for entry in read_index(path).samples:
            if entry.has_audio:
                found.append(read_members(path, entry))
    return found


def repeated(clips: list[dict[str, bytes]], folder: Path, tables: bool) -> str:
    """Shards of the clips again and again under keys of their own; returns their specification."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"train-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(CLIPS):
                members = clips[(shard * CLIPS + number) % len(clips)]
                key = f"{shard:03d}-{number:03d}"
                about = {"duration": json.loads(members["json"])["duration"]}
                kept = {"mp4": members["mp4"], "json": json.dumps(about).encode()}
                if tables and "pkt" in members:
                    kept["pkt"] = members["pkt"]
                for extension, data in kept.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(folder / f"train-{{000000..{SHARDS - 1:06d}}}.tar")
