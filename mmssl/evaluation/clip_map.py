"""Where clips lie among each other: their features in two dimensions, and how many nearest clips share their label.

Principal components are exact; t-SNE (van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 9, 2008) keeps
neighbours together and nothing else: distances between groups and the groups' sizes say nothing. The agreement of
neighbours is counted in the features themselves, never on the map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.looking import look, seen_encoder
from mmssl.metrics.statistics import Interval, bootstrap, paired_difference, verdict
from mmssl.nn.encoders import Encoders

PROTOCOL = "neighbour-agreement-v1"
MOST_CLIPS = 2000
NEAREST = 5
COMPONENTS = 50  # t-SNE is given so many principal components
PERPLEXITY = 30.0
LEAST_GROUPS = 5  # sources; with fewer, an interval over them says nothing
LEAST_SEEDS = 5


@dataclass(frozen=True)
class ClipMap:
    """Clips with their features.

    Args:
        keys, sources, labels: of the N clips.
        pictures: uint8 [N, H, W, 3], the middle frame of each.
        features: float32 [N, D] of the trained encoder.
        random_init: float32 [S, N, D] of the same architecture with random weights, drawn S times.
        places: float32 [N, 2] in [0, 1].
        neighbours: int [N, K], the nearest clips of other sources, nearest first; -1 where there are fewer.
        similarity: float32 [N, K], their cosines.
        about: encoder, shards, how the clips were drawn, how the map was made.
    """

    keys: tuple[str, ...]
    sources: tuple[str, ...]
    labels: tuple[str | None, ...]
    pictures: np.ndarray
    features: np.ndarray
    random_init: np.ndarray
    places: np.ndarray
    neighbours: np.ndarray
    similarity: np.ndarray
    about: Mapping[str, Any]

    def agreement(self) -> dict[str, Any]:
        """Share of the nearest clips that have the clip's label, beside random weights and chance; see `agreement`."""
        theirs = [nearest(one, self.sources)[0] for one in self.random_init]
        return agreement(self.neighbours, theirs, self.labels, self.sources)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `clips.json`."""
        return {
            **self.about,
            **self.agreement(),
            "clips": [
                {
                    "key": key,
                    "label": self.labels[n],
                    "place": [round(float(v), 5) for v in self.places[n]],
                    "nearest": [self.keys[k] for k in self.neighbours[n] if k >= 0],
                }
                for n, key in enumerate(self.keys)
            ],
        }


def map_clips(
    encoders: str,
    shards: str,
    *,
    encoder: str = "video",
    picture: Span = Span(2.0, 8.0),
    size: int | tuple[int, int] = 96,
    limit: int = 600,
    method: str = "tsne",
    seed: int = 0,
    seeds: int = 5,
    batch_size: int = 32,
    workers: int = 2,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClipMap:
    """Features, frames and places of a drawn sample of clips, each decoded once.

    Args:
        encoders: run folder, or its encoders folder.
        shards: shard specification.
        encoder: which encoder.
        picture: length and rate of what it sees.
        size: height and width of the frames.
        limit: how many clips are drawn at most, by the seed; no more than 2,000.
        method: "tsne" or "pca".
        seed: of the sample and of t-SNE.
        seeds: random initialisations that the agreement stands beside; 5 for a claim.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoders run.
        progress: called with (clips done, clips wanted).

    Raises:
        UserError: too many clips are asked for, or fewer than three can be used.
    """
    if not 3 <= limit <= MOST_CLIPS:
        raise UserError(f"limit={limit}: between 3 and {MOST_CLIPS} clips can be shown on one page")
    if seeds < 1:
        raise UserError(f"seeds={seeds}: at least 1 random initialisation is needed, 5 for a claim")
    if method not in ("tsne", "pca"):
        raise UserError(f"method='{method}': choose tsne or pca")
    bundles = [Encoders.from_pretrained(encoders).to(device)]
    bundles += [Encoders.from_pretrained(encoders, random_init=True, seed=s).to(device) for s in range(seeds)]
    seen_encoder(bundles[0], encoder)
    keys: list[str] = []
    sources: list[str] = []
    labels: list[str | None] = []
    pictures: list[np.ndarray] = []
    features: list[list[np.ndarray]] = [[] for _ in bundles]
    left_out: dict[str, str] = {}
    for seen in look(
        bundles[0], shards, encoder=encoder, picture=picture, size=size, batch_size=batch_size, workers=workers,
        device=device, limit=limit, seed=seed, left_out=left_out, progress=progress,
    ):  # fmt: skip
        keys += seen.keys
        sources += seen.sources
        labels += seen.labels
        pictures += list(seen.frames[:, seen.frames.shape[1] // 2].transpose(0, 2, 3, 1))
        for own, bundle in zip(features, bundles, strict=True):
            with torch.inference_mode():
                own.append(seen.pooled(bundle[encoder](seen.inputs)).cpu().numpy())
    if len(keys) < 3:
        raise UserError(f"only {len(keys)} clips of '{shards}' can be shown to '{encoder}'; a map needs three")
    ours, *theirs = (np.concatenate(own) for own in features)
    if not np.isfinite(ours).all():
        raise UserError("the encoder gives features that are not finite; its weights are broken, train it again")
    found, similarity = nearest(ours, sources)
    about = {
        "protocol": PROTOCOL,
        "encoder": encoder,
        "shards": shards,
        "seconds": picture.seconds,
        "rate": picture.rate,
        "size": [size, size] if isinstance(size, int) else list(size),
        "views": 1,
        "decoder": "pyav",
        "seed": seed,
        "seeds": seeds,
        "drawn": len(keys),
        "left_out": left_out,
        "map": "t-SNE of the cosines" if method == "tsne" else "first two principal components",
    }
    places = tsne(ours, seed) if method == "tsne" else principal(unit(ours), 2)
    return ClipMap(
        tuple(keys), tuple(sources), tuple(labels), np.stack(pictures), ours, np.stack(theirs), in_square(places),
        found, similarity, about,
    )  # fmt: skip


def unit(features: np.ndarray) -> np.ndarray:
    """Float32 [N, D], the mean taken off, then of unit length; zeros stay zeros."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, 1.0), dtype=np.float32)


