r"""Real action clips: pretrained, random init and supervised from scratch, by linear probe, kNN and fine-tuning.

    python benchmarks/real_actions.py \
        --corpus ut_interaction 'ut/clips-000000.tar' '_seq(\d+)' --corpus fights 'fights/*.tar' 'fi(\d\d)\d' \
        --encoders 'rgb_flow on Soundstage' runs/rgb_flow --encoders 'av_sync on Soundstage' runs/av_sync

A corpus is a name, its shards, and the regular expression of the groups that are left out one at a time; '' takes the
clips' field `split` instead. The linear and kNN rows, and what stands beside them, are those of
`mmssl evaluate action`; the fine-tuned ones those of `mmssl evaluate finetune`, with a lighter recipe. A supervised
network is also frozen after its training, and its features are probed like the others.

It goes on where it was stopped: one row a (corpus, encoder, mode, seed) is appended to results/real_actions.jsonl and
what is there with the same options is not done again; the table is written into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import write_between

from mmssl.clip import Span
from mmssl.evaluation.action import evaluate_action
from mmssl.evaluation.classifier import Classifier, Machine, frozen_vectors
from mmssl.evaluation.crops import Augmentation
from mmssl.evaluation.finetune import ROWS, Finetuning, arranged, build_classifier, train_part
from mmssl.evaluation.footage import Footage, make_footage, survey
from mmssl.evaluation.knn import knn_scores, neighbours_for
from mmssl.evaluation.linear import fit_chosen
from mmssl.evaluation.supervised import Recipe, Setting
from mmssl.metrics.statistics import Interval, paired_difference, verdict
from mmssl.training.environment import environment

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
PROBES = ("linear", "knn")
SCRATCH = ROWS[1]
Row = dict[str, Any]


class Results:
    """Rows in a file, found again by what they are of.

    Args:
        path: JSON lines.
        options: what rows must share to stand in one table.
    """

    def __init__(self, path: Path, options: Row) -> None:
        self.path, self.options = path, options
        self.about = environment(torch.device("cpu"), "bf16" if options["bfloat16"] else "fp32")

    def rows(self) -> list[Row]:
        """All rows made with these options, oldest first."""
        if not self.path.is_file():
            return []
        found = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [row for row in found if row["options"] == self.options]

    def find(self, **wanted: Any) -> Row | None:
        """The newest row with these values."""
        fits = [row for row in self.rows() if all(row.get(name) == value for name, value in wanted.items())]
        return fits[-1] if fits else None

    def append(self, **row: Any) -> None:
        """Add a row."""
        stamp = {"benchmark": "real_actions", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        whole = {**stamp, **self.about, "load": os.getloadavg()[0], "options": self.options, **row}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(whole) + "\n")
        print({k: v for k, v in row.items() if k in ("corpus", "encoder", "mode", "seed", "accuracy")}, flush=True)


def probe(
    results: Results, corpus: tuple[str, str, str], encoder: tuple[str, str], options: argparse.Namespace
) -> None:
    """Rows of the linear probe and of kNN, one a seed; all seeds share one pass over the clips."""
    name, shards, group = corpus
    label, run = encoder
    what = {"corpus": name, "encoder": label, "seeds": options.seeds}
    if all(results.find(**what, mode=mode, seed=options.seeds - 1) for mode in PROBES):
        return
    scores = evaluate_action(
        run,
        shards,
        group=group or None,
        encoder=options.encoder,
        picture=Span(options.seconds, options.rate),
        size=options.size,
        seeds=options.seeds,
        workers=options.workers,
        autocast=options.bfloat16,
    )
    for mode in PROBES:
        difference = scores.differences[mode].as_dict() | {"verdict": scores.verdicts[mode]}
        for seed in range(options.seeds):
            accuracy = {model: found["seeds"][seed] for model, found in scores.models[mode].items()}
            baselines = dict(scores.baselines)
            results.append(**what, mode=mode, seed=seed, accuracy=accuracy, difference=difference, baselines=baselines)


def finetune(
    results: Results, corpus: tuple[str, str, str], encoder: tuple[str, str], options: argparse.Namespace
) -> None:
    """Rows of fine-tuning, one a seed, after one row with the settings that were chosen."""
    what = {"corpus": corpus[0], "encoder": encoder[0]}
    left = [s for s in range(options.seeds) if results.find(**what, mode="finetune", seed=s) is None]
    if not left:
        return
    looked = survey([corpus[1]], workers=options.workers)
    clips = arranged(looked, corpus[2] or None)
    footage = make_footage(looked, Span(options.seconds, options.rate), options.size, workers=options.workers)
    build = partial(build_classifier, encoder[1], options.encoder, len(clips.classes))
    recipe = Recipe(epochs=options.epochs, augmentation=Augmentation(mirror=not options.keep_sides))
    machine = Machine(torch.device("cpu"), options.bfloat16)
    tuned = Finetuning(build, footage, clips, recipe, machine, options.views, options.crops)
    known = results.find(**what, mode="settings", seed=None)
    if known is None:
        chosen = {row: {fold.name: tuned.choose(row, fold) for fold in clips.folds} for row in ROWS}
        plain = {row: {f: [s.lr, s.layer_decay] for f, s in found.items()} for row, found in chosen.items()}
        results.append(**what, mode="settings", seed=None, settings=plain)
    else:
        chosen = {row: {f: Setting(*s) for f, s in found.items()} for row, found in known["settings"].items()}
    for seed in left:
        hits = {row: np.full(len(clips.keys), np.nan) for row in (*ROWS, *(f"{SCRATCH}: {p}" for p in PROBES))}
        for fold in clips.folds:
            truth = clips.labels[fold.test]
            for row in ROWS:
                model = tuned.fit(row, fold, chosen[row][fold.name], seed)
                hits[row][fold.test] = tuned.test(model, fold).mean(axis=1).argmax(axis=1) == truth
                if row == SCRATCH:
                    for mode, guess in probed(
                        model, tuned, footage, train_part(clips, fold, seed), fold.test, seed
                    ).items():
                        hits[f"{row}: {mode}"][fold.test] = guess == truth
        results.append(
            **what,
            mode="finetune",
            seed=seed,
            accuracy={row: float(np.nanmean(found)) for row, found in hits.items()},
            hits={row: [None if np.isnan(v) else int(v) for v in found] for row, found in hits.items()},
            groups=clips.groups.tolist(),
            frames=footage.about(),
        )


def probed(
    model: Classifier, tuned: Finetuning, footage: Footage, rows: np.ndarray, test: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """What the probes say of the test clips on the frozen features of a trained classifier, as in `evaluate action`."""
    labels, classes = tuned.clips.labels[rows], len(tuned.clips.classes)
    known, asked = (frozen_vectors(model, footage, some, views=1, machine=tuned.machine) for some in (rows, test))
    fitted = fit_chosen(known, labels, classes, groups=tuned.clips.groups[rows], seed=seed)
    votes = knn_scores(known, labels, asked, classes, neighbours_for(labels))
    return {"linear": fitted.probabilities(asked).mean(axis=1).argmax(axis=1), "knn": votes.argmax(axis=1)}


def told(values: list[float]) -> str:
    """Mean and standard deviation over seeds, per cent."""
    if not values:
        return ""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{100 * float(np.mean(values)):.1f} ± {100 * spread:.1f}"


def difference_of(rows: list[Row]) -> tuple[Interval, str]:
    """Fine-tuned minus from scratch, paired by seed and clip."""
    ours, theirs = (
        np.array([[np.nan if v is None else v for v in row["hits"][name]] for row in rows]) for name in ROWS
    )
    tested = ~np.isnan(ours[0])
    found = paired_difference(ours[:, tested], theirs[:, tested], np.array(rows[0]["groups"])[tested])
    return found, verdict(found)


def table(results: Results) -> str:
    """All rows with these options in Markdown: a block a corpus and encoder, baselines below."""
    newest: dict[tuple[str, str, str, Any], Row] = {}
    for row in results.rows():
        newest[row["corpus"], row["encoder"], row["mode"], row["seed"]] = row
    pairs = sorted({key[:2] for key in newest})
    lines = ["| corpus | encoder | row | linear | kNN | fine-tuned | seeds |", "|---|---|---|---|---|---|---|"]
    said = []
    for corpus, encoder in pairs:
        modes = {m: [row for k, row in sorted(newest.items(), key=str) if k[:3] == (corpus, encoder, m)] for m in
                 (*PROBES, "finetune")}  # fmt: skip
        counts = "/".join(str(len(modes[m])) for m in (*PROBES, "finetune"))

        def cell(mode: str, model: str, modes: dict[str, list[Row]] = modes) -> str:
            return told([row["accuracy"][model] for row in modes[mode] if model in row["accuracy"]])

        trained = cell("finetune", SCRATCH)
        cells = {
            "pretrained": [cell(p, "pretrained") for p in PROBES] + [cell("finetune", "pretrained")],
            "random init": [cell(p, "random_init") for p in PROBES] + [trained],
            "supervised from scratch": [cell("finetune", f"{SCRATCH}: {p}") for p in PROBES] + [trained],
        }
        others = {m for p in PROBES for row in modes[p] for m in row["accuracy"]} - {"pretrained", "random_init"}
        cells |= {m.replace("_", " "): [cell(p, m) for p in PROBES] + [""] for m in sorted(others)}
        for baseline, value in next((row["baselines"] for p in PROBES for row in modes[p]), {}).items():
            cells[baseline.replace("_", " ")] = [f"{100 * value:.1f}", "", ""]
        lines += [f"| {corpus} | {encoder} | {name} | {' | '.join(some)} | {counts} |" for name, some in cells.items()]
        for probe_name in PROBES:
            if modes[probe_name]:
                d = modes[probe_name][-1]["difference"]
                said.append(sentence(corpus, encoder, f"{probe_name}, minus random init", d, d["verdict"]))
        if modes["finetune"]:
            found, word = difference_of(modes["finetune"])
            said.append(sentence(corpus, encoder, "fine-tuned, minus supervised from scratch", found.as_dict(), word))
    options = ", ".join(f"{name} {value}" for name, value in results.options.items())
    return "\n".join([*lines, "", *said, "", f"Options: {options}."])


def sentence(corpus: str, encoder: str, what: str, difference: Row, word: str) -> str:
    """What may be said of the pretrained row."""
    mean, low, high = (f"{100 * difference[part]:+.1f}" for part in ("mean", "low", "high"))
    return f"- {corpus}, {encoder}: {what}: {mean} points [{low}, {high}], *{word}*."


def main() -> None:
    """Evaluate what is missing, append, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", nargs=3, action="append", default=[], metavar=("NAME", "SHARDS", "GROUP"))
    parser.add_argument("--encoders", nargs=2, action="append", default=[], metavar=("LABEL", "RUN"))
    parser.add_argument("--encoder", default="video", help="which encoder of the runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=8.0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--crops", type=int, default=3)
    parser.add_argument("--keep-sides", action="store_true", help="do not mirror training views")
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "real_actions.jsonl")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--only-write", action="store_true")
    options = parser.parse_args()
    same = ("encoder", "seconds", "rate", "size", "epochs", "views", "crops", "keep_sides", "bfloat16")
    results = Results(options.results, {name: getattr(options, name) for name in same})
    if not options.only_write:
        for corpus in options.corpus:
            for encoder in options.encoders:
                probe(results, tuple(corpus), tuple(encoder), options)
                finetune(results, tuple(corpus), tuple(encoder), options)
                write_between(options.page, "real actions", table(results))
    write_between(options.page, "real actions", table(results))


if __name__ == "__main__":
    main()
