"""Tables of features, and the file that they are stored in, which numpy alone can read.

The file is an ``.npz`` without pickles, format ``mmssl-features-2``:

| array | type | what |
|---|---|---|
| `features` | float32 [N, V, D] | one row a clip and view |
| `keys` | text [N] | keys of the clips |
| `labels` | text [N] | their labels, empty where there is none |
| `labelled` | bool [N] | whether a clip has a label |
| `metas` | uint8 | UTF-8 bytes of a JSON list of N objects, the clips' descriptions |
| `tokens` | float16 [N, V, L, C] | the last map pooled to L places; only where they were asked for |
| `about` | uint8 | UTF-8 bytes of a JSON object, how the features were made; its `format` names the format |
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.errors import UserError

FORMAT = "mmssl-features-2"
#: what numpy and zipfile raise of files that are damaged or something else
DAMAGES = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class FeatureTable:
    """Features of N clips.

    Args:
        keys: the clips' keys.
        features: float32 [N, V, D], one row a view.
        labels: the label of each clip, or None.
        metas: the json member of each clip.
        about: how they were made: encoder, spans, size, views, anchor, decoder, the keys left out with the cause, the
            decoder's calls and how many clips came from the cache.
        tokens: float16 [N, V, L, C], the encoder's last map pooled to L places; None unless they were asked for.
    """

    keys: tuple[str, ...]
    features: np.ndarray
    labels: tuple[str | None, ...]
    metas: tuple[Mapping[str, Any], ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    tokens: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 3 or self.features.dtype != np.float32:
            raise ValueError(f"features must be float32 [N, V, D], got {self.features.dtype} {self.features.shape}")
        for name in ("keys", "labels", "metas"):
            if len(getattr(self, name)) != len(self.features):
                raise ValueError(f"{len(self.features)} features but {len(getattr(self, name))} {name}")
        if self.tokens is not None and (self.tokens.ndim != 4 or self.tokens.shape[:2] != self.features.shape[:2]):
            raise ValueError(f"tokens must be [N, V, L, C] of {self.features.shape[:2]}, got {self.tokens.shape}")

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        n, views, width = self.features.shape
        return f"FeatureTable({n} clips, {views} views, {width} dimensions, {len(set(self.labels))} labels)"

    def save(self, path: Path) -> None:
        """Write the file; it appears whole, also where two processes write it at once."""
        # Other machines have our pid too.
        aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.partial")
        try:
            with open(aside, "wb") as file:
                np.savez(
                    file,
                    features=self.features,
                    keys=np.array(self.keys, dtype=np.str_),
                    labels=np.array([label or "" for label in self.labels], dtype=np.str_),
                    labelled=np.array([label is not None for label in self.labels], dtype=bool),
                    metas=_json(list(self.metas)),
                    about=_json(dict(self.about) | {"format": FORMAT}),
                    **({} if self.tokens is None else {"tokens": self.tokens}),  # type: ignore[arg-type]
                )
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> FeatureTable:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                if "about" not in stored.files:
                    raise ValueError(f"it lacks the arrays of {FORMAT}")
                about = json.loads(stored["about"].tobytes())
                if about.get("format") != FORMAT:
                    raise ValueError(f"its format is {about.get('format')!r}, not {FORMAT!r}")
                labels = zip(stored["labels"].tolist(), stored["labelled"].tolist(), strict=True)
                return cls(
                    keys=tuple(stored["keys"].tolist()),
                    features=stored["features"],
                    labels=tuple(label if there else None for label, there in labels),
                    metas=tuple(json.loads(stored["metas"].tobytes())),
                    about={name: value for name, value in about.items() if name != "format"},
                    tokens=stored["tokens"] if "tokens" in stored.files else None,
                )
        except DAMAGES as error:
            raise UserError(f"features '{path}' cannot be read ({error}); extract them again") from error


def join(tables: Sequence[FeatureTable]) -> FeatureTable:
    """The rows of several tables, made in one way, one after the other."""
    about = dict(tables[0].about) | {"left_out": {k: v for t in tables for k, v in t.about["left_out"].items()}}
    for counted in ("decoder_calls", "clips_from_cache"):
        if counted in about:
            about[counted] = sum(table.about[counted] for table in tables)
    about.pop("cache_key", None)
    return FeatureTable(
        keys=tuple(key for table in tables for key in table.keys),
        features=np.concatenate([table.features for table in tables]),
        labels=tuple(label for table in tables for label in table.labels),
        metas=tuple(meta for table in tables for meta in table.metas),
        about=about,
        tokens=None if any(t.tokens is None for t in tables) else np.concatenate([t.tokens for t in tables]),  # type: ignore[misc]
    )


def _json(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value, default=dict).encode(), dtype=np.uint8)
