"""Detection on an encoder: boxes that are read, training that repeats, rows, and what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmssl.data.soundstage.generate import generate
from mmssl.errors import UserError
from mmssl.evaluation.boxed_pictures import coco_boxes, soundstage_boxes
from mmssl.evaluation.detection import evaluate_detection, mean_boxes
from mmssl.evaluation.detector import Detector, EncoderBackbone, found_boxes, train_detector
from mmssl.evaluation.masked_clips import masked_clips
from pipelines.cli import main
from tests.batches import small_encoders
from tests.evaluation.pictures import square_picture, write_coco

QUICK = Detector(size=48, steps=2, batch_size=2, channels=16, proposals=20)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run of new encoders, and annotated pictures of red and blue squares."""
    small_encoders().save(tmp_path / "run" / "encoders")
    write_coco(tmp_path / "train", 12, seed=1)
    write_coco(tmp_path / "test", 6, seed=2)
    return tmp_path


def sets_of(folder: Path, **more: Any) -> Any:
    return coco_boxes(folder / "train.json", folder / "test.json", folder / "train", folder / "test", **more)


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_annotations_are_read(made: Path) -> None:
    sets = sets_of(made)
    assert sets.classes == ("blue", "red")
    for number, picture in enumerate(sets.train):
        pixels, mask = square_picture(1000 + number)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert picture.truth.boxes.tolist() == [box]
        assert sets.classes[picture.truth.labels[0]] == ("red" if mask.max() == 1 else "blue")
        assert torch.equal(picture.load(), torch.from_numpy(pixels).permute(2, 0, 1))
    assert [len(part) for part in (sets_of(made, limit=5).train, sets_of(made, test_limit=4).test)] == [5, 4]


def test_boxes_that_cannot_be_used_are_said_or_counted(made: Path) -> None:
    train = made / "train.json"
    edited(train, lambda found: found["annotations"][0].update(bbox=[3, 3, 0, 5], iscrowd=0))
    edited(train, lambda found: found["annotations"][1].update(iscrowd=1))
    sets = sets_of(made)
    assert sets.notes == {"empty_boxes": 1}
    assert len(sets.train[0].truth.boxes) == 0
    assert sets.train[1].truth.crowd.tolist() == [True]
    edited(train, lambda found: found["annotations"][2].update(bbox=[40, 3, 8.6, 5]))
    assert sets_of(made).train[2].truth.boxes[0].tolist() == [40, 3, 48, 8]
    for box in ([40, 3, 20, 5], [-9, 0, 12, 4], [0, 0, float("nan"), 4], [0, 0, 3]):
        edited(train, lambda found, box=box: found["annotations"][2].update(bbox=box))
        with pytest.raises(UserError, match=r"of image 2 \(annotation 2\) is not inside its picture of 48 x 48"):
            sets_of(made)


def test_annotations_that_do_not_fit_are_said(made: Path) -> None:
    train, test = made / "train.json", made / "test.json"
    before = train.read_text()
    edited(train, lambda found: found["annotations"][0].update(category_id=99))
    with pytest.raises(UserError, match="an image or a category that is not listed"):
        sets_of(made)
    train.write_text(before)
    edited(train, lambda found: found["annotations"][0].pop("bbox"))
    with pytest.raises(UserError, match="an entry of 'annotations' has no bbox"):
        sets_of(made)
    edited(train, lambda found: found.pop("annotations"))
    with pytest.raises(UserError, match="no list 'annotations'"):
        sets_of(made)
    train.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        sets_of(made)
    train.write_text(before)
    edited(train, lambda found: [one.update(category_id=10) for one in found["annotations"]])
    with pytest.raises(UserError, match=r"1 classes of the test boxes are not among the train boxes \('blue'\)"):
        sets_of(made)
    train.write_text(before)
    edited(test, lambda found: found.update(annotations=[]))
    with pytest.raises(UserError, match="no test picture has a box"):
        sets_of(made)
    edited(train, lambda found: found["images"][0].update(width=50))
    (made / "train" / "c1_001.png").unlink()
    write_coco(made / "test", 6, seed=2)
    sets = sets_of(made)
    with pytest.raises(UserError, match=r"is \(48, 48\) pixels and its annotations say \(48, 50\)"):
        sets.train[0].load()
    with pytest.raises(UserError, match=r"c1_001.png' cannot be read"):
        sets.train[1].load()


