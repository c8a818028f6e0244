"""Law 3, resume: a run that was killed goes on with the batches and losses of the run that was not, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipelines.cli import main
from tests.corpora import write_corpus
from tests.laws.runs import pretrain, rows, settings, write_settings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, [11, 10, 9]), write_corpus(folder / "other", [8], prefix="val")


@pytest.fixture(scope="module")
def config(corpus: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_settings(tmp_path_factory.mktemp("config") / "five.yaml", settings(*corpus))


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was left alone."""
    run = tmp_path_factory.mktemp("whole") / "run"
    main(["pretrain", "--config", str(config), "--run", str(run)])
    return run


def assert_same(run: Path, other: Path) -> None:
    """Losses, metrics, batches, held-out scores and monitor of every step, and the weights at the end."""
    for event in ("step", "heldout", "monitor"):
        assert rows(run, event) == rows(other, event)
    name = (other / "checkpoints" / "last").read_text().strip()
    states = [torch.load(r / "checkpoints" / name / "model.pt", weights_only=True) for r in (run, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    assert (run / "encoders" / "model.safetensors").read_bytes() == (
        other / "encoders" / "model.safetensors"
    ).read_bytes()


def test_the_run_left_alone_is_of_five_tasks_over_borders_of_epochs(whole: Path) -> None:
    steps = rows(whole, "step")
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert {key for key in steps[0] if key.endswith("/loss")} == {
        f"{task}/loss" for task in ("av_localization", "av_sync", "order_prediction", "subtitle_matching", "rotation")
    }
    assert steps[-1]["epoch"] == 3
    assert len({row["keys"] for row in steps}) == 12
    assert {row["task"] for row in rows(whole, "heldout")} == {key.split("/")[0] for key in steps[0] if "/loss" in key}


@pytest.mark.parametrize(
    ("end", "workers", "resumed_at", "code"),
    [
        ("SIGKILL@7", 2, 5, -9),
        ("SIGTERM@6", 0, 8, 0),  # noticed in the step after
        pytest.param("SIGKILL@10", 0, 10, -9, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed(
    config: Path, whole: Path, tmp_path: Path, end: str, workers: int, resumed_at: int, code: int
) -> None:
    run = tmp_path / "run"
    killed = pretrain(config, run, f"--data.workers={workers}", MMSSL_TEST_END=end)
    assert killed.returncode == code, killed.stderr
    if code == 0:
        assert "stopped by SIGTERM after step 8, saved; resume with --resume" in killed.stderr
        assert (run / "encoders" / "model.safetensors").is_file()
    # killed before its end was written down: nothing half-written, and rows beyond the checkpoint are to be cut off
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] >= resumed_at
    main(["pretrain", "--resume", "--run", str(run), f"--data.workers={2 - workers}"])
    assert rows(run, "resume") == [{"event": "resume", "step": resumed_at, "ranks": 1}]
    assert_same(run, whole)


@pytest.mark.slow
def test_killed_and_resumed_in_bf16(corpus: tuple[str, str], tmp_path: Path) -> None:
    config = write_settings(tmp_path / "bf16.yaml", settings(*corpus, precision="bf16"))
    main(["pretrain", "--config", str(config), "--run", str(tmp_path / "whole")])
    assert pretrain(config, tmp_path / "run", MMSSL_TEST_END="SIGKILL@7").returncode == -9
    main(["pretrain", "--resume", "--run", str(tmp_path / "run")])
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_position_of_other_data_is_refused(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_corpus(tmp_path / "other", [9, 9])
    before = (whole / "metrics.jsonl").read_bytes()
    with pytest.raises(SystemExit) as caught:
        main(["pretrain", "--resume", "--run", str(whole), "--data.shards", other])
    assert caught.value.code == 2
    assert (
        "the source 'data' has changed: 30 samples when the data position was saved, 18 now" in capsys.readouterr().err
    )
    assert (whole / "metrics.jsonl").read_bytes() == before
