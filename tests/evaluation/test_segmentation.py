"""Segmentation by a linear head: readers, the head, the rows beside it, and what may be said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from mmssl.data.soundstage.generate import generate
from mmssl.errors import UserError
from mmssl.evaluation.labelled_pixels import pixel_sets
from mmssl.evaluation.per_clip import PerClip
from mmssl.evaluation.pixel_head import ColourMaps, FrozenMaps, drawn_cells, fit_pixel_heads
from mmssl.evaluation.segmentation import SegmentationScores, clip_confusions, evaluate_segmentation, together
from mmssl.metrics.pixel_classes import mean_iou
from pipelines.cli import main
from tests.batches import small_encoders
from tests.evaluation.pictures import write_squares


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of new encoders, and train/ and test/ of red and blue squares."""
    folder = tmp_path_factory.mktemp("squares")
    small_encoders().save(folder / "run" / "encoders")
    write_squares(folder / "data" / "train", 16, seed=1)
    write_squares(folder / "data" / "test", 8, seed=2)
    return folder


def test_folders_and_lists_are_read_alike(made: Path, tmp_path: Path) -> None:
    found = pixel_sets(made / "data")
    assert (len(found.train), len(found.test), len(found.classes)) == (16, 8, 3)
    assert set(found.train[0].masks[0].unique().tolist()) <= {0, 1, 2, 255}
    write_squares(tmp_path, 16, seed=1)
    write_squares(tmp_path, 8, seed=2)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, seed in (("train", 1), ("val", 2)):
        names = sorted(p.stem for p in (tmp_path / "JPEGImages").glob(f"s{seed}_*.png"))
        (lists / f"{name}.txt").write_text("\n".join(names))
    listed = pixel_sets(tmp_path)
    assert [clip.key for clip in listed.test] == [clip.key for clip in found.test]
    assert all(torch.equal(a.masks[0], b.masks[0]) for a, b in zip(listed.train, found.train, strict=True))
    assert len(pixel_sets(tmp_path, limit=3, test_limit=2).train) == 3


def test_bodies_of_soundstage_are_classes(tmp_path: Path) -> None:
    for split, clips in (("train", 2), ("test", 1)):
        generate(tmp_path, clips, 1, "quick", split, processes=1, dense_truth=True)
    shapes, objects = pixel_sets(tmp_path, "shapes", frames=1), pixel_sets(tmp_path, "objects", frames=1)
    assert shapes.classes == ("scene", "ball", "can", "cube")
    assert objects.classes == ("scene", "object")
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    about = {line["key"]: line["truth"] for line in lines}
    for clip, whole in zip(shapes.train, objects.train, strict=True):
        shown = {shapes.classes[i] for i in clip.masks[0].unique().tolist()} - {"scene"}
        assert shown <= set(about[clip.key]["shapes"])
        assert torch.equal(clip.masks[0] > 0, whole.masks[0] > 0)
    with pytest.raises(UserError, match=r"classes of the test pictures are not among .*'rubber'"):
        pixel_sets(tmp_path, "materials", frames=1)  # so few clips do not show all materials


def test_what_cannot_be_used_is_said(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a Soundstage corpus"):
        pixel_sets(tmp_path)
    with pytest.raises(UserError, match="limit=0"):
        pixel_sets(made / "data", limit=0)
    write_squares(tmp_path / "train", 4, seed=1)
    write_squares(tmp_path / "test", 4, seed=2)
    mask = tmp_path / "test" / "Annotations" / "s2_001.png"
    Image.fromarray(np.full((48, 48), 7, dtype=np.uint8)).save(mask)
    with pytest.raises(UserError, match=r"1 classes of the test pictures are not among .*'class 7'"):
        pixel_sets(tmp_path)
    Image.fromarray(np.full((48, 48), 255, dtype=np.uint8)).save(mask)
    assert pixel_sets(tmp_path).left_out == {"s2_001": "every pixel is void"}
    Image.fromarray(np.zeros((40, 48), dtype=np.uint8)).save(mask)
    with pytest.raises(UserError, match=r"s2_001.png' is \(48, 48\) pixels and its mask \(40, 48\)"):
        pixel_sets(tmp_path)
    mask.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        pixel_sets(tmp_path)
    mask.unlink()
    with pytest.raises(UserError, match="1 pictures have no mask"):
        pixel_sets(tmp_path)
    for part in ("train", "test"):
        for path in (tmp_path / part / "Annotations").iterdir():
            Image.fromarray(np.repeat([0, 255], 48 * 24).reshape(48, 48).astype(np.uint8)).save(path)
    (tmp_path / "test" / "JPEGImages" / "s2_001.png").unlink()
    with pytest.raises(UserError, match=r"every pixel is void \(255\) or of the class 'class 0'"):
        pixel_sets(tmp_path)


def test_a_cell_holds_the_shares_of_its_pixels() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, :4, 2:4] = 1
    masks[0, 4:, 4:] = 255
    maps = ColourMaps(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    x, y = drawn_cells(maps, masks, np.array([0]), 2, 100, 0)
    assert x.shape == (3, 5)  # the fourth cell is void
    assert y.tolist() == [[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]]
    assert len(drawn_cells(maps, masks[:, :4].repeat(1, 2, 1), np.array([0]), 2, 3, 0)[0]) == 3


def test_the_head_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)) * np.array([1, 5, 0.1, 1, 1, 1]) + 3
    labels = (x[:, 0] + 0.3 * x[:, 1] + rng.normal(size=400) > 4).astype(int) + (x[:, 3] > 3.5)
    strength = 1e-2
    shares = torch.nn.functional.one_hot(torch.from_numpy(labels), 3).float()
    head = fit_pixel_heads(torch.from_numpy(x).float(), shares, (1e-1, strength))[1]
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = LogisticRegression(C=1 / (strength * 400), tol=1e-8, max_iter=5000).fit(scaled, labels)
    ours = torch.from_numpy(x).float() @ head.weight.T + head.bias
    ours = torch.softmax(ours, dim=1).numpy()
    assert np.abs(ours - theirs.predict_proba(scaled)).max() < 5e-3