def test_boxes_of_soundstage_lie_around_the_visible_pixels(tmp_path: Path) -> None:
    for split, clips in (("train", 2), ("test", 1)):
        generate(tmp_path, clips, 1, "quick", split, processes=1, dense_truth=True)
    sets = soundstage_boxes(tmp_path, "objects", frames=2)
    assert sets.classes == ("object",)
    assert (len(sets.train), len(sets.test)) == (4, 2)
    assert len({picture.clip for picture in sets.train}) == 2
    clip = next(iter(masked_clips(tmp_path, "train")))
    mask = clip.masks[len(clip.masks) // 4]
    for number, box in zip(
        mask[mask > 0].unique().tolist(), sets.train[0].truth.boxes.astype(int).tolist(), strict=True
    ):
        left, top, right, bottom = box
        inside = torch.zeros_like(mask, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert not bool(((mask == number) & ~inside).any())
        shown = (mask == number)[top:bottom, left:right]
        assert bool(shown[0].any() and shown[-1].any() and shown[:, 0].any() and shown[:, -1].any())


@pytest.mark.parametrize("backbone", ["frozen", "finetune"])
def test_training_repeats_and_touches_only_what_it_may(made: Path, backbone: str) -> None:
    how = Detector(backbone, size=48, steps=2, batch_size=2, channels=16, proposals=20)  # type: ignore[arg-type]
    sets, state = sets_of(made), torch.random.get_rng_state()
    found, parts = [], []
    for _ in range(2):
        part = small_encoders()["image"]
        model = train_detector(part, sets.train, 2, how, seed=3)
        found.append(found_boxes(model, sets.test, "cpu"))
        parts.append(part.state_dict())
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.scores, b.scores)
    assert torch.equal(torch.random.get_rng_state(), state)
    fresh = small_encoders()["image"].state_dict()
    same = all(torch.equal(parts[0][name], fresh[name]) for name in fresh)
    assert same == (backbone == "frozen")


def test_a_pyramid_stands_on_every_level(made: Path) -> None:
    part = small_encoders()["image"]
    maps = EncoderBackbone(part, 16, frozen=True)(torch.rand(2, 3, 64, 96))
    assert {name: tuple(x.shape) for name, x in maps.items()} == {
        "4": (2, 16, 16, 24),
        "8": (2, 16, 8, 12),
        "16": (2, 16, 4, 6),
    }
    part.strides = (14,)
    with pytest.raises(UserError, match=r"strides \[14\]; detection needs powers of 2"):
        EncoderBackbone(part, 16, frozen=True)


def test_rows_and_what_is_said_of_them(made: Path) -> None:
    scores = evaluate_detection(made / "run", sets_of(made), how=QUICK, seeds=2)
    found = scores.as_dict()
    json.dumps(found, allow_nan=False)
    assert found["protocol"] == "detection-frcnn-v1"
    assert (found["train_boxes"], found["test_boxes"]) == (12, 6)
    assert set(found["rows"]) == {"pretrained", "random_init", "mean_box"}
    assert found["rows"]["mean_box"]["std"] == 0.0
    assert set(found["pretrained_minus"]["random_init"]) == {"mean", "low", "high", "verdict"}
    with pytest.raises(UserError, match="takes video, not pictures"):
        evaluate_detection(made / "run", sets_of(made), how=QUICK, encoder="video", seeds=1)


def test_the_mean_box_is_a_share_of_the_picture(made: Path) -> None:
    sets = sets_of(made)
    found = mean_boxes(sets.train, sets.test, 2)
    for label in range(2):
        mine = np.stack([p.truth.boxes[0] for p in sets.train if p.truth.labels[0] == label])
        assert found[0].boxes[label].tolist() == pytest.approx(mine.mean(axis=0).tolist())
        assert found[0].scores[label] == len(mine) / len(sets.train)


@pytest.mark.slow
def test_squares_are_found(made: Path) -> None:
    write_coco(made / "train", 48, seed=1)
    write_coco(made / "test", 16, seed=2)
    how = Detector(size=48, steps=150, batch_size=4, channels=32)
    rows = evaluate_detection(made / "run", sets_of(made), how=how, seeds=1).as_dict()["rows"]
    assert rows["pretrained"]["ap_50"] > 0.6
    assert rows["pretrained"]["ap"] > rows["mean_box"]["ap"] + 0.2


def test_the_command_writes_and_prints(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--train", made / "train.json", "--test", made / "test.json", "--images", made / "train"]
    quick = ["--size", "48", "--steps", "2", "--batch_size", "2", "--channels", "16", "--seeds", "1"]
    arguments = ["evaluate", "detection", str(made / "run"), *map(str, places), *quick]
    main([*arguments, "--test_images", str(made / "test")])
    results = json.loads((made / "run" / "evaluation" / "detection" / "results.json").read_text())
    assert results["settings"]["steps"] == 2
    assert "pretrained minus mean box" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["evaluate", "detection", str(made / "run"), *quick])
    assert "give either --corpus" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--rate", "0"])
    assert "rate=0.0: it must be above 0" in capsys.readouterr().err
