"""From the path that a person names to the list of sources: a folder, a manifest, a file, or a known data set.

`CORPORA` is the table of the data sets whose layout is known; each has its reader in a file of this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mmssl.data.corpora.ave import list_ave
from mmssl.data.corpora.files import without_labels
from mmssl.data.corpora.flickr_soundnet import list_flickr_soundnet
from mmssl.data.corpora.folder import choose_sidecar, list_folder
from mmssl.data.corpora.hmdb51 import list_hmdb51
from mmssl.data.corpora.kinetics import list_kinetics
from mmssl.data.corpora.kth import list_kth
from mmssl.data.corpora.manifest import SUFFIXES as MANIFEST_SUFFIXES
from mmssl.data.corpora.manifest import list_manifest
from mmssl.data.corpora.source import Listing, Segment, Source, key_of
from mmssl.data.corpora.ucf101 import list_ucf101
from mmssl.data.corpora.ut_interaction import list_ut_interaction
from mmssl.data.corpora.vggss import list_vggss
from mmssl.data.media import VIDEO_SUFFIXES
from mmssl.data.subtitles import SUFFIXES
from mmssl.errors import UserError, nearest

MANIFEST = "manifest.jsonl"
AUTO = "auto"

#: name of a known data set -> its reader, called with (folder or annotation file, whether files may be missing)
CORPORA: dict[str, Callable[[Path, bool], Listing]] = {
    "ucf101": list_ucf101,
    "hmdb51": list_hmdb51,
    "kinetics400": partial(list_kinetics, name="kinetics400"),
    "kinetics600": partial(list_kinetics, name="kinetics600"),
    "kinetics700": partial(list_kinetics, name="kinetics700"),
    "kth": list_kth,
    "ut-interaction": list_ut_interaction,
    "vggss": list_vggss,
    "flickr-soundnet": list_flickr_soundnet,
    "ave": list_ave,
}


def list_corpus(
    path: Path,
    labels: str = "folder",
    language: str | None = None,
    corpus: str = AUTO,
    allow_missing: bool = False,
) -> Listing:
    """List the media files of a corpus; a folder that holds a `manifest.jsonl` (as Soundstage writes) goes by it.

    Args:
        path: a folder, a manifest or a video; for a known data set its folder or annotation file.
        labels: "none" leaves labels out; "folder" takes the name of a file's folder where nothing else says a label.
        language: of the subtitles beside videos.
        corpus: "auto", or a name in `CORPORA`.
        allow_missing: whether files that the lists of a known data set name may be missing.

    Raises:
        UserError: the path does not exist, is neither folder, manifest nor video, or nothing is listed; or the data set
            is unknown or not laid out as its reader says.
    """
    if corpus != AUTO and corpus not in CORPORA:
        raise UserError(
            f"corpus '{corpus}' is not known{nearest(corpus.lower(), CORPORA)}; known are {AUTO}, {', '.join(CORPORA)}"
        )
    if not path.exists():
        raise UserError(f"source '{path}' does not exist; name a folder of videos, a manifest or a video")
    if corpus != AUTO:
        listing = CORPORA[corpus](path, allow_missing)
        return without_labels(listing) if labels == "none" else listing
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
