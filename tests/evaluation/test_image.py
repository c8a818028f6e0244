"""Image classification by frozen features: readers, probes, rows beside it, and what cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.errors import UserError
from mmssl.evaluation.image import colour_histograms, evaluate_image, small_pictures
from mmssl.evaluation.image_files import Reading, batches, image_set, two_parts
from mmssl.evaluation.per_clip import PerClip
from pipelines.cli import main
from tests.batches import small_encoders
from tests.evaluation.pictures import write_classes, zipped
from tests.requirements import real_data


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run of new encoders, and train and test pictures of three colours."""
    small_encoders().save(tmp_path / "run" / "encoders")
    write_classes(tmp_path / "data" / "train", 10, seed=1)
    write_classes(tmp_path / "data" / "test", 6, seed=2)
    return tmp_path


def test_a_folder_and_a_zip_of_it_are_one_and_the_same(made: Path) -> None:
    folder = image_set(made / "data" / "train")
    packed = image_set(zipped(made / "data" / "train", made / "train.zip"))
    assert len(folder) == 30
    assert (folder.keys, folder.labels) == (packed.keys, packed.labels)
    assert set(folder.labels) == {"red", "green", "blue"}
    pixels = [torch.cat([x for _, x in batches(one, 24, Reading())]) for one in (folder, packed)]
    assert pixels[0].shape == (30, 3, 24, 24)
    assert torch.equal(*pixels)


def test_parts_are_found_in_a_folder_of_folders_of_zips_and_in_one_zip(made: Path) -> None:
    wanted = [part.keys for part in two_parts(made / "data", None, None)]
    whole = zipped(made / "data", made / "both.zip")
    assert [part.keys for part in two_parts(whole, None, None)] == wanted
    (made / "zips").mkdir()
    zipped(made / "data" / "train", made / "zips" / "train.zip")
    zipped(made / "data" / "test", made / "zips" / "val.zip")
    assert [part.keys for part in two_parts(made / "zips", None, None)] == wanted
    with pytest.raises(UserError, match="holds no part `train`"):
        two_parts(made / "data" / "train", None, None)
    with pytest.raises(UserError, match="either --data"):
        two_parts(made / "data", made, None)


def test_a_limit_is_by_class_and_by_name_alone(made: Path) -> None:
    some = image_set(made / "data" / "train").limited(4)
    assert sorted(some.labels) == ["blue"] * 4 + ["green"] * 4 + ["red"] * 4
    assert set(some.keys) < set(image_set(made / "data" / "train").limited(7).keys)
    with pytest.raises(UserError, match="limit=0"):
        some.limited(0)


