"""Silent and off-screen sources apart from those in sight, on the planted world, where silence has no map."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from mmssl.errors import UserError
from mmssl.localization.draw import any_absent
from mmssl.localization.presence import evaluate_presence
from mmssl.localization.truth import presence
from mmssl.nn.encoders import Encoders
from pipelines.localize import print_presence
from tests.corpora import write_tar
from tests.evaluation.oracle import SECONDS, SIZE, SOUND_RATE, encode, planted_clip, planted_run, planted_shards


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    run = planted_run(tmp_path_factory.mktemp("run"))
    return Encoders.from_pretrained(run), Encoders.load_head(run, "av_localization")


def shards_of_all_kinds(folder):
    """12 clips: every third is silent, every third shows nothing but grey while a tone sounds."""
    folder.mkdir()
    samples = []
    for number in range(12):
        media, meta = planted_clip(number)
        kind = ("on_screen", "off_screen", "silent")[number % 3]
        meta["truth"] |= {"sounding": kind != "silent", "onscreen": kind == "on_screen"}
        tone = 0.5 * np.sin(2 * np.pi * 400.0 * np.arange(round(SECONDS * SOUND_RATE)) / SOUND_RATE)
        if kind == "off_screen":
            media = encode(np.full((20, SIZE, SIZE, 3), 110, np.uint8), tone.astype(np.float32))
            meta["truth"]["boxes"] = None
        if kind == "silent":
            random = np.random.default_rng(number)
            moving = random.integers(0, 255, (20, SIZE, SIZE, 3), dtype=np.uint8)
            media = encode(moving, 0 * tone.astype(np.float32))
            meta["truth"]["boxes"] = None
        samples.append((f"clip{number:03d}", {"mp4": media, "json": json.dumps(meta).encode()}))
    write_tar(folder / "test-000000.tar", samples)
    return str(folder / "test-000000.tar")


def test_the_truth_says_whether_the_source_is_seen():
    assert presence({"truth": {"sounding": True, "onscreen": True}}) == "on_screen"
    assert presence({"truth": {"sounding": True, "onscreen": False}}) == "off_screen"
    assert presence({"truth": {"sounding": False, "onscreen": False}}) == "silent"
    assert presence({"truth": {"boxes": [[0, 0, 1, 1]]}}) is None
    assert presence({}) is None
    assert presence({"truth": {"sounding": True}}) is None


def test_a_map_that_is_low_where_nothing_sounds_in_sight_separates_all(head, tmp_path, capsys):
    shards = shards_of_all_kinds(tmp_path / "shards")
    assert any_absent(shards)
    scores = evaluate_presence(*head, shards, size=48, workers=0, batch_size=5)
    found = scores.as_dict()
    assert found["clips"] == {"on_screen": 4, "off_screen": 4, "silent": 4}
    model = found["rows"]["model"]
    assert [model[against]["auc"] for against in ("off_screen", "silent", "either")] == [1.0, 1.0, 1.0]
    assert found["peak_in_box"] == found["average_precision"] == found["best_f1"] == 1.0
    # Loudness tells silence and nothing else; a map that hears nothing tells nothing.
    assert found["rows"]["loudness"]["silent"]["auc"] == 1.0
    assert found["rows"]["loudness"]["off_screen"]["auc"] < 0.8
    assert found["rows"]["silenced_sound"]["either"]["auc"] == 0.5
    assert found["rows"]["motion"]["silent"]["auc"] == 0.0, "only the silent clips move"
    assert found["average_precision_of_equal_scores"] == pytest.approx(4 / 12)
    json.dumps(found)
    from rich.console import Console

    out = io.StringIO()
    print_presence(Console(file=out, width=140), found)
    assert "seen against off screen" in out.getvalue()
    assert "average precision 100.0" in out.getvalue()


def test_clips_of_which_nothing_is_known_are_counted_and_refused(head, tmp_path):
    shards = planted_shards(tmp_path / "plain", 3)
    assert not any_absent(shards)
    with pytest.raises(UserError, match=r"no clip of .* can be judged \(3 not known whether seen\)"):
        evaluate_presence(*head, shards, size=48, workers=0)
