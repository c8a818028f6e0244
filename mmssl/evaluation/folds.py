"""Which clips train and which test: given sets, official folds, a split field, one group left out; parts by seed.

Official folds are in the clips' description as the readers of known data sets wrote them (`mmssl.data.corpora`):
``folds`` maps the name of a fold to "train", "val" or "test", and a fold that is not named has the clip on no side.
``group`` names what was recorded together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmssl.errors import UserError
from mmssl.randomness import sample_seed, uniform_numpy

TRAIN_SHARE = 0.8
VALIDATION_SHARE = 0.2
_SIDES = frozenset({"train", "val", "test"})
_TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Fold:
    """One way to split: int indices of the train and test clips, and a name."""

    name: str
    train: np.ndarray
    test: np.ndarray


def class_names(labels: Sequence[str | None], keys: Sequence[str]) -> tuple[str, ...]:
    """The labels, sorted.

    Raises:
        UserError: a clip has no label, or there is only one class.
    """
    missing = [key for key, label in zip(keys, labels, strict=True) if label is None]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(keys)} clips have no label, the first is '{missing[0]}'; build the shards from "
            "a folder with one subfolder a class or from a manifest with a column `label`"
        )
    names = tuple(sorted({str(label) for label in labels}))
    if len(names) < 2:
        raise UserError(f"all {len(keys)} clips have the label '{names[0]}'; a probe needs at least two classes")
    return names


def group_names(keys: Sequence[str], metas: Sequence[Mapping[str, Any]], pattern: str) -> tuple[str, ...]:
    """The group of each clip: the first bracket of the pattern (or all of its match) in its source, else in its key.

    Raises:
        UserError: the pattern is no regular expression, or a clip does not match.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group '{pattern}' is no regular expression ({error})") from error
    found = []
    for key, meta in zip(keys, metas, strict=True):
        match = expression.search(str(meta.get("source", ""))) or expression.search(key)
        if match is None:
            raise UserError(
                f"group '{pattern}' matches neither the source '{meta.get('source', '')}' nor the key '{key}' of a clip"
            )
        found.append(match.group(1) if expression.groups else match.group(0))
    return tuple(found)


