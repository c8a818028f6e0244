"""Feature tables kept on disk by what they were made of, so that no clip is decoded twice for the same features.

The key of a table is a digest of all that its features depend on: the encoder's tensors, class and arguments, the
source of the classes it is made of and the versions of the libraries; the index, size and time of change of each
shard; the window; the decoder and its version; the precision and the kind of device. The other encoders of a bundle
and the tasks' heads are no part of it. A shard's own bytes are not read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmssl import __version__
from mmssl.clip import Window
from mmssl.data.shards.catalog import Catalog, read_catalog
from mmssl.data.shards.index import expand_shards
from mmssl.data.storage.cache_folder import cache_folder
from mmssl.errors import UserError
from mmssl.evaluation.feature_table import FeatureTable
from mmssl.nn.encoders import Build

VERSION = 1  # of what goes into a key: tables of other versions are not found any more
DECODER_PACKAGES = {"pyav": "av", "nvdec": "av", "torchcodec": "torchcodec", "decord": "decord"}
LIBRARIES = ("torch", "torchvision", "torchaudio", "transformers", "timm")
#: causes for which a clip is left out that may be gone the next time; tables that lack such clips are not kept
PASSING = ("out of memory", "worker died", "worker hung", "decoder hung", "shard unreadable")


class FeatureCache:
    """A folder of feature tables, one file a key. Safe for several processes: files appear whole.

    The folder may be removed at any time, and is never tidied up by itself.

    Args:
        folder: the folder; made when the first table is kept.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """The file of a key."""
        return self.folder / f"{key}.npz"

    def get(self, key: str) -> FeatureTable | None:
        """The table of a key; None if there is none, or if its file is damaged, which is said as a warning."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            table = FeatureTable.load(path)
        except UserError as error:
            warnings.warn(f"{str(error).partition(';')[0]}; they are made again", stacklevel=2)
            return None
        if table.about.get("cache_key") != key:
            warnings.warn(f"features '{path}' are not those of their name; they are made again", stacklevel=2)
            return None
        return table

    def put(self, key: str, table: FeatureTable) -> None:
        """Keep a table; a folder that cannot be written is said as a warning, for the features are there."""
        kept = replace(table, about={**table.about, "cache_key": key})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            kept.save(self.path(key))
        except OSError as error:
            warnings.warn(f"features are not kept in '{self.folder}': {error.strerror or error}", stacklevel=2)


def open_cache(beside: Path, given: Path | None = None) -> FeatureCache:
    """The cache in the folder that was given, else in `beside`, else, where that cannot be written, in MMSSL_CACHE."""
    if given is not None:
        return FeatureCache(given)
    existing = beside
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return FeatureCache(beside if writable else cache_folder() / "features")


def told_of(tables: Sequence[FeatureTable]) -> dict[str, int]:
    """For results.json: features of clips (one a clip and encoder) that were wanted, and how many were kept already."""
    return {
        "clip_features": sum(len(table) for table in tables),
        "from_cache": sum(int(table.about.get("clips_from_cache", 0)) for table in tables),
    }


def table_key(
    encoder: nn.Module, build: Build | None, shards: str, window: Window, decoder: str, **more: str | float
) -> str:
    """Thirty-two hexadecimal digits that change with anything that the features depend on.

    Args:
        encoder: the encoder.
        build: how it was made, where that is known.
        shards: digest of the shards, see `shards_digest`.
        window: what is decoded.
        decoder: name of the decoder.
        more: anchor, precision, device, and what else there is.
    """
    said = {
        "version": VERSION,
        "mmssl": __version__,
        "libraries": {name: _version(name) for name in LIBRARIES},
        "encoder": encoder_digest(encoder),
        "build": None if build is None else [build.class_path, dict(build.init_args)],
        "shards": shards,
        "window": asdict(window),
        "decoder": [decoder, _version(DECODER_PACKAGES.get(decoder, decoder))],
        **more,
    }
    return hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def encoder_digest(encoder: nn.Module) -> str:
    """Digest of an encoder alone: its tensors by name, and the source of the classes that it is made of."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        whole = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {whole.dtype} {tuple(whole.shape)}\n".encode())
        digest.update(whole.reshape(-1).view(torch.uint8).numpy().data if whole.numel() else b"")
    for module in sorted({type(part).__module__ for part in encoder.modules()}):
        if module.partition(".")[0] not in LIBRARIES:
            digest.update(_source(module))
    return digest.hexdigest()


def shards_digest(shards: str) -> str:
    """Digest of the index, size and time of change of each shard, in their order; their names are no part of it.

    Raises:
        UserError: see `read_catalog`.
    """
    return catalog_digest(read_catalog(expand_shards(shards)))


def catalog_digest(catalog: Catalog) -> str:
    """See `shards_digest`."""
    digest = hashlib.blake2b(digest_size=16)
    for number in range(len(catalog.shards)):
        digest.update(repr((catalog.statuses[number], catalog.digests[number])).encode())
        for entry in catalog.entries(number):
            digest.update(f"{entry.key}\t{sorted(entry.members.items())}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()


def is_lasting(counters: Mapping[str, Any]) -> bool:
    """Whether a pass over the same shards would leave the same clips out, by the counters of a stream."""
    return not any(counters.get(f"failed: {cause}") for cause in PASSING)


@lru_cache(maxsize=256)
def _source(module: str) -> bytes:
    """The source of a module; its name where there is none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return Path(file).read_bytes() if file else module.encode()
    except OSError:
        return module.encode()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
