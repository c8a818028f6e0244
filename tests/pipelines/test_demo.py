"""The quick demo through the installed console script, from another folder: every stage, every file, every key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("mmssl")
TASKS = {"av_localization", "av_sync", "order_prediction", "subtitle_matching", "rotation"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [SCRIPT, "demo", "--quick", "--out", "here"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "planned" in done.stdout
    return folder / "here"


@pytest.mark.timeout(700)
def test_results_have_every_key(demo: Path) -> None:
    results = json.loads((demo / "results.json").read_text())
    for model in ("pretrained", "random_init"):
        assert {"mean", "std", "seeds"} <= set(results["action"]["linear"][model])
    assert results["action"]["chance"] == pytest.approx(0.1)
    for name in ("peak_in_box", "centre_prior", "random_map", "motion_saliency", "shuffled_sound", "ciou", "auc"):
        assert 0.0 <= results["localization"][name] <= 1.0
    assert set(results["pretext"]) == TASKS
    for task in results["pretext"].values():
        assert task["floor"] is not None
        assert task["score"] is not None
    assert results["preset"] == "quick"
    assert results["seconds"]["total"] > 0
    assert results["versions"]["torch"]


@pytest.mark.timeout(700)
def test_the_ablated_tasks_lie_near_their_floor(demo: Path) -> None:
    for task in json.loads((demo / "results.json").read_text())["pretext"].values():
        if task["count"]:
            spread = 4 * (task["floor"] * (1 - task["floor"]) / task["count"]) ** 0.5
            assert abs(task["ablated"] - task["floor"]) <= spread


@pytest.mark.timeout(700)
def test_run_folder_and_report_are_whole(demo: Path) -> None:
    for name in (
        "run/config.yaml",
        "run/environment.json",
        "run/metrics.jsonl",
        "run/encoders/model.safetensors",
        "run/encoders/tokenizer.json",
        "run/encoders/heads/av_localization.safetensors",
        "report/index.html",
    ):
        assert (demo / name).stat().st_size > 0, name
    assert list((demo / "maps").glob("*.mp4"))


@pytest.mark.timeout(700)
def test_a_finished_demo_is_not_overwritten(demo: Path) -> None:
    again = subprocess.run(
        [SCRIPT, "demo", "--quick", "--out", str(demo)], capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode == 2
    assert "exists already" in again.stderr
