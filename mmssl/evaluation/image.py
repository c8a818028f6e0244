"""Image classification by frozen features: linear probe and nearest neighbours, beside random init and plain colours.

Protocols ``image-linear-v1`` and ``image-knn-v1``: the probes of `mmssl.evaluation.linear` and `.knn` on one vector a
picture. Seed s means another random initialisation (of the baseline), another 80 % of each class's train pictures,
another start of the head; rows are paired by seed and picture. Beside the encoder: the same architecture with random
weights, the picture itself averaged to 16 x 16 pixels, and its colour histogram.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmssl.errors import UserError
from mmssl.evaluation.folds import TRAIN_SHARE, drawn_part
from mmssl.evaluation.image_files import ImageSet, Reading, batches, two_parts
from mmssl.evaluation.knn import knn_scores, neighbours_for
from mmssl.evaluation.linear import fit_chosen
from mmssl.evaluation.per_clip import PerClip
from mmssl.evaluation.picture_encoder import picture_encoder
from mmssl.metrics.classification import confusion_matrix, mean_class_accuracy, top_k_hits
from mmssl.metrics.statistics import paired_difference, verdict
from mmssl.nn.encoders import Encoders

LINEAR, KNN = "image-linear-v1", "image-knn-v1"
ROWS = ("pretrained", "random_init", "pixels", "colours")
PROBES = ("linear", "knn")
TOP = 5
PIXELS, COLOURS = 16, 8  # sides of the small picture, and bins a channel


@dataclass(frozen=True)
class ImageTable:
    """Vectors of N pictures that could be read.

    Args:
        keys: of the pictures.
        labels: their classes by name.
        vectors: row name -> float32 [N, D]; random_init has one a seed, ``random_init 0`` and so on.
        reading: what could not be read, and digests of what could.
    """

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: Mapping[str, np.ndarray]
    reading: Reading


@dataclass(frozen=True)
class ImageScores:
    """Hits of every row, probe, seed and test picture.

    Args:
        about: protocols and settings.
        keys: of the test pictures.
        labels: int [N], their classes.
        top_1: probe -> row -> float64 [S, N].
        top_5: the same for the five best classes.
        confusion: int64 [C, C] of the pretrained linear probe, true classes in rows, summed over seeds.
        majority: accuracy of always saying the most frequent train class.
    """

    about: Mapping[str, Any]
    keys: tuple[str, ...]
    labels: np.ndarray
    top_1: Mapping[str, Mapping[str, np.ndarray]]
    top_5: Mapping[str, Mapping[str, np.ndarray]]
    confusion: np.ndarray
    majority: float

    def minus(self, probe: str, row: str) -> dict[str, Any]:
        """Pretrained minus a row, paired by seed and picture: mean, 95 % interval, verdict."""
        interval = paired_difference(self.top_1[probe]["pretrained"], self.top_1[probe][row])
        return interval.as_dict() | {"verdict": verdict(interval)}

    def per_clip(self) -> PerClip:
        """Each picture's hits by "probe/row", for comparisons of runs."""
        values = {f"{probe}/{row}": hits for probe, rows in self.top_1.items() for row, hits in rows.items()}
        return PerClip(self.keys, self.keys, values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`, fractions."""
        probes: dict[str, Any] = {}
        for probe in PROBES:
            rows: dict[str, Any] = {}
            for row in ROWS:
                by_seed = self.top_1[probe][row].mean(axis=1)
                classes = [mean_class_accuracy(hits, self.labels) for hits in self.top_1[probe][row]]
                rows[row] = {
                    "mean": float(by_seed.mean()),
                    "std": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0,
                    "seeds": [float(v) for v in by_seed],
                    f"top_{self.about['top']}": float(self.top_5[probe][row].mean()),
                    "mean_class_accuracy": float(np.mean(classes)),
                }
            probes[probe] = {
                "rows": rows,
                "pretrained_minus": {row: self.minus(probe, row) for row in ROWS if row != "pretrained"},
            }
        return {
            "evaluation": "image",
            **self.about,
            "chance": 1.0 / len(self.about["classes"]),
            "majority": self.majority,
            **probes,
            "confusion": self.confusion.tolist(),
        }


def evaluate_image(
    encoders: Path | str,
    data: Path | None = None,
    train: Path | None = None,
    test: Path | None = None,
    *,
    encoder: str = "image",
    size: int = 96,
    level: int | None = None,
    grid: int = 1,
    limit: int | None = None,
    test_limit: int | None = None,
    seeds: int = 5,
    batch_size: int = 64,
    threads: int = 2,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImageScores:
    """Evaluate the picture encoder of a run on labelled pictures.

    Args:
        encoders: run folder or `encoders` folder.
        data: a place that holds train and test; see `two_parts`.
        train: with `test`, two places instead of one.
        test: see `train`.
        encoder: a picture encoder of the bundle.
        size: side of the pictures that the encoder sees.
        level: stride of the map whose means over `grid` x `grid` parts are the features; the pooled vector unless
            given.
        grid: see `level`.
        limit: train pictures of each class at most.
        test_limit: test pictures of each class at most.
        seeds: how many seeds.
        batch_size: pictures at a time.
        threads: that decode.
        device: where encoders and probes run.
        progress: is called with (pictures done, pictures in all).

    Raises:
        UserError: the pictures, their classes or a setting cannot be used.
    """
    if seeds < 1:
        raise UserError(f"seeds is {seeds}; at least 1 is needed, 5 for a comparison")
    if size < 16:
        raise UserError(f"size={size}: the encoder needs to see 16 pixels at least")
    if grid < 1 or (grid > 1 and level is None):
        raise UserError(f"grid={grid}: give a number of parts from 1 on, and the --level whose map is cut into them")
    bundles = {"pretrained": Encoders.from_pretrained(encoders)}
    for seed in range(seeds):
        bundles[f"random_init {seed}"] = Encoders.from_pretrained(encoders, random_init=True, seed=seed)
    strides = () if level is None else (level,)
    parts = {name: picture_encoder(bundle, encoder, strides).to(device).eval() for name, bundle in bundles.items()}
    first, second = two_parts(data, train, test)
    sets = [first.limited(limit), second.limited(test_limit)]
    classes = _classes(sets)
    total, before = sum(len(one) for one in sets), (0, len(sets[0]))

    def extract(number: int) -> ImageTable:
        def told(done: int) -> None:
            progress(before[number] + done, total)

        return _table(sets[number], parts, size, level, grid, batch_size, threads, device, told)

    known, tested = extract(0), extract(1)
    twice = len(set(known.reading.digests) & set(tested.reading.digests))
    about = {
        "protocol": {"linear": LINEAR, "knn": KNN},
        "encoder": encoder,
        "features": "pooled" if level is None else f"level {level}, means of {grid} x {grid} parts",
        "size": size,
        "decoder": "pictures",
        "views": 1,
        "seeds": seeds,
        "train_share": TRAIN_SHARE,
        "classes": classes,
        "train_pictures": len(known.keys),
        "test_pictures": len(tested.keys),
        "in_train_and_test": twice,
        "left_out": {"train": known.reading.left_out, "test": tested.reading.left_out},
        "top": min(TOP, len(classes)),
        "accuracy": "of the test pictures that could be read; fractions",
    }
    return _probe(known, tested, classes, seeds, about, device)


def _classes(sets: Sequence[ImageSet]) -> list[str]:
    train, test = (set(one.labels) for one in sets)
    if lacking := sorted(test - train):
        names = ", ".join(f"'{name}'" for name in lacking[:5])
        raise UserError(f"{len(lacking)} classes of the test pictures are not among the train pictures ({names})")
    if len(train) < 2:
        raise UserError(f"all train pictures are of the class '{min(train)}'; a probe needs at least two classes")
    return sorted(train)


@torch.inference_mode()
def _table(
    images: ImageSet,
    parts: Mapping[str, torch.nn.Module],
    size: int,
    level: int | None,
    grid: int,
    batch_size: int,
    threads: int,
    device: torch.device | str,
    progress: Callable[[int], None],
) -> ImageTable:
    reading, kept = Reading(), []
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in (*parts, "pixels", "colours")}
    for rows, pixels in batches(images, size, reading, batch_size, threads):
        x = pixels.to(device).float() / 255.0
        for name, part in parts.items():
            found = part(x)
            if level is None:
                vector = found.pooled
            else:
                vector = F.adaptive_avg_pool2d(found.levels[level], grid).flatten(1)
            vectors[name].append(vector.float().cpu().numpy())
        vectors["pixels"].append(small_pictures(pixels))
        vectors["colours"].append(colour_histograms(pixels))
        kept += rows
        progress(kept[-1] + 1)
    if not kept:
        raise UserError(f"no picture of '{images.source}' can be read")
    joined = {name: np.concatenate(some).astype(np.float32) for name, some in vectors.items()}
    for name in parts:
        if not np.isfinite(joined[name]).all():
            raise UserError("the encoder gives features that are not finite; its weights are broken, train it again")
    some = images.rows(kept)
    return ImageTable(some.keys, some.labels, joined, reading)


def small_pictures(pixels: torch.Tensor) -> np.ndarray:
    """Float32 [B, 768] of pictures uint8 [B, 3, H, W]: means of 16 x 16 parts."""
    return F.adaptive_avg_pool2d(pixels.float() / 255.0, PIXELS).flatten(1).numpy()


def colour_histograms(pixels: torch.Tensor) -> np.ndarray:
    """Float32 [B, 512] of pictures uint8 [B, 3, H, W]: roots of the shares of 8 x 8 x 8 colours."""
    bins = (pixels.long() * COLOURS) // 256
    joint = (bins[:, 0] * COLOURS + bins[:, 1]) * COLOURS + bins[:, 2]
    counts = torch.stack([torch.bincount(one.flatten(), minlength=COLOURS**3) for one in joint])
    return (counts.float() / joint[0].numel()).sqrt().numpy()


def _probe(
    train: ImageTable,
    test: ImageTable,
    classes: Sequence[str],
    seeds: int,
    about: Mapping[str, Any],
    device: torch.device | str,
) -> ImageScores:
    number = {name: i for i, name in enumerate(classes)}
    known, tested = (np.array([number[name] for name in table.labels]) for table in (train, test))
    if lost := sorted(set(tested) - set(known)):
        raise UserError(f"no train picture of the class '{classes[lost[0]]}' can be read")
    top_1 = {probe: {row: np.zeros((seeds, len(tested))) for row in ROWS} for probe in PROBES}
    top_5 = {probe: {row: np.zeros((seeds, len(tested))) for row in ROWS} for probe in PROBES}
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    majority, neighbours, strengths = [], set(), []
    for seed in range(seeds):
        part = np.flatnonzero(drawn_part(train.keys, known, seed))
        labels = known[part]
        k = neighbours_for(labels)
        neighbours.add(k)
        majority.append(float((tested == np.bincount(labels).argmax()).mean()))
        for row in ROWS:
            name = f"random_init {seed}" if row == "random_init" else row
            x, y = train.vectors[name][part][:, None], test.vectors[name][:, None]
            fitted = fit_chosen(x, labels, len(classes), groups=part, seed=seed, device=device)
            found = {
                "linear": fitted.probabilities(y[:, 0]),
                "knn": knn_scores(x, labels, y, len(classes), k),
            }
            for probe, scores in found.items():
                top_1[probe][row][seed] = top_k_hits(scores, tested)
                top_5[probe][row][seed] = top_k_hits(scores, tested, about["top"])
            if row == "pretrained":
                strengths.append(fitted.strength)
                confusion += confusion_matrix(found["linear"].argmax(axis=1), tested, len(classes))
    details = {"neighbours": sorted(neighbours), "strengths": strengths}
    return ImageScores({**about, **details}, test.keys, tested, top_1, top_5, confusion, float(np.mean(majority)))
