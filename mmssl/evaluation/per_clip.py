"""What each clip scored, beside the means of `results.json`: the file by which two runs are compared clip by clip."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmssl.errors import UserError

FORMAT = "mmssl-per-clip-1"
NAME = "scores.npz"


@dataclass(frozen=True)
class PerClip:
    """Scores of N clips (or frames, or objects) under S seeds.

    Args:
        keys: what each column is of, no two alike.
        groups: the source or group of each; those of one group are resampled together.
        values: "row" or "probe/row" -> float [S, N], fractions; NaN where one was not judged.
    """

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.keys) or len(set(self.keys)) != len(self.keys):
            raise ValueError(f"{len(self.keys)} keys ({len(set(self.keys))} different) and {len(self.groups)} groups")
        for name, table in self.values.items():
            if table.ndim != 2 or table.shape[1] != len(self.keys):
                raise ValueError(f"values of '{name}' must be [S, {len(self.keys)}], got {list(table.shape)}")

    def save(self, path: Path) -> None:
        """Write an ``.npz`` without pickles; the file appears whole."""
        about = {"format": FORMAT, "keys": self.keys, "groups": self.groups, "rows": list(self.values)}
        tables = {f"values_{n}": table.astype(np.float32) for n, table in enumerate(self.values.values())}
        aside = path.with_name(f".{path.name}.{os.getpid()}.partial.npz")
        try:
            np.savez_compressed(
                aside, allow_pickle=False, about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **tables
            )
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> PerClip:
        """Read what `save` wrote.

        Raises:
            UserError: the file is something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(stored["about"].tobytes())
                if about.get("format") != FORMAT:
                    raise ValueError(f"its format is {about.get('format')!r}, not {FORMAT!r}")
                values = {row: stored[f"values_{n}"].astype(np.float64) for n, row in enumerate(about["rows"])}
            return cls(tuple(about["keys"]), tuple(about["groups"]), values)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"per-clip scores '{path}' cannot be read ({error}); run the evaluation again") from error
