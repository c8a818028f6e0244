"""Which boxes a score was measured against: test sets were revised, and published numbers moved by 2 to 3 points.

The release's file and its SHA-256 are in ``annotations: {file, sha256}`` of a clip's description, or of the
``build.json`` beside the shards. A hash of the boxes that the judged clips hold is given in any case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FIELDS = ("boxes", "bbox", "box_times", "annotators")


def annotations_of(metas: Mapping[str, Mapping[str, Any]], shards: Iterable[object] = ()) -> dict[str, Any]:
    """Plain values: the annotation files that are named, and a hash of the boxes themselves.

    Args:
        metas: the description of each judged clip, by key.
        shards: the shards they come from; a `build.json` beside one is read where no clip names a file.
    """
    named = [_named(holder) for meta in metas.values() for holder in (meta, meta.get("extra"))]
    if not any(named):
        folders = sorted({Path(str(shard)).parent for shard in shards})
        named = [_named(_build(folder / "build.json")) for folder in folders]
    files = sorted({pair for pair in named if pair is not None})
    return {
        "files": [{"file": file, "sha256": digest} for file, digest in files],
        "boxes_sha256": boxes_hash(metas),
        "clips": len(metas),
    }


def boxes_hash(metas: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 of the clips' boxes with their times and annotators, whatever the order of the clips."""
    listed = []
    for key in sorted(metas):
        meta = metas[key]
        holders = [h for h in (meta.get("truth"), meta, meta.get("extra")) if isinstance(h, Mapping)]
        listed.append([key, [{name: h[name] for name in FIELDS if h.get(name) is not None} for h in holders]])
    text = json.dumps(listed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _named(holder: Any) -> tuple[str, str] | None:
    found = holder.get("annotations") if isinstance(holder, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    file, digest = found.get("file"), found.get("sha256")
    return (file, digest) if isinstance(file, str) and isinstance(digest, str) else None


def _build(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not built by mmssl, or shards that do not lie in a folder here
        return None
