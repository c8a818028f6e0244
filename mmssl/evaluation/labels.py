"""Labels from anywhere in a clip's description: ``truth.material``, ``extra.fold``, instead of its own label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmssl.errors import UserError, nearest
from mmssl.evaluation.features import FeatureTable


def value_at(meta: Mapping[str, Any], path: str) -> Any:
    """What lies at a dotted path of a clip's description; None where a part of it is missing."""
    found: Any = meta
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found


def labels_at(metas: Sequence[Mapping[str, Any]], path: str) -> tuple[str | None, ...]:
    """The label of each clip at a dotted path; None where it has none.

    Texts, whole numbers and yes/no are labels.

    Raises:
        UserError: no clip has anything there, or what is there is no label.
    """
    values = [value_at(meta, path) for meta in metas]
    _check_found(values, metas, path)
    for value in values:
        if value is not None and not isinstance(value, str | int):
            raise UserError(f"label '{path}' leads to {value!r:.60}, which is no label; give the path of one value")
    return tuple(None if value is None or value == "" else str(value) for value in values)


def label_sets_at(metas: Sequence[Mapping[str, Any]], path: str) -> tuple[frozenset[str], ...]:
    """As `labels_at`, where a list holds several labels; empty where a clip has none."""
    values = [value_at(meta, path) for meta in metas]
    _check_found(values, metas, path)
    sets = []
    for value in values:
        items = value if isinstance(value, list | tuple) else [value]
        if any(item is not None and not isinstance(item, str | int) for item in items):
            raise UserError(f"label '{path}' leads to {value!r:.60}, which is neither a label nor a list of labels")
        sets.append(frozenset(str(item) for item in items if item is not None and item != ""))
    return tuple(sets)


def relabelled(table: FeatureTable, path: str) -> FeatureTable:
    """The table with the labels at `path`; clips without one are left out and named.

    Raises:
        UserError: as `labels_at`.
    """
    labels = labels_at(table.metas, path)
    kept = [row for row, label in enumerate(labels) if label is not None]
    lacking = {key: f"has no {path}" for key, label in zip(table.keys, labels, strict=True) if label is None}
    return replace(
        table,
        keys=tuple(table.keys[row] for row in kept),
        features=table.features[kept],
        labels=tuple(labels[row] for row in kept),
        metas=tuple(table.metas[row] for row in kept),
        about=dict(table.about) | {"label": path, "left_out": dict(table.about["left_out"]) | lacking},
    )


def _check_found(values: Sequence[Any], metas: Sequence[Mapping[str, Any]], path: str) -> None:
    if any(value is not None for value in values):
        return
    known: Counter[str] = Counter()
    for meta in metas:
        known.update(_paths(meta))
    there = ", ".join(sorted(known)) or "nothing"
    raise UserError(
        f"label '{path}' leads to nothing in the descriptions of {len(metas)} clips{nearest(path, known)} "
        f"(there: {there})"
    )


def _paths(meta: Mapping[str, Any], before: str = "") -> list[str]:
    """The dotted paths of everything that is no mapping itself."""
    found = []
    for name, value in meta.items():
        found += _paths(value, f"{before}{name}.") if isinstance(value, Mapping) else [f"{before}{name}"]
    return found
