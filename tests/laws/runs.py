"""Small real runs of `mmssl pretrain` on encoded clips: five tasks, one of which can end the process at a step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from mmssl.clip import Span
from mmssl.nn.text import TextEncoder
from mmssl.tasks.base import Moment
from mmssl.tasks.context.rotation import Rotation

ROOT = Path(__file__).parents[2]
SPAN = {"seconds": 1.6, "rate": 5.0}
TIMES = ("seconds_per_step", "clips_per_second", "data_wait")


class EndsEarly(Rotation):
    """Rotation that sends its own process the signal and step in MMSSL_TEST_END, for example ``SIGKILL@7``.

    It also notes each step of each rank in the folder MMSSL_TEST_NOTES.
    """

    def __init__(self, picture: Span = Span(1.6, 5), size: tuple[int, int] = (32, 32), crop: float = 0.875) -> None:
        super().__init__(picture, size, crop)

    def after_step(self, encoders: Any, carries: Any, moment: Moment) -> None:
        if folder := os.environ.get("MMSSL_TEST_NOTES"):
            with open(Path(folder) / f"rank{os.environ.get('RANK', '0')}", "a", encoding="utf-8") as file:
                file.write(f"{moment.step}\n")
        name, _, step = os.environ.get("MMSSL_TEST_END", "").partition("@")
        if step == str(moment.step):
            os.kill(os.getpid(), signal.Signals[name])


class WithoutDropout(TextEncoder):
    """The text encoder for runs that are compared across ranks: dropout is drawn rank by rank."""

    def __init__(self, vocabulary: int, width: int = 32) -> None:
        super().__init__(vocabulary, width)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0


def tasks(dropout: float = 0.2) -> dict[str, Any]:
    """The five tasks, small, as they stand in a settings file."""
    small = {"picture": SPAN, "size": [32, 32]}
    bare = {"dimension": 16, "augment": True}
    return {
        "av_localization": {
            "class_path": "mmssl.tasks.cross_modal.av_localization.AVLocalization",
            "init_args": {**small, **bare, "sound_seconds": 0.5},
        },
        "av_sync": {
            "class_path": "mmssl.tasks.cross_modal.av_sync.AVSync",
            "init_args": {**small, **bare, "clip_seconds": 0.6, "gap": 0.2},
        },
        "order_prediction": {
            "class_path": "mmssl.tasks.context.order_prediction.OrderPrediction",
            # A flash shows no order; without a threshold the task has rows all the same.
            "init_args": {**small, "orders": 2, "width": 32, "dropout": dropout, "motion_threshold": 0.0},
        },
        "subtitle_matching": {
            "class_path": "mmssl.tasks.cross_modal.subtitle_matching.SubtitleMatching",
            "init_args": {**small, **bare, "clip_seconds": 0.6, "gap": 0.2},
        },
        "rotation": {"class_path": "tests.laws.runs.EndsEarly"},
    }


def settings(shards: str, heldout: str | None = None, dropout: float = 0.2, **train: Any) -> dict[str, Any]:
    """Settings of a run of 12 steps of 8 clips with a checkpoint after 5 and 10."""
    narrow = {"width": 32, "channels": [8, 16, 16]}
    return {
        "tasks": tasks(dropout),
        "data": {"shards": shards, "heldout": heldout, "batch_size": 8, "workers": 0, "shuffle_shards": 2},
        "encoders": {
            "image": {"class_path": "mmssl.nn.image.SmallImageEncoder", "init_args": narrow},
            "video": {"class_path": "mmssl.nn.video.SmallVideoEncoder", "init_args": narrow},
            "audio": {"class_path": "mmssl.nn.audio.SmallAudioEncoder", "init_args": narrow},
            "text": {
                "class_path": "mmssl.nn.text.TextEncoder" if dropout else "tests.laws.runs.WithoutDropout",
                "init_args": {"width": 32},
            },
        },
        "train": {
            "steps": 12,
            "precision": "fp32",
            "checkpoint_every": 5,
            "log_every": 1,
            "monitor_every": 6,
            "monitor_batches": 1,
            "heldout_every": 4 if heldout else 0,
            "heldout_batches": 1,
            "tensorboard": False,
            **train,
        },
    }


def write_settings(path: Path, given: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(given)))
    return path


def pretrain(
    config: Path, run: Path, *more: str, launcher: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """`mmssl pretrain` in a process of its own."""
    # torchrun takes `--run` for one of its own options, unless a `--` stands before the program.
    command = [sys.executable, *launcher, "-m", *(["--"] if launcher else []), "pipelines.cli"]
    return subprocess.run(
        [*command, "pretrain", "--config", str(config), "--run", str(run), *more],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def rows(run: Path, *events: str) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without what the clock on the wall says."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found if row["event"] in events]
