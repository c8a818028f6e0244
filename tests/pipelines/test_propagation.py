"""`mmssl evaluate propagation` and `mmssl inspect tracking` write what they say."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mmssl.evaluation.draw_tracks import COLOURS, colour_of, drawn_size, overlay, strip
from pipelines.cli import main
from tests.batches import small_encoders
from tests.evaluation.masks import discs, write_frames


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run of new encoders and a folder of one clip."""
    small_encoders().save(tmp_path / "run" / "encoders")
    write_frames(tmp_path / "clips", discs(5))
    return tmp_path


def test_scores_are_written_and_printed(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    main(["evaluate", "propagation", str(made / "run"), str(made / "clips"), "--strides", "[8]", "--top_k", "3"])
    results = json.loads((made / "run" / "evaluation" / "propagation" / "results.json").read_text())
    assert results["settings"]["strides"] == [8]
    assert results["settings"]["top_k"] == 3
    assert results["objects"] == 2
    said = capsys.readouterr().out
    assert "propagation-davis-v1, masks: 2 objects of 1 clip(s)" in said.replace("\n", " ")
    assert "copy first" in said


@pytest.mark.parametrize("labels", ["masks", "boxes"])
def test_pictures_are_drawn(made: Path, labels: str) -> None:
    out = made / "pictures"
    main(["inspect", "tracking", str(made / "run"), str(made / "clips"), str(out), "--frames", "3", "--labels", labels])
    picture = np.asarray(Image.open(out / "clips.png"))
    assert picture.shape == (3 * (144 + 16), 3 * 144, 3)
    with av.open(str(out / "clips.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "0"], "temperature above 0"),
        (["--size", "4"], "size=4: the encoder needs to see 16 pixels"),
        (["--strides", "[2]"], "gives no picture features at strides (2,)"),
    ],
)
def test_bad_settings_are_said(
    made: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["evaluate", "propagation", str(made / "run"), str(made / "clips"), *arguments])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_objects_are_tinted_and_outlined_in_their_colours() -> None:
    frame = torch.full((3, 144, 144), 100, dtype=torch.uint8)
    mask = torch.zeros(144, 144, dtype=torch.uint8)
    mask[40:80, 40:80], mask[100:120, 100:120] = 1, 2
    drawn = overlay(frame, mask)
    assert drawn[10, 10].tolist() == [100, 100, 100]
    assert drawn[40, 60].tolist() == list(colour_of(1))
    assert drawn[110, 110].tolist() == [round(0.55 * 100 + 0.45 * c) for c in COLOURS[1]]
    boxed = overlay(frame, mask, boxes=True)
    assert boxed[60, 60].tolist() == [100, 100, 100]
    assert boxed[40, 60].tolist() == list(colour_of(1))


def test_sizes_of_drawn_frames() -> None:
    assert drawn_size(96, 96) == (144, 144)
    assert drawn_size(480, 854) == (270, 480)
    clip = discs(4)
    assert strip(clip.frames, {"a": clip.masks, "b": clip.masks}, [0, 3]).shape == (2 * 160, 2 * 144, 3)