def test_levels_kept_or_made_anew_are_the_same(made: Path) -> None:
    part = small_encoders()["image"]
    pixels = torch.randint(0, 255, (5, 3, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    kept, anew = FrozenMaps(part, pixels, (4, 16)), FrozenMaps(part, pixels, (4, 16), most_bytes=0)
    rows = torch.tensor([1, 4])
    assert anew.kept is None
    assert kept(rows).shape == (2, 16 + 48, 12, 12)
    assert torch.allclose(kept(rows), anew(rows), atol=1e-5)
    with pytest.raises(UserError, match="no maps of stride 2, 5: encoder 'image' has strides 4, 8, 16"):
        evaluate_segmentation(made / "run", made / "data", strides=(5, 8, 2))


def test_masks_are_judged_at_their_own_size(made: Path) -> None:
    """Of void pixels nothing is said; every other pixel of the file counts once."""
    pictures = together(pixel_sets(made / "data").test, 32)
    assert pictures.pixels.shape == (8, 3, 32, 32)
    maps = ColourMaps(pictures.pixels)
    head = fit_pixel_heads(*drawn_cells(maps, pictures.small, np.arange(8), 3, 5000, 0), (1e-4,))[0]
    confusions = clip_confusions(head, maps, pictures, 3)
    assert confusions.sum(axis=(1, 2)).tolist() == [47 * 48] * 8
    assert float(mean_iou(confusions.sum(axis=0))) > 0.8


def test_rows_and_what_is_said_of_them(made: Path) -> None:
    """Red and blue squares are told by their colour; the most frequent class is the ground."""
    scores = evaluate_segmentation(made / "run", made / "data", size=48, seeds=2, cells=1000)
    found = scores.as_dict()
    text = json.dumps(found, allow_nan=False)
    assert found["protocol"] == "segmentation-linear-v1"
    assert found["rows"]["colours"]["mean_iou"] > 0.9
    assert found["rows"]["pretrained"]["mean_iou"] > 0.6
    ground = np.mean([(clip.masks[0][1:] == 0).float().mean() for clip in pixel_sets(made / "data").test])
    assert found["rows"]["majority"]["mean_iou"] == pytest.approx(ground / 3, abs=1e-6)
    assert found["rows"]["majority"]["class_iou"]["class 2"] == 0.0
    assert found["pretrained_minus"]["majority"]["verdict"] == "above"
    again = evaluate_segmentation(made / "run", made / "data", size=48, seeds=2, cells=1000)
    assert json.dumps(again.as_dict(), allow_nan=False) == text


def test_the_difference_is_that_of_the_whole_confusions() -> None:
    """A clip of many pixels weighs by its pixels; equal rows differ by nothing; few clips allow no interval."""
    about = {"classes": ["a", "b"]}
    ours = np.array([[[[90, 0], [0, 10]]] + [[[1, 1], [1, 1]]] * 5])
    theirs = np.array([[[[50, 40], [5, 5]]] + [[[2, 0], [0, 2]]] * 5])
    rows = {"pretrained": ours, "random_init": theirs, "colours": ours, "majority": theirs}
    scores = SegmentationScores(about, rows, tuple("abcdef"))
    expected = float(mean_iou(ours[0].sum(axis=0)) - mean_iou(theirs[0].sum(axis=0)))
    assert scores.minus("random_init")["mean"] == pytest.approx(expected)
    assert scores.minus("random_init")["low"] < expected < scores.minus("random_init")["high"]
    assert scores.minus("colours") == {"mean": 0.0, "low": 0.0, "high": 0.0, "verdict": "not behind"}
    few = SegmentationScores(about, {row: table[:, :2] for row, table in rows.items()}, ("a", "b"))
    assert few.minus("colours") == {"mean": 0.0, "verdict": "fewer than 5 clips: no interval"}


def test_the_command_writes_and_prints(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(made / "run"), str(made / "data"), "--seeds", "1", "--size", "32", "--strides", "[8]"]
    main(["evaluate", "segmentation", *arguments, "--cells", "500"])
    results = json.loads((made / "run" / "evaluation" / "segmentation" / "results.json").read_text())
    assert results["strides"] == [8]
    kept = PerClip.load(made / "run" / "evaluation" / "segmentation" / "scores.npz")
    assert kept.keys == tuple(clip.key for clip in pixel_sets(made / "data").test)
    for row, found in results["by_clip"]["rows"].items():
        assert kept.values[f"by_clip/{row}"].mean() == pytest.approx(found["clip_iou"])
    said = capsys.readouterr().out
    assert "pretrained minus random init" in said
    assert "IoU of each class: class 0" in said
    with pytest.raises(SystemExit):
        main(["evaluate", "segmentation", *arguments, "--cells", "5"])
    assert "cells=5: at least 100" in capsys.readouterr().err
