"""How long a linear probe takes on features that are cached: 10,000 clips, 512 dimensions, 100 classes, 2 cores.

    OMP_NUM_THREADS=2 python benchmarks/probe_speed.py
    OMP_NUM_THREADS=2 python benchmarks/probe_speed.py --reference        # scikit-learn's accuracy beside ours

Timed is what `mmssl evaluate action` does once features are cached: the table is read from its file, the strength is
chosen among five on a validation part of train, the probe is fitted on all of train, and 2,500 test clips are judged.
The features are drawn: class centres under noise, mixed so that the spread along their axes falls by a factor of a
thousand, which makes the solver's work hard. One row is appended to results/probe_speed.jsonl with wall and processor
seconds, threads and the machine's load.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.evaluation.feature_table import FeatureTable
from mmssl.evaluation.linear import STRENGTHS, fit, fit_chosen
from mmssl.metrics.classification import top_k_accuracy
from mmssl.training.environment import environment

RESULTS = Path(__file__).parent / "results" / "probe_speed.jsonl"
LIMIT = 60.0  # seconds on two cores
APART = 0.35  # of the class centres, in spreads of the noise
SPREAD = 1e-3  # least by greatest along the axes


def drawn_table(train: int, test: int, width: int, classes: int, seed: int) -> FeatureTable:
    """Train clips, then test clips, of evenly frequent classes."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) * np.geomspace(1, SPREAD, width)[:, None]
    centres = APART * rng.normal(size=(classes, width))
    labels = np.concatenate([rng.permutation(np.arange(count) % classes) for count in (train, test)])
    features = ((centres[labels] + rng.normal(size=(train + test, width))) @ mix).astype(np.float32)
    return FeatureTable(
        keys=tuple(f"clip{number:06d}" for number in range(train + test)),
        features=features[:, None],
        labels=tuple(f"class{label:03d}" for label in labels),
        metas=({},) * (train + test),
        about={"left_out": {}},
    )


def timed(path: Path, train: int, classes: int, seed: int) -> dict[str, Any]:
    """One evaluation of cached features: wall and processor seconds, the strength, the accuracy."""
    wall, processor = time.perf_counter(), time.process_time()
    table = FeatureTable.load(path)
    names = sorted(set(table.labels), key=str)
    labels = np.array([names.index(label) for label in table.labels])
    probe = fit_chosen(table.features[:train], labels[:train], classes, groups=np.arange(train), seed=seed)
    scores = probe.probabilities(table.features[train:]).mean(axis=1)
    return {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
        "strength": probe.strength,
        "accuracy": top_k_accuracy(scores, labels[train:]),
    }


def compare(path: Path, train: int, classes: int) -> dict[str, dict[str, float]]:
    """Test accuracy of each strength by ours and by scikit-learn on the same standardised features."""
    from sklearn.linear_model import LogisticRegression

    table = FeatureTable.load(path)
    names = sorted(set(table.labels), key=str)
    labels = np.array([names.index(label) for label in table.labels])
    x = table.features[:, 0]
    found = {}
    for strength in STRENGTHS:
        probe = fit(x[:train], labels[:train], classes, (strength,))[0]
        scaled = (x - probe.mean) / probe.scale
        theirs = LogisticRegression(C=1 / (strength * train), max_iter=2000, tol=1e-5).fit(
            scaled[:train], labels[:train]
        )
        hits = (probe.logits(x[train:]).argmax(axis=1) == labels[train:]).mean()
        found[str(strength)] = {
            "ours": float(hits),
            "scikit-learn": float((theirs.predict(scaled[train:]) == labels[train:]).mean()),
        }
        print(f"strength {strength}: {found[str(strength)]}", flush=True)
    return found


def main() -> None:
    """Draw, store, evaluate, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--test", type=int, default=2_500)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", action="store_true", help="compare each strength with scikit-learn, not timed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    row: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "train": options.train,
        "test": options.test,
        "width": options.width,
        "classes": options.classes,
        "strengths": list(STRENGTHS),
        "seed": options.seed,
        **environment(torch.device("cpu"), "float64"),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npz"
        drawn_table(options.train, options.test, options.width, options.classes, options.seed).save(path)
        load = os.getloadavg()[0]
        row |= {"load": load} | timed(path, options.train, options.classes, options.seed)
        if options.reference:
            row["reference"] = compare(path, options.train, options.classes)
    with open(options.out, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(
        f"{row['seconds']:.1f} s ({row['processor_seconds']:.1f} processor seconds on {threads} threads, load "
        f"{load:.1f}; the limit is {LIMIT:.0f} s), strength {row['strength']}, accuracy {100 * row['accuracy']:.1f} %"
    )
    if row["seconds"] > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
