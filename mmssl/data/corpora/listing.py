"""From the path that a person names to the list of sources: a folder, a manifest, a Soundstage folder or a file."""

from __future__ import annotations

from pathlib import Path

from mmssl.data.corpora.folder import choose_sidecar, list_folder
from mmssl.data.corpora.manifest import SUFFIXES as MANIFEST_SUFFIXES
from mmssl.data.corpora.manifest import list_manifest
from mmssl.data.corpora.source import Listing, Segment, Source, key_of
from mmssl.data.media import VIDEO_SUFFIXES
from mmssl.data.subtitles import SUFFIXES
from mmssl.errors import UserError

MANIFEST = "manifest.jsonl"


def list_corpus(path: Path, labels: str = "folder", language: str | None = None) -> Listing:
    """List the media files of a corpus; a folder that holds a `manifest.jsonl` (as Soundstage writes) goes by it.

    Raises:
        UserError: the path does not exist, is neither folder, manifest nor video, or nothing is listed.
    """
    if not path.exists():
        raise UserError(f"source '{path}' does not exist; name a folder of videos, a manifest or a video")
    if path.is_dir():
        manifest = path / MANIFEST
        listing = list_manifest(manifest) if manifest.is_file() else list_folder(path, labels, language)
    elif path.suffix.lower() in MANIFEST_SUFFIXES:
        listing = list_manifest(path)
    elif path.suffix.lower() in VIDEO_SUFFIXES:
        beside = [("", path.stem + suffix) for suffix in SUFFIXES if path.with_name(path.stem + suffix).is_file()]
        chosen = choose_sidecar(beside, language)
        segment = Segment(subtitles=None if chosen is None else path.with_name(chosen))
        listing = Listing((Source(path, path.name, key_of(path.name), (segment,)),))
    else:
        raise UserError(
            f"source '{path}' is neither a folder, a manifest ({', '.join(MANIFEST_SUFFIXES)}) nor a video; "
            "a video without its usual suffix needs a manifest"
        )
    if not listing.sources:
        seen = ", ".join(f"{count} {suffix}" for suffix, count in sorted(listing.ignored.items()))
        frames = f"; {listing.unusable[0].message}" if listing.unusable else ""
        raise UserError(f"empty corpus: '{path}' lists no video (seen: {seen or 'nothing'}){frames}")
    return listing
