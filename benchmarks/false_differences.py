"""How often two methods that are the same are said to differ: what the intervals of `mmssl evaluate compare` are worth.

    python benchmarks/false_differences.py [--trials 200]

Nothing is trained: hits are drawn. A clip is a hit where its difficulty, a normal draw, plus a term of pretraining and
clip (0.5), one of seed and clip (0.3) and one of the pretraining itself (the spread) is above 0. Both methods are drawn
alike, so that every interval wholly above or below 0 is a false difference; at 95 % there should be 5 in 100. "single
runs" compares the first pretraining of each, as a table of one run a method does. One row is appended to
results/false_differences.jsonl, and the table is written into docs/inspect.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from pages import write_between

from mmssl.metrics.statistics import Interval, bootstrap_pretrainings, paired_difference
from mmssl.training.environment import environment

RESULTS = Path(__file__).parent / "results" / "false_differences.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "inspect.md"
SPREADS, PRETRAININGS = (0.0, 0.15, 0.5), (2, 3, 5, 10)


def hits(pretrainings: int, spread: float, hard: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Float64 [P, S, N], 0 or 1; `hard` [N] is what all have in common."""
    own = spread * rng.normal(size=(pretrainings, 1, 1)) + 0.5 * rng.normal(size=(pretrainings, 1, len(hard)))
    drawn: np.ndarray = hard + own + 0.3 * rng.normal(size=(pretrainings, seeds, len(hard))) > 0
    return drawn.astype(np.float64)


def is_false(interval: Interval) -> bool:
    """Whether 0, which is the truth, lies outside."""
    return interval.low > 0 or interval.high < 0


def shares(pretrainings: int, spread: float, options: argparse.Namespace) -> dict[str, float]:
    """Of all trials the share with a false difference: of the methods, and of a single run of each."""
    rng = np.random.default_rng(options.seed)
    methods = single = 0
    for trial in range(options.trials):
        hard = rng.normal(size=options.clips)
        ours, theirs = (hits(pretrainings, spread, hard, options.seeds, rng) for _ in range(2))
        methods += is_false(bootstrap_pretrainings(ours, theirs, seed=trial))
        single += is_false(paired_difference(ours[0], theirs[0], seed=trial))
    return {"methods": methods / options.trials, "single": single / options.trials}


def table(found: dict[str, dict[str, float]]) -> str:
    """The shares in percent, in Markdown."""
    lines = [
        f"| spread of pretrainings | {' | '.join(f'P = {p}' for p in PRETRAININGS)} | single runs of them |",
        f"|---|{'---:|' * (len(PRETRAININGS) + 1)}",
    ]
    for spread in SPREADS:
        rows = [found[f"{spread} {p}"] for p in PRETRAININGS]
        alone = sorted(row["single"] for row in rows)
        cells = [f"{row['methods']:.0%}" for row in rows] + [f"{alone[0]:.0%} to {alone[-1]:.0%}"]
        lines.append(f"| {spread:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Draw, judge, append, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = {}
    for spread in SPREADS:
        for pretrainings in PRETRAININGS:
            found[f"{spread} {pretrainings}"] = shares(pretrainings, spread, options)
            print(f"spread {spread:g}, {pretrainings} pretrainings: {found[f'{spread} {pretrainings}']}", flush=True)
    row = {
        "benchmark": "false_differences",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **environment(torch.device("cpu"), "fp32"),
        **{name: getattr(options, name) for name in ("trials", "clips", "seeds", "seed")},
        "shares": found,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    write_between(PAGE, "false differences", table(found))


if __name__ == "__main__":
    main()