def principal(features: np.ndarray, count: int) -> np.ndarray:
    """Float32 [N, count]: the first principal components; each points to where its largest loading is positive."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    count = min(count, *centred.shape)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    found = left[:, :count] * sizes[:count] * np.where(signs[:count] == 0, 1.0, signs[:count])
    return np.asarray(np.pad(found, ((0, 0), (0, 2 - count))) if count < 2 else found, dtype=np.float32)


def tsne(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Float32 [N, 2] by t-SNE of unit features, begun at the principal components."""
    from sklearn.manifold import TSNE

    made = unit(features)
    if np.ptp(made, axis=0).max() == 0:  # a collapsed encoder has one place for all
        return np.zeros((len(made), 2), dtype=np.float32)
    reduced = principal(made, COMPONENTS)
    start = reduced[:, :2] / max(float(reduced[:, 0].std()), 1e-12) * 1e-4
    perplexity = min(PERPLEXITY, (len(made) - 1) / 3)
    solver = TSNE(2, perplexity=perplexity, init=start, learning_rate="auto", random_state=seed, n_jobs=1)
    return np.asarray(solver.fit_transform(reduced), dtype=np.float32)


def in_square(places: np.ndarray) -> np.ndarray:
    """Places [N, 2] scaled into [0, 1] by one factor for both axes, so that shapes stay."""
    low, high = places.min(axis=0), places.max(axis=0)
    side = max(float((high - low).max()), 1e-12)
    return np.asarray((places - (low + high) / 2) / side + 0.5, dtype=np.float32)


def nearest(features: np.ndarray, sources: Sequence[str], count: int = NEAREST) -> tuple[np.ndarray, np.ndarray]:
    """Numbers int64 [N, K] and cosines float32 [N, K] of the nearest clips of other sources, -1 and 0 for none.

    Clips cut from one film look alike without any learning, so they do not count as found.
    """
    made = unit(features)
    similarity = made @ made.T
    number = np.unique(np.array(sources), return_inverse=True)[1]
    similarity[number[:, None] == number[None, :]] = -np.inf
    count = min(count, len(made) - 1)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    values = np.take_along_axis(similarity, order, axis=1)
    there = np.isfinite(values)
    return np.where(there, order, -1), np.where(there, values, 0.0).astype(np.float32)


def agreement(
    found: np.ndarray, untrained: Sequence[np.ndarray], labels: Sequence[str | None], sources: Sequence[str]
) -> dict[str, Any]:
    """Share of the nearest clips that have the clip's label, over clips with labels.

    Args:
        found: int [N, K], neighbours by the trained encoder; -1 for none.
        untrained: the same by random weights, one a draw of them.
        labels: of the clips.
        sources: of the clips; those of one source are resampled together.

    Returns:
        `agreement`: `pretrained` and `random_init` (mean, low, high), `chance`, the `difference` with its word; an
        empty `agreement` where no clip has a neighbour with a label.
    """
    known = np.array([label is not None for label in labels])
    names = np.unique(np.array(sources), return_inverse=True)[1]
    kinds = np.unique(np.array([label or "" for label in labels]), return_inverse=True)[1]
    same, other = kinds[:, None] == kinds[None, :], names[:, None] != names[None, :]
    pairs = other & known[:, None] & known[None, :]
    if not pairs.any():
        return {"agreement": {}, "neighbours": found.shape[1]}

    def share(neighbours: np.ndarray) -> np.ndarray:
        usable = (neighbours >= 0) & known[np.maximum(neighbours, 0)] & known[:, None]
        right = usable & (kinds[np.maximum(neighbours, 0)] == kinds[:, None])
        count = usable.sum(axis=1)
        return np.where(count > 0, right.sum(axis=1) / np.maximum(count, 1), np.nan)

    theirs = np.stack([share(one) for one in untrained])  # [S, N]
    ours = np.repeat(share(found)[None], len(theirs), axis=0)
    judged = ~np.isnan(ours).any(axis=0) & ~np.isnan(theirs).any(axis=0)
    ours, theirs = ours[:, judged], theirs[:, judged]
    groups = names[judged]
    guessed = (same & pairs).sum(axis=1) / np.maximum(pairs.sum(axis=1), 1)
    made: dict[str, Any] = {"chance": float(guessed[judged].mean())}
    gap: Interval | None = None
    if len(set(groups.tolist())) >= LEAST_GROUPS:
        made["pretrained"] = bootstrap(ours, groups).as_dict()
        made["random_init"] = bootstrap(theirs, groups).as_dict()
        gap = paired_difference(ours, theirs, groups)
        said = verdict(gap)
        if len(theirs) < LEAST_SEEDS:
            said = f"not judged: {len(theirs)} random initialisations, the rule asks for {LEAST_SEEDS}"
    else:
        made |= {name: {"mean": float(v.mean())} for name, v in (("pretrained", ours), ("random_init", theirs))}
        said = f"not judged: fewer than {LEAST_GROUPS} sources"
    mean = float((ours - theirs).mean())
    made["difference"] = ({"mean": mean} if gap is None else gap.as_dict()) | {"verdict": said}
    return {"agreement": made, "neighbours": found.shape[1], "judged": int(judged.sum())}
