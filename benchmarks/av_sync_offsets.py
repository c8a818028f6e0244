"""How well a run's synchronisation head tells right from wrong sounds, by kind, by offset, and with a wrong clock.

    python benchmarks/av_sync_offsets.py runs/av_sync 'corpus/test-*.tar' [--head av_sync] [--size 96]

Every held-out clip is asked again and again (`--epochs`, each with other draws): another clip's sound (easy), its own
with a gap (hard) and its own that overlaps (super-hard) by all but 1/8, 1/4, 1/2 and 3/4 of a second; then all sounds
0.2 s late and early.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from mmssl.data.sources import Source
from mmssl.data.stream import Stream
from mmssl.nn.encoders import Encoders
from mmssl.tasks.base import Moment
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.sync_matcher import SyncMatcher

LATE = Moment(99, 100, 0, 0.99)
ASKED: dict[str, dict[str, Any]] = {
    "right clock": {},
    **{f"off {off:g} s": {"super_share": 1.0, "overlap": 1.0 - off} for off in (0.125, 0.25, 0.5, 0.75)},
    "0.2 s late": {"skew": 0.2},
    "0.2 s early": {"skew": -0.2},
}


def judge(encoders: Encoders, head: SyncMatcher, shards: str, size: int, epochs: int, **asked: Any) -> dict[str, str]:
    """Accuracies with their numbers of clips."""
    task = AVSync(size=(size, size), augment=False, **asked)
    task.setup(encoders)
    task.matcher = head
    task.eval()
    right: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for seed in range(epochs):
        source = [Source("test", shards)]
        stream = Stream(source, task.window, 64, workers=1, shuffle=False, repeat=False, seed=seed)
        with stream, torch.inference_mode():
            for batch, _ in stream:
                example = task.pretext(batch, batch.draws("av_sync"), LATE)
                for name, (total, number) in task(example, encoders, LATE).metrics.items():
                    right[name] += float(total)
                    count[name] += float(number)
                encoders.forget()
    return {n.removeprefix("accuracy_"): f"{right[n] / count[n]:.3f} ({count[n]:.0f})" for n in count if count[n]}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("shards")
    parser.add_argument("--head", default="av_sync")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    encoders, head = Encoders.from_pretrained(args.run), Encoders.load_head(args.run, args.head)
    assert isinstance(head, SyncMatcher)
    for name, asked in ASKED.items():
        found = judge(encoders, head, args.shards, args.size, args.epochs, **asked)
        wanted = ("super",) if name.startswith("off") else ("easy", "hard", "off_1.5", "off_2")
        print(f"{name:12}", "  ".join(f"{key} {found[key]}" for key in wanted if key in found), flush=True)


if __name__ == "__main__":
    main()
