"""Law 8, no loss in silence: failures are budgeted over all ranks, which stop together and name the causes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmssl.data.budget import Budget
from tests.corpora import sample, write_tar

ROOT = Path(__file__).parents[2]
BAD = {2: "empty file", 3: "not a known container", 6: "not a known container", 7: "empty file"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Eight clips in order, a batch of four: what fails falls to the second of two ranks alone."""
    folder = tmp_path_factory.mktemp("failing")
    samples = []
    for number in range(8):
        key, members = sample(folder, f"clip{number:04d}", number)
        if number in BAD:
            members["mp4"] = b"" if BAD[number] == "empty file" else b"no film at all"
        samples.append((key, members))
    shards = str(write_tar(folder / "a-000000.tar", samples))
    command = [sys.executable, "-m", "tests.laws.failing_ranks"]
    started = [
        subprocess.Popen([*command, str(r), str(w), str(folder), shards], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for r, w in ((0, 1), (0, 2), (1, 2))
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0, 0], "\n".join(errors)
    results = {path.stem: json.loads(path.read_text()) for path in folder.glob("rank*.json")}
    for world in (1, 2):
        rows = [json.loads(line) for line in (folder / f"run{world}" / "metrics.jsonl").read_text().splitlines()]
        results[f"log{world}"] = {"failures": [row for row in rows if row["event"] == "failures"]}
    return results


def test_ranks_stop_together_though_one_alone_has_failures(found: dict[str, dict[str, Any]]) -> None:
    alone, first, second = found["rank0of1"], found["rank0of2"], found["rank1of2"]
    assert first["error"] == second["error"]
    assert first["step"] == second["step"] == alone["step"] == 25  # 51 of 104 samples: past 5 % of a thousand
    assert "51 of the last" in first["error"]
    assert "not a known container" in first["error"]
    assert "empty file" in first["error"]
    assert "clip000" in first["error"]
    assert first["causes"] == {"empty file": 26, "not a known container": 26}
    assert first["mine"] == second["mine"] == 52
    assert "51 of the last" in alone["error"]


def test_the_causes_are_in_the_log_also_of_the_step_that_stopped(found: dict[str, dict[str, Any]]) -> None:
    for world in (1, 2):
        *earlier, last = found[f"log{world}"]["failures"]
        assert [row["step"] for row in earlier] == [10, 20]
        assert earlier[-1]["causes"] == {"empty file": 20, "not a known container": 20}
        assert last["step"] == 25
        assert last["count"] == sum(last["causes"].values()) >= 51


def test_five_in_a_hundred_of_the_last_thousand() -> None:
    assert not Budget().note([True] * 50)
    assert Budget().note([True] * 51)
    assert not Budget().note(([True] + [False] * 19) * 500)
    assert Budget().note(([True] + [False] * 18) * 500)
