"""Retrieval between pictures, sounds and sentences by an exported head, protocol ``crossmodal-retrieval-v1``.

Recall and median rank follow the habit of text-to-video retrieval (MSR-VTT, YouCook2; Miech et al., arXiv 1912.06430),
nDCG@30 by class that of "Objects that sound" (arXiv 1712.06651). Recall depends on how large the gallery is, so
galleries have a fixed size, are drawn by seed and key, share no clip, and are the same for every model; queries are
answered within their own gallery.

Beside the trained encoders and head stand: the same architecture at random weights (encoders and head, a seed each);
chance in closed form; and the trained model with the truth shifted, so that each query's answer is that of another clip
(which must be at chance) or of another clip of the same label (which shows how much of the recall the label explains).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.errors import UserError
from mmssl.evaluation.features import Progress
from mmssl.evaluation.folds import source_names
from mmssl.evaluation.labels import label_sets_at
from mmssl.evaluation.pairs import Model, Pairs, embed_pairs
from mmssl.evaluation.retrieval_scores import Answers, Direction, RetrievalScores
from mmssl.evaluation.sentences import SentenceRule
from mmssl.evaluation.sides import Side, similarities
from mmssl.nn.encoders import Encoders, encoders_folder
from mmssl.randomness import sample_seed, uniform_numpy

PROTOCOL = "crossmodal-retrieval-v1"
GALLERY = 500
GALLERIES = 10
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


def evaluate_retrieval(
    encoders: Path | str,
    shards: str,
    *,
    head: str | None = None,
    label: str | None = None,
    picture_label: str | None = None,
    sentences: SentenceRule = "nearest",
    seconds: float | None = None,
    rate: float = 8.0,
    size: int | tuple[int, int] = 96,
    views: int = 1,
    gallery: int = GALLERY,
    galleries: int = GALLERIES,
    seeds: int = 5,
    max_sentences: int = 8,
    batch_size: int = 32,
    workers: int = 2,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    progress: Progress | None = None,
) -> RetrievalScores:
    """Evaluate a head of a run on the clips of shards.

    Args:
        encoders: run folder or `encoders` folder.
        shards: the clips.
        head: name of the exported head, for instance "av_embedding" or "subtitle_matching"; the only one unless given.
        label: dotted path of the class in a clip's description; its own label unless given, no classes without.
        picture_label: dotted path of the picture's class, where it is another than that of sound or text; of a list
            there each item counts ("truth.materials": what is in sight, beside "truth.material": what is heard).
        sentences: which sentences of a clip are its text: "nearest" to the middle, all "joined", or the "best".
        seconds: length of the picture of a video encoder, see `embed_pairs`.
        rate: frames a second.
        size: height and width of the frames.
        views: views a clip, evenly spread; 1 is the middle.
        gallery: clips of a gallery; all clips are one gallery where there are fewer.
        galleries: how many at most.
        seeds: random initialisations.
        max_sentences: sentences of a clip that are looked at.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoders run.
        autocast: whether they run in bfloat16.
        progress: called with (clips done, clips in all).

    Raises:
        UserError: no such head, it compares something else, or fewer than two clips have both modalities.
    """
    if seeds < 1:
        raise UserError(f"seeds is {seeds}; at least 1 is needed, 5 for a comparison")
    if gallery < 2 or galleries < 1:
        raise UserError(f"gallery={gallery}, galleries={galleries}: a gallery has 2 clips or more, and one is needed")
    head = head if head is not None else only_head(encoders)
    models = loaded(encoders, head, seeds)
    pairs, found = embed_pairs(
        models,
        shards,
        sentences=sentences,
        seconds=seconds,
        rate=rate,
        size=size,
        views=views,
        max_sentences=max_sentences,
        batch_size=batch_size,
        workers=workers,
        device=device,
        autocast=autocast,
        progress=progress,
    )
    if len(pairs) < 2:
        raise UserError(f"one clip of '{shards}' has {' and '.join(pairs.modalities)}; a gallery needs two")
    drawn = draw_galleries(pairs.keys, gallery, galleries)
    classes = class_sets(pairs, label, picture_label)
    matchers = [matcher.cpu() for _, matcher in models]

    def answers(a: str, b: str) -> Direction:
        return _direction(
            a, b, pairs, drawn, classes, [_Model(m, s[a], s[b]) for m, s in zip(matchers, found, strict=True)]
        )

    one, other = pairs.modalities
    ways = [(one, other), (other, one)] + ([] if classes is None else [(one, one), (other, other)])
    counts: dict[str, int] = {}
    for cause in pairs.left_out.values():
        counts[cause] = counts.get(cause, 0) + 1
    about = {
        "protocol": PROTOCOL,
        "head": head,
        **pairs.about,
        "clips": len(pairs),
        "gallery": len(drawn[0]),
        "galleries": len(drawn),
        "queries": sum(len(rows) for rows in drawn),
        "not_in_a_gallery": len(pairs) - sum(len(rows) for rows in drawn),
        "gallery_seed": GALLERY_SEED,
        "seeds": seeds,
        "classes": None if classes is None else classes.said,
        "left_out": dict(pairs.left_out),
        "left_out_counts": counts,
    }
    if "text" in pairs.modalities:
        shared = sum(int((own_relevant(pairs.texts, rows).sum(axis=1) > 1).sum()) for rows in drawn)
        rule = "clips whose texts say the same in the same words are relevant to each other"
        about["same_text"] = {"rule": rule, "queries": shared}
    groups = np.unique(source_names(pairs.keys, pairs.metas), return_inverse=True)[1]
    return RetrievalScores(about, {f"{a}_to_{b}": answers(a, b) for a, b in ways}, groups[np.concatenate(drawn)])


def only_head(encoders: Path | str) -> str:
    """The name of the head that a run exported.

    Raises:
        UserError: there is none, or more than one.
    """
    names = sorted(path.stem for path in (encoders_folder(encoders) / "heads").glob("*.json"))
    if len(names) != 1:
        there = f"has the heads {', '.join(names)}; choose one with --head" if names else "has no exported head"
        raise UserError(f"'{encoders}' {there}; retrieval compares modalities by a head that a task exported")
    return names[0]


def loaded(encoders: Path | str, head: str, seeds: int) -> list[Model]:
    """The trained bundle and head, then one of random weights a seed."""
    trained = Encoders.load_head(encoders, head)
    models = [(Encoders.from_pretrained(encoders), trained)]
    for seed in range(seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = type(trained)(**trained.init_args).eval()
        models.append((Encoders.from_pretrained(encoders, random_init=True, seed=seed), fresh))
    return models


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


@dataclass(frozen=True)
class _Model:
    """A head and both sides of all clips."""

    matcher: Any
    query: Side
    gallery: Side


def _direction(
    a: str,
    b: str,
    pairs: Pairs,
    drawn: Sequence[np.ndarray],
    classes: Classes | None,
    models: Sequence[_Model],
) -> Direction:
    """All models' answers to the queries `a` in the galleries of `b`; within one side by class alone."""
    parts: list[list[Answers]] = [[] for _ in models]
    controls: dict[str, list[Answers]] = {"shuffled": [], "shuffled_within_label": []}
    chances = []
    for rows in drawn:
        own = None if a == b else own_relevant(pairs.texts, rows)
        gain = None if classes is None else classes.relevant(a, b, rows)
        for number, model in enumerate(models):
            query, gallery = model.query[rows], model.gallery[rows]
            if a == b:  # the best pair of places of two pictures would be that of their backgrounds
                query, gallery = query.mean(), gallery.mean()
            table = similarities(model.matcher, query, gallery)
            if a == b:  # a query is not in its own gallery
                assert gain is not None
                others = ~np.eye(len(rows), dtype=bool)
                parts[number].append(
                    Answers.of(table[others].reshape(len(rows), -1), None, gain[others].reshape(len(rows), -1))
                )
                continue
            parts[number].append(Answers.of(table, own, gain))
            if number == 0:
                assert own is not None
                partner = np.roll(np.arange(len(rows)), 1)
                controls["shuffled"].append(Answers.of(table, own[partner], None if gain is None else gain[partner]))
                alike = None if classes is None else same_label_partner(classes.query[a], classes.query[b], rows)
                if alike is not None and (alike >= 0).any():
                    controls["shuffled_within_label"].append(Answers.of(table, own[alike], None).only(alike >= 0))
        if a == b:
            assert gain is not None
            gain = gain[~np.eye(len(rows), dtype=bool)].reshape(len(rows), -1)
        chances.append(Answers.chance(own, gain))
    ours, *random = [Answers.joined(some) for some in parts]
    return Direction(
        pretrained=ours,
        random_init=tuple(random),
        controls={name: Answers.joined(some) for name, some in controls.items() if len(some) == len(drawn)},
        chance={name: float(np.mean([one[name] for one in chances])) for name in chances[0]},
        gallery=np.repeat(np.arange(len(drawn)), len(drawn[0])),
    )


def own_relevant(texts: Sequence[tuple[str, ...]], rows: np.ndarray) -> np.ndarray:
    """Bool [G, G]: the own pair, and clips that say exactly the same."""
    said = [frozenset(texts[row]) or row for row in rows.tolist()]
    codes: dict[Any, int] = {}
    code = np.array([codes.setdefault(one, len(codes)) for one in said])
    return np.asarray(code[:, None] == code[None, :])


def same_label_partner(a: Sequence[frozenset[str]], b: Sequence[frozenset[str]], rows: np.ndarray) -> np.ndarray:
    """Int64 [G]: for each clip of a gallery the next one with exactly its labels on both sides, `a` and `b`.

    -1 where there is none, or a side has no label.
    """
    partner = np.full(len(rows), -1)
    members: dict[tuple[frozenset[str], frozenset[str]], list[int]] = {}
    for place, row in enumerate(rows.tolist()):
        if a[row] and b[row]:
            members.setdefault((a[row], b[row]), []).append(place)
    for some in members.values():
        if len(some) > 1:
            partner[some] = np.roll(some, -1)
    return partner
