r"""What each pretext task teaches an encoder about actions: probes of the encoders of `pretext_table.py`.

    python benchmarks/action_table.py --runs runs/table --train 'shards/train-*.tar' --test 'shards/test-*.tar'
    python benchmarks/action_table.py --runs runs/table --shards 'ut/*.tar' --group '_seq(\d+)' --corpus ut_interaction

All encoders, and one random initialisation a seed of every architecture, are run over the clips in one pass. Seed s
pairs a pretraining (they are taken in turn where there are fewer than seeds) with the random initialisation of seed s,
on the same train part. A row a config and encoder is appended to results/action_table.jsonl, and the table is written
into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from pages import write_between

from mmssl.clip import Span
from mmssl.evaluation.action import arrange, probe
from mmssl.evaluation.features import FeatureTable, extract_all, join
from mmssl.nn.encoders import Encoders
from mmssl.training.environment import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "action_table.jsonl"
PAGE = ROOT / "docs" / "results.md"
Row = dict[str, Any]


def found_runs(folder: Path) -> dict[str, dict[int, Path]]:
    """Config -> seed -> run folder of the true trainings."""
    runs: dict[str, dict[int, Path]] = {}
    for run in sorted(folder.glob("*-none-*")):
        if (run / "encoders" / "config.json").is_file():
            name, _, seed = run.name.rpartition("-none-")
            runs.setdefault(name, {})[int(seed)] = run
    return runs


def architecture(run: Path, encoder: str) -> str | None:
    """How the encoder is built, as text; None where the run has none of this name."""
    built = json.loads((run / "encoders" / "config.json").read_text())["encoders"].get(encoder)
    return None if built is None else json.dumps(built, sort_keys=True)


def probe_all(runs: dict[str, dict[int, Path]], encoder: str, options: argparse.Namespace) -> list[Row]:
    """Rows of all configs that have the encoder."""
    bundles: dict[tuple[str, int], Encoders] = {}
    chosen: dict[str, str] = {}
    for name, by_seed in runs.items():
        built = architecture(next(iter(by_seed.values())), encoder)
        if built is None:
            continue
        chosen[name] = built
        for seed, run in by_seed.items():
            bundles[name, seed] = Encoders.from_pretrained(run)
        for seed in range(options.seeds):
            if (built, seed) not in bundles:
                some = next(iter(by_seed.values()))
                bundles[built, seed] = Encoders.from_pretrained(some, random_init=True, seed=seed)
    if not bundles:
        return []
    sets = [options.shards] if options.shards else [options.train, options.test]
    made = [
        extract_all(
            list(bundles.values()),
            one,
            encoder=encoder,
            picture=Span(options.seconds, options.rate),
            size=options.size,
            views=options.views,
            batch_size=16,
            workers=options.workers,
            device=options.device,
            autocast=True,
        )
        for one in sets
    ]
    tables: dict[tuple[str, int], FeatureTable] = {
        key: join([one[number] for one in made]) for number, key in enumerate(bundles)
    }
    clips = arrange(next(iter(tables.values())), sizes=[len(one[0]) for one in made], group=options.group)
    rows = []
    for name, built in chosen.items():
        trained, seeds = sorted(runs[name]), range(options.seeds)
        turns = [tables[name, trained[s % len(trained)]] for s in seeds]
        scores = probe(turns, [tables[built, s] for s in seeds], clips, device=options.device)
        rows.append({"config": name, "encoder": encoder, "pretrainings": trained, **scores.as_dict()})
        print(f"{name:24} {encoder}: {rows[-1]['linear']['pretrained']['mean']:.3f}", flush=True)
    return rows


def table() -> str:
    """The newest row of each config, encoder and corpus in Markdown."""
    rows: dict[tuple[str, str, str], Row] = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["corpus"], row["encoder"], row["config"]] = row
    lines = [
        "| corpus | encoder | config | linear | random | difference [95 %] | verdict | kNN | random | trained |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ranked = sorted(rows.items(), key=lambda item: (*item[0][:2], -item[1]["linear"]["pretrained"]["mean"]))
    for (corpus, encoder, config), row in ranked:
        linear, knn = row["linear"], row["knn"]
        found = [linear["pretrained"], linear["random_init"]]
        told = [f"{100 * model['mean']:.1f} ± {100 * model['std']:.1f}" for model in found]
        near = [f"{100 * knn[model]['mean']:.1f}" for model in ("pretrained", "random_init")]
        between = linear["difference"]
        mean, low, high = (f"{100 * between[part]:+.1f}" for part in ("mean", "low", "high"))
        verdict = between["verdict"]
        cells = [
            corpus,
            encoder,
            config,
            *told,
            f"{mean} [{low}, {high}]",
            verdict,
            *near,
            str(len(row["pretrainings"])),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    chance = {corpus: row["chance"] for (corpus, _, _), row in rows.items()}
    facts = {c: r["linear"]["file_facts"]["mean"] for (c, _, _), r in rows.items() if "file_facts" in r["linear"]}
    lines.append("")
    lines += [f"Chance on {corpus}: {100 * value:.1f}." for corpus, value in chance.items()]
    lines += [
        f"Size, length and rate of the files alone on {corpus}: {100 * value:.1f}." for corpus, value in facts.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Probe, append, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/table"))
    parser.add_argument("--train", help="shards of train clips, with --test")
    parser.add_argument("--test")
    parser.add_argument("--shards", help="one set of clips, with --group")
    parser.add_argument("--group", help="as in `mmssl evaluate action`")
    parser.add_argument("--corpus", default="soundstage", help="its name in the table")
    parser.add_argument("--encoders", nargs="*", default=["video", "image"])
    parser.add_argument("--configs", nargs="*", help="only these")
    parser.add_argument("--seeds", type=int, default=5, help="random initialisations and train parts")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=8.0)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only-write", action="store_true")
    options = parser.parse_args()
    about = environment(torch.device(options.device), "bf16")
    runs = {n: r for n, r in found_runs(options.runs).items() if options.configs is None or n in options.configs}
    for encoder in [] if options.only_write else options.encoders:
        for row in probe_all(runs, encoder, options):
            stamp = {"benchmark": "action_table", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
            where = {"corpus": options.corpus, "load": os.getloadavg()[0]}
            with open(RESULTS, "a", encoding="utf-8") as file:
                file.write(json.dumps({**stamp, **about, **where, **row}) + "\n")
    write_between(PAGE, "action table", table())


if __name__ == "__main__":
    main()
