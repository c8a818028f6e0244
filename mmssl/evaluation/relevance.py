"""What is relevant to a query in a gallery, how galleries are drawn, and whose answer is the wrong one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmssl.errors import UserError
from mmssl.evaluation.folds import source_names
from mmssl.evaluation.labels import label_sets_at
from mmssl.evaluation.pairs import Pairs
from mmssl.randomness import sample_seed, uniform_numpy

GALLERY_SEED = 0  # of the galleries, part of the protocol


@dataclass(frozen=True)
class Classes:
    """What is relevant by class: two clips whose sets of labels share one.

    Args:
        query: modality -> the labels of each clip's picture, sound or text; a clip may have none.
        said: where they come from, in words.
    """

    query: Mapping[str, tuple[frozenset[str], ...]]
    said: str

    def relevant(self, a: str, b: str, rows: np.ndarray) -> np.ndarray:
        """Bool [G, G]: which clips' `b` are relevant to each clip's `a`."""
        names = sorted({name for side in (a, b) for row in rows for name in self.query[side][row]})
        column = {name: number for number, name in enumerate(names)}
        one, other = np.zeros((2, len(rows), max(1, len(names))))
        for table, side in ((one, a), (other, b)):
            for place, row in enumerate(rows):
                table[place, [column[name] for name in self.query[side][row]]] = 1.0
        return np.asarray(one @ other.T > 0)

    def codes(self, a: str, b: str, rows: np.ndarray) -> np.ndarray:
        """Int [G]: equal for clips with exactly the same labels on both sides; -1 where a side has none."""
        numbers: dict[tuple[frozenset[str], frozenset[str]], int] = {}
        found = [(self.query[a][row], self.query[b][row]) for row in rows.tolist()]
        return np.array([numbers.setdefault(both, len(numbers)) if all(both) else -1 for both in found])


def draw_galleries(keys: Sequence[str], size: int, most: int, seed: int = GALLERY_SEED) -> list[np.ndarray]:
    """Rows of each gallery: the clips in an order drawn from (seed, key) alone, cut into parts of one size.

    All clips are one gallery where they are fewer than `size`; what does not fill a last gallery is in none.
    """
    seeds = np.array([sample_seed(seed, 0, "evaluation", key) for key in keys], dtype=np.int64)
    order = np.lexsort((np.array(keys), uniform_numpy(seeds, "gallery")[:, 0]))
    size = min(size, len(keys))
    return [order[first : first + size] for first in range(0, len(keys) - size + 1, size)][:most]


def class_sets(pairs: Pairs, label: str | None, picture_label: str | None) -> Classes | None:
    """The classes of each side; None where clips have no label and no path is given."""
    if label is None:
        if all(one is None for one in pairs.labels):
            if picture_label is not None:
                raise UserError("picture_label needs --label beside it, the class of the sound or text")
            return None
        sets = tuple(frozenset() if one is None else frozenset({one}) for one in pairs.labels)
    else:
        sets = label_sets_at(pairs.metas, label)
    said = f"clips of one {label or 'label'}"
    sides = dict.fromkeys(pairs.modalities, sets)
    if picture_label is not None:
        if "picture" not in sides:
            raise UserError("picture_label: the head compares no picture")
        sides["picture"] = label_sets_at(pairs.metas, picture_label)
        said = f"a picture whose {picture_label} holds the other's {label or 'label'}"
    return Classes(sides, said)


def text_codes(texts: Sequence[tuple[str, ...]], rows: np.ndarray) -> np.ndarray:
    """Int [G]: equal for clips of a gallery whose texts say the same; clips without text are alike to none."""
    numbers: dict[Any, int] = {}
    said = [frozenset(texts[row]) or row for row in rows.tolist()]
    return np.array([numbers.setdefault(one, len(numbers)) for one in said])


def query_groups(side: str, pairs: Pairs, rows: np.ndarray) -> np.ndarray:
    """Int [Q]: which queries are no independent ones: those of a text asked several times, else of one source file."""
    sources = np.unique(source_names(pairs.keys, pairs.metas), return_inverse=True)[1][rows]
    if side != "text":
        return np.asarray(sources)
    code = text_codes(pairs.texts, rows)
    return np.where(np.bincount(code)[code] > 1, -1 - code, sources)


def partners(groups: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Int64 [G]: for each clip the next one, round about, of its group and of another code; -1 if there is none.

    Args:
        groups: int [G]; -1 is in no group.
        codes: int [G], equal for clips whose answers are the same.
    """
    found = np.full(len(groups), -1)
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero(groups == group)
        for place, member in enumerate(members):
            later = np.roll(members, -place)[1:]
            other = later[codes[later] != codes[member]]
            if len(other):
                found[member] = other[0]
    return found
