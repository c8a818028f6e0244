"""Detection by Faster R-CNN on an encoder, protocol ``detection-frcnn-v1``, judged as COCO does.

Beside the pretrained encoder: the same architecture with random weights, trained in the same way with the same
settings, and the mean train box of each class in every picture. Seed s means other weights of the detector (and of the
random encoder), another order, other samples of regions. Nothing is chosen by any score: the last step is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.errors import UserError
from mmssl.evaluation.boxed_pictures import BoxedPicture, BoxedSets
from mmssl.evaluation.detector import Detector, found_boxes, train_detector
from mmssl.evaluation.picture_encoder import picture_encoder
from mmssl.metrics.box_precision import (
    ClassMatches,
    FoundBoxes,
    box_average_precision,
    match_pictures,
    mean_precision,
)
from mmssl.metrics.statistics import bootstrap_score, verdict
from mmssl.nn.encoders import Encoders

PROTOCOL = "detection-frcnn-v1"
ROWS = ("pretrained", "random_init", "mean_box")
LEAST_CLIPS = 5  # with fewer, an interval over clips says nothing
RESAMPLES = 500  # an average precision costs more than a mean
NO_MEAN = "an average precision ranks the boxes of all pictures together and is no mean over pictures"


@dataclass(frozen=True)
class DetectionScores:
    """What was found under every row and seed.

    Args:
        about: protocol and settings.
        matches: row -> for each seed, the matches of each class.
        clips: [P], the clip of each test picture.
    """

    about: Mapping[str, Any]
    matches: Mapping[str, Sequence[Sequence[ClassMatches]]]
    clips: np.ndarray

    def minus(self, row: str) -> dict[str, Any]:
        """Pretrained minus a row: difference of the APs, its 95 % interval over seeds and clips, a verdict."""
        ours, theirs = self.matches["pretrained"], self.matches[row]

        def score(of_seeds: np.ndarray, of_pictures: np.ndarray) -> float:
            each = [
                mean_precision(box_average_precision(a, of_pictures))
                - mean_precision(box_average_precision(b, of_pictures))
                for a, b, weight in zip(ours, theirs, of_seeds, strict=True)
                if weight > 0
            ]
            return float(np.average(each, weights=of_seeds[of_seeds > 0]))

        if len(set(self.clips)) < LEAST_CLIPS:
            mean = score(np.ones(len(ours)), np.ones(len(self.clips)))
            return {"mean": mean, "verdict": f"fewer than {LEAST_CLIPS} clips: no interval"}
        interval = bootstrap_score(score, len(ours), len(self.clips), self.clips, resamples=RESAMPLES)
        return interval.as_dict() | {"verdict": verdict(interval)}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `results.json`, fractions."""
        rows: dict[str, Any] = {}
        for row in ROWS:
            by_seed = [box_average_precision(seed) for seed in self.matches[row]]  # [C, T] each
            ap = [mean_precision(one) for one in by_seed]
            by_class = np.mean([one.mean(axis=1) for one in by_seed], axis=0)
            rows[row] = {
                "ap": float(np.mean(ap)),
                "std": float(np.std(ap, ddof=1)) if len(ap) > 1 else 0.0,
                "seeds": ap,
                "ap_50": float(np.mean([mean_precision(one[:, 0]) for one in by_seed])),
                "ap_75": float(np.mean([mean_precision(one[:, 5]) for one in by_seed])),
                "class_ap": {
                    name: None if np.isnan(value) else float(value)
                    for name, value in zip(self.about["classes"], by_class, strict=True)
                },
            }
        return {
            "evaluation": "detection",
            **self.about,
            "rows": rows,
            "no_mean_over_clips": {"ap": NO_MEAN},
            "pretrained_minus": {row: self.minus(row) for row in ROWS if row != "pretrained"},
        }


def evaluate_detection(
    encoders: Path | str,
    sets: BoxedSets,
    *,
    how: Detector | None = None,
    encoder: str = "image",
    seeds: int = 5,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DetectionScores:
    """Train and judge detectors on the picture encoder of a run, and on random weights.

    Args:
        encoders: run folder or `encoders` folder.
        sets: train and test pictures, from `soundstage_boxes` or `coco_boxes`.
        how: settings of the detector, the same for both encoders.
        encoder: a picture encoder of the bundle.
        seeds: how many seeds.
        device: where the detectors are trained.
        progress: is called with (steps done, steps in all).

    Raises:
        UserError: the encoder or a setting cannot be used.
    """
    how = how or Detector()
    if seeds < 1:
        raise UserError(f"seeds is {seeds}; at least 1 is needed, 5 for a comparison")
    done, total, classes = 0, 2 * seeds * how.steps, len(sets.classes)

    def told() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    matches: dict[str, list[list[ClassMatches]]] = {row: [] for row in ROWS}
    truth = [picture.truth for picture in sets.test]
    for seed in range(seeds):
        for row in ROWS[:2]:
            bundle = Encoders.from_pretrained(encoders, random_init=row == "random_init", seed=seed)
            part = picture_encoder(bundle, encoder, None)
            model = train_detector(part, sets.train, classes, how, seed, device, told)
            matches[row].append(match_pictures(found_boxes(model, sets.test, device), truth, classes))
        matches["mean_box"].append(match_pictures(mean_boxes(sets.train, sets.test, classes), truth, classes))
    about = {
        "protocol": PROTOCOL,
        "encoder": encoder,
        "settings": asdict(how),
        "classes": list(sets.classes),
        "train_pictures": len(sets.train),
        "test_pictures": len(sets.test),
        "train_boxes": int(sum((~picture.truth.crowd).sum() for picture in sets.train)),
        "test_boxes": int(sum((~one.crowd).sum() for one in truth)),
        "notes": dict(sets.notes),
        "decoder": sets.decoder,
        "views": "every picture by itself",
        "seeds": seeds,
        "resamples": RESAMPLES,
    }
    return DetectionScores(about, matches, np.array([picture.clip for picture in sets.test]))


def mean_boxes(train: Sequence[BoxedPicture], test: Sequence[BoxedPicture], classes: int) -> list[FoundBoxes]:
    """In every test picture the mean train box of each class, as a share of the picture; scored by how often it is."""
    shares: list[list[np.ndarray]] = [[] for _ in range(classes)]
    for picture in train:
        side = np.array([picture.size[1], picture.size[0]] * 2)
        for box, label, crowd in zip(picture.truth.boxes, picture.truth.labels, picture.truth.crowd, strict=True):
            if not crowd:
                shares[label].append(box / side)
    labels = np.array([label for label in range(classes) if shares[label]], dtype=np.int64)
    middle = np.stack([np.mean(shares[label], axis=0) for label in labels])
    scores = np.array([len(shares[label]) for label in labels]) / sum(len(some) for some in shares)
    return [FoundBoxes(middle * np.array([p.size[1], p.size[0]] * 2), labels, scores) for p in test]
