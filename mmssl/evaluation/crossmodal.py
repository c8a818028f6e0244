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
from mmssl.evaluation.pairs import Model, Pairs, embed_pairs
from mmssl.evaluation.relevance import (
    GALLERY_SEED,
    Classes,
    class_sets,
    draw_galleries,
    partners,
    query_groups,
    text_codes,
)
from mmssl.evaluation.retrieval_scores import Answers, Direction, RetrievalScores
from mmssl.evaluation.sentences import SentenceRule
from mmssl.evaluation.sides import Side, similarities
from mmssl.nn.encoders import Encoders, encoders_folder

PROTOCOL = "crossmodal-retrieval-v1"
GALLERY = 500
GALLERIES = 10


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

    def sides(a: str, b: str) -> list[_Model]:
        return [_Model(m, s[a], s[b]) for m, s in zip(matchers, found, strict=True)]

    one, other = pairs.modalities
    directions = {
        f"{a}_to_{b}": _across(a, b, pairs, drawn, classes, sides(a, b)) for a, b in ((one, other), (other, one))
    }
    if classes is not None:
        directions |= {f"{a}_to_{a}": _within(a, pairs, drawn, classes, sides(a, a)) for a in (one, other)}
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
        codes = [text_codes(pairs.texts, rows) for rows in drawn]
        about["same_text"] = {
            "rule": "clips of the same words are relevant to each other, and one item where texts are sought",
            "queries": sum(int((np.bincount(code)[code] > 1).sum()) for code in codes),
            "distinct_texts": [len(np.unique(code)) for code in codes],
        }
    return RetrievalScores(about, directions)


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


@dataclass(frozen=True)
class _Model:
    """A head and both sides of all clips."""

    matcher: Any
    query: Side
    gallery: Side


def _across(
    a: str,
    b: str,
    pairs: Pairs,
    drawn: Sequence[np.ndarray],
    classes: Classes | None,
    models: Sequence[_Model],
) -> Direction:
    """All models' answers to the queries `a` in the galleries of `b`, by own pair and by class."""
    parts: list[list[Answers]] = [[] for _ in models]
    controls: dict[str, list[Answers]] = {"shuffled": [], "shuffled_within_label": []}
    chances = []
    for rows in drawn:
        code = text_codes(pairs.texts, rows)
        # Sentences that say the same are one item: a gallery of them would be found in blocks, which no chance knows.
        items = np.unique(code, return_index=True)[1] if b == "text" else np.arange(len(rows))
        own = code[:, None] == code[items][None]
        gain = None if classes is None else classes.relevant(a, b, rows)
        for number, model in enumerate(models):
            table = similarities(model.matcher, model.query[rows], model.gallery[rows])
            parts[number].append(Answers.of((table[:, items], own), None if gain is None else (table, gain)))
            if number == 0:
                other = partners(np.zeros(len(rows), dtype=int), code)
                shifted = None if gain is None else (table, gain[other])
                controls["shuffled"].append(Answers.of((table[:, items], own[other]), shifted).only(other >= 0))
                if classes is not None:
                    alike = partners(classes.codes(a, b, rows), code)
                    controls["shuffled_within_label"].append(
                        Answers.of((table[:, items], own[alike]), None).only(alike >= 0)
                    )
        chances.append(Answers.chance(own, gain))
    made = {name: Answers.joined(some) for name, some in controls.items() if some}
    controlled = {name: answers for name, answers in made.items() if answers.count()}
    return _joined(parts, chances, controlled, a, pairs, np.concatenate(drawn))


def _within(
    side: str, pairs: Pairs, drawn: Sequence[np.ndarray], classes: Classes, models: Sequence[_Model]
) -> Direction:
    """All models' answers to the queries of one side among the others of that side, by class.

    A clip is one vector, the mean of its parts: the best pair of places of two pictures is that of their backgrounds.
    """
    parts: list[list[Answers]] = [[] for _ in models]
    chances = []
    for rows in drawn:
        others = ~np.eye(len(rows), dtype=bool)  # a query is not in its own gallery
        gain = classes.relevant(side, side, rows)[others].reshape(len(rows), -1)
        for number, model in enumerate(models):
            mean = model.query[rows].mean()
            table = similarities(model.matcher, mean, mean)[others].reshape(len(rows), -1)
            parts[number].append(Answers.of(None, (table, gain)))
        chances.append(Answers.chance(None, gain))
    return _joined(parts, chances, {}, side, pairs, np.concatenate(drawn))


def _joined(
    parts: Sequence[Sequence[Answers]],
    chances: Sequence[Mapping[str, float]],
    controls: Mapping[str, Answers],
    side: str,
    pairs: Pairs,
    rows: np.ndarray,
) -> Direction:
    """The galleries' answers together, to queries of the clips' one side; the first model is the trained one."""
    ours, *random = [Answers.joined(some) for some in parts]
    names = [name for name in chances[0] if all(name in one for one in chances)]
    return Direction(
        pretrained=ours,
        random_init=tuple(random),
        controls=controls,
        chance={name: float(np.mean([one[name] for one in chances])) for name in names},
        gallery=np.repeat(np.arange(len(chances)), len(next(iter(ours.each.values()))) // len(chances)),
        groups=query_groups(side, pairs, rows),
        keys=tuple(pairs.keys[row] for row in rows.tolist()),
    )
