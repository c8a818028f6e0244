"""metrics.jsonl: valid JSON whatever the numbers, cut back to a step; the line on the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mmssl.tasks.base import Score
from mmssl.training.log import RunLog, cut_back
from mmssl.training.meter import Meter
from mmssl.training.progress import ProgressLine, duration


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_and_tensorboard(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.event("step", 1, loss=0.1 + 0.2, **{"turn/accuracy": float("nan")})
    log.event("heldout", 1, task="turn", score=0.75, ceiling=1.0)
    log.close()
    assert rows(log.path) == [
        {"event": "step", "step": 1, "loss": 0.1 + 0.2, "turn/accuracy": None},
        {"event": "heldout", "step": 1, "task": "turn", "score": 0.75, "ceiling": 1.0},
    ]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert board.Scalars("heldout/turn/score")[0].value == 0.75
    assert board.Scalars("loss")[0].step == 1


def test_a_resumed_log_goes_on_at_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"event": "step", "step": n}) + "\n" for n in range(1, 6)) + '{"event": "st')
    assert cut_back(path, 3) == 3
    log = RunLog(tmp_path, step=3, tensorboard=False)
    log.event("step", 4)
    log.close()
    assert [row["step"] for row in rows(path)] == [1, 2, 3, 4]


def test_means_weigh_rows_not_batches() -> None:
    meter = Meter()
    meter.add("accuracy", torch.tensor(1.0), torch.tensor(1.0))
    meter.add("accuracy", torch.tensor(1.0), torch.tensor(3.0))
    meter.add("silent", torch.tensor(0.0), torch.tensor(0.0))
    assert meter.take(torch.device("cpu")) == {"accuracy": (0.5, 4.0)}
    assert meter.take(torch.device("cpu")) == {}


@pytest.mark.parametrize(("seconds", "text"), [(48, "48s"), (200, "3:20"), (7400, "2:03:20"), (-1, "0s")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def show(terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=160)
    scores = {"rotation": Score("accuracy", 0.25, 1.0), "matching": Score("recall", None, 1.0)}
    row = {"loss": 2.5, "rotation/accuracy": 0.71, "matching/floor": 0.05, "seconds_per_step": 2.0}
    with ProgressLine(100, scores, console) as line:
        line.update(40, row, 93.4, 0.07)
        line.update(41, row, 93.4, 0.07)
        line.say("warning: [brackets] stay")
    return out.getvalue()


def test_plain_lines_without_a_terminal() -> None:
    text = show(terminal=False)
    assert "\x1b" not in text
    assert text.splitlines() == [
        "step 40/100  loss 2.500  rotation 0.71/0.25  matching -/0.05  93 clips/s  data 7 %  ETA 2:00",
        "warning: [brackets] stay",
    ]


def test_live_line_on_a_terminal() -> None:
    text = show(terminal=True)
    assert "rotation 0.71/0.25" in text
    assert "step 41/100" in text
