"""The figures of the pages are drawn by the code as it is: every program that needs nothing but shards is run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines.cli import run

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "benchmarks" / "figures"
CLIPS = 96  # of which one figure makes eight clusters
DRAWN = (
    "av_clustering", "av_correspondence", "av_instance", "av_sync", "clip_order_prediction", "dense_predictive_coding",
    "ego_motion", "order_prediction", "order_verification", "pace_prediction", "rgb_flow", "rotation",
    "subtitle_matching", "video_colorization",
)  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("figures")
    corpus, made = str(folder / "corpus"), str(folder / "shards")
    truth = ["--dense_truth", "true"]
    run(["soundstage", corpus, "--clips", str(CLIPS), "--split", "test", "--preset", "moving_camera", *truth])
    run(["shards", "build", corpus, made, "--clip_seconds", "null", "--size", "[96,96]", "--fit", "stretch", *truth])
    return f"{made}/test-*.tar"


@pytest.mark.parametrize("name", DRAWN)
def test_the_figure_is_drawn(name: str, shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, threads = tmp_path / "figure.png", torch.get_num_threads()
    monkeypatch.syspath_prepend(str(FIGURES))
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(sys, "argv", [name, shards, str(out)])
    try:
        runpy.run_path(str(FIGURES / f"{name}.py"), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    with Image.open(out) as drawn, Image.open(ROOT / "docs" / "figures" / f"{name}.png") as there:
        assert drawn.width == pytest.approx(there.width, rel=0.2)
        assert len(set(drawn.convert("L").tobytes())) > 50  # not an empty sheet


def test_every_figure_program_is_known_here() -> None:
    """A new one is run here, or stands in the list of those that need more than shards."""
    others = {"av_localization", "clip_map", "flow_estimation", "video_prediction", "viewer"}  # a run, maps, weights
    parts = {"context_strips", "sounds"}
    assert {path.stem for path in FIGURES.glob("*.py")} == set(DRAWN) | others | parts
