"""Real speech: the first word of GRID sentences as the label of its sound, and pictures asked for their sounds."""

import csv

import pytest

from mmssl.evaluation.audio import evaluate_audio
from mmssl.evaluation.crossmodal import evaluate_retrieval
from pipelines.build_shards import build
from tests.evaluation.shades import shade_run
from tests.requirements import real_data

COMMANDS = {"b": "bin", "l": "lay", "p": "place", "s": "set"}


@pytest.mark.slow
def test_words_of_one_speaker(tmp_path):
    files = sorted((real_data() / "B" / "grid_s1").glob("*.mpg"))
    with (tmp_path / "grid.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows([str(path), COMMANDS[path.name[0]]] for path in files)
    build(tmp_path / "grid.csv", tmp_path / "grid", clip_seconds=3.0, min_seconds=2.5, size=(96, 96), fit="stretch")
    run, shards = shade_run(tmp_path / "run"), str(tmp_path / "grid")
    found = evaluate_audio(run, shards, group=r"(.)\.mpg$", seconds=3.0, seeds=1, workers=0).as_dict()
    assert (found["clips"], found["classes"], found["left_out"]) == (24, ["bin", "lay", "place", "set"], {})
    assert found["linear"]["mel_statistics"]["mean"] < 0.8, "a word is an order of sounds, which the mean does not keep"
    asked = evaluate_retrieval(run, shards, head="sounds", seeds=1, workers=0).as_dict()
    assert (asked["gallery"], asked["queries"]) == (24, 24)
    assert asked["directions"]["picture_to_sound"]["random_init"]["r_at_5"] == pytest.approx(5 / 24)
