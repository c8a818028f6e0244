"""The conditions that scores were taken under: which must be equal for a comparison, and which are only told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmssl.data.shards.index import expand_shards
from mmssl.errors import UserError
from mmssl.report.runs import DIFFERENCES, Result

#: what must be equal for numbers to stand side by side, besides every text, list of texts and switch
CONDITIONS = frozenset(
    "protocol clips test_clips n objects folds train_share frames_per_clip sound_seconds seconds rate size views "
    "settings epochs crops resolution frames train_clips train_pictures test_pictures train_boxes test_boxes cells "
    "gallery galleries gallery_seed queries".split()
)
#: what may differ; it is told
TOLD = ("encoder", "strides", "head", "decoder", "precision", "seeds", "seed", "object_prior")
SHARDS = ("shards", "train", "test", "folder", "data")
#: what says nothing of the conditions
FREE = frozenset("encoders evaluation versions left_out not_drawn drawn video seconds_used cache".split())


@dataclass(frozen=True)
class Unequal:
    """A condition in which runs differ.

    Args:
        what: its name.
        values: of each run, as text.
        refused: whether numbers may not stand side by side because of it.
    """

    what: str
    values: tuple[str, ...]
    refused: bool

    def sentence(self, names: Sequence[str]) -> str:
        """What differs, in words."""
        return f"{self.what}: " + "; ".join(f"{name} {value}" for name, value in zip(names, self.values, strict=True))


def unequal(results: Sequence[Result]) -> list[Unequal]:
    """The conditions in which runs differ, those that forbid a comparison first."""
    found = []
    flat = [_conditions(result.stored) for result in results]
    for name in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(name) for one in flat]
        if any(value != values[0] for value in values) and not (name in SHARDS and _same_shards(values)):
            texts = tuple("(none)" if value is None else _short(value) for value in values)
            found.append(Unequal(name.replace("_", " "), texts, name.split(".")[0] not in TOLD))
    keyed = [result.per_clip for result in results]
    sets = [set(one.keys) for one in keyed if one is not None]
    if len(sets) > 1 and any(one != sets[0] for one in sets):
        shared = set.intersection(*sets)
        texts = tuple("unknown" if one is None else f"{len(set(one.keys) - shared)} of their own" for one in keyed)
        found.append(Unequal("clips", texts, True))
    for library in ("mmssl", "torch"):
        values = [dict(result.stored.get("versions") or {}).get(library) for result in results]
        if any(value != values[0] for value in values):
            found.append(Unequal(f"version of {library}", tuple(str(value) for value in values), False))
    return sorted(found, key=lambda one: not one.refused)


def _conditions(stored: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in stored.items():
        if name in FREE or (not prefix and name in DIFFERENCES):
            continue
        if isinstance(value, Mapping):
            if prefix or name in CONDITIONS:
                found |= _conditions(value, f"{prefix}{name}.")
        elif prefix or name in CONDITIONS or name in TOLD or name in SHARDS or _told_apart_by(value):
            found[prefix + name] = value
    return found


def _told_apart_by(value: Any) -> bool:
    """Whether a value is no score: a text, a switch, or a list of texts."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, str) for one in value)
    return isinstance(value, str | bool)


def _same_shards(values: Sequence[Any]) -> bool:
    """Whether specifications that are written differently name the same files."""
    try:
        files = [_files(value) for value in values]
    except (UserError, OSError, ValueError):
        return False
    return all(one == files[0] for one in files)


def _files(value: Any) -> list[str]:
    """What a specification of shards, a place of pictures or a list of such places names."""
    if isinstance(value, list):
        return [str(Path(str(place)).resolve(strict=True)) for place in value]
    try:
        found = [str(shard) for shard in expand_shards(str(value))]
    except UserError:  # a folder of something else
        found = [str(value)]
    return [str(Path(path).resolve(strict=True)) for path in found]


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