def source_names(keys: Sequence[str], metas: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The source file of each clip; its key where that is not said."""
    return tuple(str(meta.get("source") or key) for key, meta in zip(keys, metas, strict=True))


def recorded_together(keys: Sequence[str], metas: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What keeps clips on one side of a split: their field `group` where they have one, else their source file."""
    sources = source_names(keys, metas)
    return tuple(str(meta.get("group") or source) for meta, source in zip(metas, sources, strict=True))


def corpus_name(metas: Sequence[Mapping[str, Any]]) -> str:
    """The known data sets that the clips are of, with the beginning of the digest of their lists."""
    names = set()
    for meta in metas:
        if meta.get("corpus"):
            lists = meta.get("annotations")
            names.add((str(meta["corpus"]), str(lists.get("sha256"))[:12] if isinstance(lists, Mapping) else ""))
    said = [f"{name} (lists sha256 {digest}...)" if digest else name for name, digest in sorted(names)]
    return " and ".join(said) or "the shards"


def official_folds(metas: Sequence[Mapping[str, Any]]) -> list[Fold]:
    """The folds that the clips' field `folds` names, sorted by name (numbers by value); none if no clip has the field.

    A fold without "test" clips is tested on its "val" clips; else these are on neither side, as official protocols with
    three parts (KTH) want it.

    Raises:
        UserError: a side is unknown, or a fold has no clips to train or to test.
    """
    sides: dict[str, list[tuple[int, str]]] = {}
    for row, meta in enumerate(metas):
        folds = meta.get("folds") or {}
        if not isinstance(folds, Mapping) or not set(folds.values()) <= _SIDES:
            raise UserError(f"clip '{meta.get('key', row)}': folds {folds!r} does not map names to train, val or test")
        for name, side in folds.items():
            sides.setdefault(str(name), []).append((row, side))
    found = []
    for name in sorted(sides, key=lambda name: (int(name) if name.isdigit() else -1, name)):
        rows = {side: np.array([row for row, s in sides[name] if s == side], dtype=np.int64) for side in _SIDES}
        test = rows["test"] if len(rows["test"]) else rows["val"]
        for side, members in (("train", rows["train"]), ("test", test)):
            if len(members) == 0:
                raise UserError(
                    f"official fold '{name}' has no {side} clips among these {len(metas)}; give all shards of the data "
                    "set, or --group or --train and --test for another split"
                )
        found.append(Fold(name, rows["train"], test))
    return found


def leave_one_out(groups: Sequence[str], pattern: str) -> list[Fold]:
    """A fold a group: it tests, all others train."""
    names = sorted(set(groups))
    if len(names) < 2:
        raise UserError(f"group '{pattern}' puts all {len(groups)} clips into the one group '{names[0]}'")
    member = np.array(groups)
    return [Fold(name, np.flatnonzero(member != name), np.flatnonzero(member == name)) for name in names]


def by_split(metas: Sequence[Mapping[str, Any]]) -> list[Fold]:
    """One fold by the field `split` of the json members: train, and test (or val where there is no test).

    Raises:
        UserError: the field is missing or one side is empty.
    """
    splits = np.array([str(meta.get("split") or "") for meta in metas])
    test = next((name for name in _TEST_NAMES if (splits == name).any()), None)
    if test is None or not (splits == "train").any():
        found = ", ".join(sorted({s or "none" for s in splits}))
        raise UserError(
            f"the clips' field `split` does not name train and test clips (found: {found}); give --train and --test "
            "shards, or --group with a regular expression to leave one group out at a time"
        )
    return [Fold(test, np.flatnonzero(splits == "train"), np.flatnonzero(splits == test))]


def check_folds(folds: Sequence[Fold], labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raise a UserError for a side without clips, or for test labels that train lacks."""
    for fold in folds:
        for side, rows in (("train", fold.train), ("test", fold.test)):
            if len(rows) == 0:
                raise UserError(f"fold '{fold.name}' has no {side} clips")
        lacking = sorted(set(labels[fold.test]) - set(labels[fold.train]))
        if lacking:
            names = ", ".join(f"'{classes[c]}'" for c in lacking[:5])
            raise UserError(
                f"fold '{fold.name}': {len(lacking)} labels of the test clips are not among the train clips ({names}); "
                "a probe cannot know them"
            )


def drawn_part(keys: Sequence[str], labels: np.ndarray, seed: int, share: float = TRAIN_SHARE) -> np.ndarray:
    """Bool [N]: a share of each class's clips, at least one, drawn from (seed, key) alone."""
    draws = _draws(keys, seed, "train part")
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = max(1, round(share * len(rows)))
        chosen[rows[np.argsort(draws[rows], kind="stable")[:count]]] = True
    return chosen


def validation_rows(labels: np.ndarray, groups: np.ndarray, seed: int, share: float = VALIDATION_SHARE) -> np.ndarray:
    """Bool [N]: whole groups that hold about `share` of each class, drawn by seed; every class keeps a clip to train.

    All False where that cannot be done (each class in one group).
    """
    names, member = np.unique(groups, return_inverse=True)
    draws = _draws([str(name) for name in names], seed, "validation part")
    counts = np.zeros((len(names), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (member, labels), 1)
    total = counts.sum(axis=0)
    held = np.zeros(len(names), dtype=bool)
    taken = np.zeros_like(total)
    for group in np.argsort(draws, kind="stable"):
        after = taken + counts[group]
        touched = counts[group] > 0
        wanted = (taken < share * total)[touched].any()
        fits = (after[touched] < total[touched]).all() and (after <= np.maximum(1.5 * share * total, 1)).all()
        if wanted and fits:
            held[group] = True
            taken = after
    if not held.any():  # groups too large to fit: take the first that leaves every class a clip
        for group in np.argsort(draws, kind="stable"):
            if (counts[group] < total)[total > 0].all():
                held[group] = True
                break
    return np.asarray(held[member])


def _draws(names: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    seeds = np.array([sample_seed(seed, 0, "evaluation", name) for name in names], dtype=np.int64)
    return uniform_numpy(seeds, purpose)[:, 0]