def test_pictures_that_cannot_be_read_are_named_and_budgeted(made: Path) -> None:
    train = made / "data" / "train"
    whole = (train / "red" / "000.png").read_bytes()
    (train / "red" / "000.png").write_bytes(whole[: len(whole) // 2])
    found = evaluate_image(made / "run", made / "data", seeds=1, size=32).as_dict()
    assert list(found["left_out"]["train"]) == ["red/000.png"]
    assert found["train_pictures"] == 29
    for number in range(1, 3):
        (train / "blue" / f"{number:03d}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"of the first pictures .* cannot be read, more than 5%"):
        evaluate_image(made / "run", made / "data", seeds=1, size=32)


def test_rows_and_what_is_said_of_them(made: Path) -> None:
    """Colours are told apart by colours; an encoder that has learned nothing is its own baseline."""
    shutil.copy(made / "data" / "train" / "red" / "003.png", made / "data" / "test" / "red" / "999.png")
    scores = evaluate_image(made / "run", made / "data", seeds=2, size=32)
    found = scores.as_dict()
    text = json.dumps(found, allow_nan=False)
    assert found["protocol"] == {"linear": "image-linear-v1", "knn": "image-knn-v1"}
    assert (found["train_pictures"], found["test_pictures"], found["in_train_and_test"]) == (30, 19, 1)
    for probe in ("linear", "knn"):
        assert found[probe]["rows"]["colours"]["mean"] == found[probe]["rows"]["pixels"]["mean"] == 1.0
        assert found[probe]["rows"]["pretrained"]["top_3"] == 1.0
        assert found[probe]["rows"]["pretrained"]["mean"] > 0.6
        assert set(found[probe]["pretrained_minus"]) == {"random_init", "pixels", "colours"}
    assert found["chance"] == pytest.approx(1 / 3)
    assert np.sum(found["confusion"]) == 2 * 19
    again = evaluate_image(made / "run", made / "data", seeds=2, size=32, batch_size=64).as_dict()
    assert json.dumps(again, allow_nan=False) == text


def test_a_level_in_parts_is_its_means(made: Path) -> None:
    found = evaluate_image(made / "run", made / "data", seeds=1, size=32, level=8, grid=2).as_dict()
    assert found["features"] == "level 8, means of 2 x 2 parts"
    assert found["linear"]["rows"]["pretrained"]["mean"] > 0.6


def test_baselines_are_what_they_say() -> None:
    pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    pixels[1, 0] = 255
    pixels[1, :, :, 16:] = 32
    histogram = colour_histograms(pixels) ** 2
    assert histogram[0, 0] == pytest.approx(1.0)
    assert histogram[1, [7 * 64, 1 * 64 + 1 * 8 + 1]].tolist() == pytest.approx([0.5, 0.5])
    small = small_pictures(pixels).reshape(2, 3, 16, 16)
    assert small[1, 0, 0, 0] == pytest.approx(1.0)
    assert small[1, 0, 0, 15] == pytest.approx(32 / 255)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"size": 8}, "size=8"),
        ({"grid": 2}, "the --level whose map"),
        ({"level": 5}, "no maps of stride 5: encoder 'image' has strides 4, 8, 16"),
        ({"encoder": "video"}, "takes video, not pictures"),
        ({"encoder": "imago"}, "did you mean 'image'"),
    ],
)
def test_bad_settings_are_said(made: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_image(made / "run", made / "data", **({"seeds": 1, "size": 32} | settings))


def test_classes_that_do_not_fit_are_said(made: Path) -> None:
    write_classes(made / "few", 2, colours=("red", "blue"))
    with pytest.raises(UserError, match=r"1 classes of the test pictures are not among the train pictures \('green'\)"):
        evaluate_image(made / "run", train=made / "few", test=made / "data" / "test")
    (made / "flat").mkdir()
    shutil.copy(made / "few" / "red" / "000.png", made / "flat" / "a.png")
    with pytest.raises(UserError, match=r"not laid out in class folders: 'a\.png'"):
        image_set(made / "flat")
    (made / "no.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="no zip file that can be read"):
        image_set(made / "no.zip")


def test_the_command_writes_and_prints(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", "image", str(made / "run"), "--data", str(made / "data"), "--seeds", "1", "--size", "32"])
    results = json.loads((made / "run" / "evaluation" / "image" / "results.json").read_text())
    assert results["evaluation"] == "image"
    kept = PerClip.load(made / "run" / "evaluation" / "image" / "scores.npz")
    assert len(kept.keys) == results["test_pictures"] == 18
    assert {"red/000.png", "green/005.png"} <= set(kept.keys)
    for probe in ("linear", "knn"):
        for row, found in results[probe]["rows"].items():
            assert kept.values[f"{probe}/{row}"].mean(axis=1) == pytest.approx(found["seeds"])
    said = capsys.readouterr().out
    assert "linear: pretrained minus random init" in said
    assert "knn: colours" in said


@pytest.mark.slow
def test_real_pictures(tmp_path: Path) -> None:
    small_encoders().save(tmp_path / "run" / "encoders")
    data = real_data() / "D" / "cifar10"
    found = evaluate_image(tmp_path / "run", data, seeds=1, size=32, limit=40, test_limit=20).as_dict()
    assert (found["train_pictures"], found["test_pictures"], len(found["classes"])) == (400, 200, 10)
    assert found["linear"]["rows"]["pixels"]["mean"] > 0.15
