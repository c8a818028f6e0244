"""Released files of boxes, and what trivial maps score on them: closed forms, faults, and the real VGG-SS file."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from mmssl.errors import UserError
from mmssl.localization.annotation_baselines import annotation_baselines, oracle_maps, random_pixels
from mmssl.localization.annotations import read_annotations
from mmssl.metrics.localization import (
    ciou_ceiling,
    consensus_truth,
    exact_ceiling,
    median_mask,
    published_ciou,
    union_truth,
)
from pipelines.cli import main
from pipelines.localize_baselines import run
from tests.requirements import real_data


def written(folder, entries):
    path = folder / "boxes.json"
    path.write_text(json.dumps(entries))
    return path


def half(file="a", box=(0.0, 0.0, 0.5, 1.0), **more):
    return {"file": file, "class": "dog", "bbox": [list(box)], **more}


def test_trivial_maps_score_their_closed_forms(tmp_path):
    area = 0.75 * 0.5
    read = read_annotations(written(tmp_path, [half("a", (0.0, 0.25, 0.75, 0.75)), half("b", (0.25, 0.25, 1.0, 0.75))]))
    found = annotation_baselines(read)
    rows = found["rows"]
    assert rows["whole_frame"]["mean_ciou"] == pytest.approx(area)
    assert rows["whole_frame"]["peak_in_box"] == pytest.approx(area)
    assert rows["whole_frame"]["iou_fixed"] == pytest.approx(area)
    # A random half of the picture holds half of the truth: (f / 2) / (f + (1 - f) / 2).
    assert rows["random_pixels"]["mean_ciou"] == pytest.approx(area / (1 + area), abs=0.01)
    assert rows["random_pixels"]["iou_fixed"] == pytest.approx(area / (1 + area), abs=0.01)
    assert rows["oracle"]["mean_ciou"] == pytest.approx(2 * area, abs=1e-3)
    assert found["ceiling"]["of_areas"]["ciou"] == found["ceiling"]["of_pixels"]["ciou"] == 1.0
    # The truth as a map is zero in more than half of the picture: cut at zero it is the whole picture.
    assert rows["true_boxes"]["mean_ciou"] == pytest.approx(area)
    assert rows["true_boxes"]["iou_fixed"] == 1.0
    assert rows["centre_disc"]["peak_in_box"] == 1.0
    disc = median_mask(-np.hypot(*np.meshgrid(*[(np.arange(224) + 0.5) / 224 - 0.5] * 2)))
    truth = union_truth([[0.0, 0.25, 0.75, 0.75]]) > 0
    assert rows["centre_disc"]["mean_ciou"] == pytest.approx((disc & truth).sum() / (disc | truth).sum(), abs=1e-6)
    assert (found["clips"], found["boxes"], found["truth"]) == (2, 2, "union of the boxes")
    assert found["annotations"]["sha256"] == hashlib.sha256((tmp_path / "boxes.json").read_bytes()).hexdigest()
    assert annotation_baselines(read) == found, "the same twice"
    assert annotation_baselines(read, seed=1)["rows"]["random_pixels"] != rows["random_pixels"]


def test_the_random_expectation_of_the_peak_is_the_area():
    truth = union_truth([[0.0, 0.0, 0.5, 0.4]]) > 0
    maps = random_pixels([f"clip{n}" for n in range(300)])
    inside = [truth.ravel()[one.argmax()] for one in maps.reshape(len(maps), -1)]
    assert np.mean(inside) == pytest.approx(0.2, abs=0.07)


def test_the_oracle_reaches_the_ceiling_and_nothing_without_equal_values_passes_it():
    random = np.random.default_rng(0)
    for _ in range(12):
        corners = np.sort(random.random((3, 2, 2)), axis=1).transpose(0, 1, 2).reshape(3, 4)
        truths = np.stack([union_truth(corners), consensus_truth(corners)])
        ceiling = ciou_ceiling(truths)
        np.testing.assert_allclose(published_ciou(oracle_maps(truths), truths), ceiling, atol=1e-9)
        assert (published_ciou(random.random((2, 224, 224)), truths) <= ceiling + 1e-12).all()
        areas = [exact_ceiling([corners]), exact_ceiling([[corner] for corner in corners])]
        np.testing.assert_allclose(areas, ceiling, atol=0.05)


@pytest.mark.parametrize("area", [0.1, 0.25, 0.5, 0.8, 1.0])
def test_the_ceiling_of_the_boxes_themselves_is_the_closed_form(area):
    boxes = [[0.0, 0.0, area, 0.5], [0.0, 0.4, area, 1.0]]  # they overlap
    assert exact_ceiling([boxes]) == pytest.approx(min(2 * area, 0.5 / area))
    assert exact_ceiling([]) == 0.0


def test_flickr_soundnet_is_read_as_three_annotators_on_a_grid_of_256(tmp_path):
    folder = tmp_path / "Annotations"
    folder.mkdir()
    box = "<bbox><unit>px</unit><x0>{}</x0><y0>0</y0><x1>{}</x1><y1>256</y1></bbox>"
    for name, spans in {"11": ((0, 128), (0, 128), (64, 256)), "12": ((0, 64), (0, 64), (0, 64))}.items():
        people = "".join(f"<person><id>{n}</id>{box.format(*span)}</person>" for n, span in enumerate(spans))
        (folder / f"{name}.xml").write_text(f"<annotation>{people}</annotation>")
    read = read_annotations(folder)
    assert (read.kind, [clip.key for clip in read.clips]) == ("flickr", ["11", "12"])
    assert read.clips[0].boxes == ((0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 0.5, 1.0), (0.25, 0.0, 1.0, 1.0))
    assert read.clips[0].annotators == ("0", "1", "2")
    found = annotation_baselines(read)
    assert found["truth"] == "consensus of the annotators"
    assert found["annotators"] == 3
    # 11: one in the left half, a half right of it; the whole frame has found all, and nothing is wrong.
    # 12: one in a quarter; three quarters of the whole frame are wrong.
    assert found["rows"]["whole_frame"]["mean_ciou"] == pytest.approx((1 + 0.25) / 2)
    assert found["rows"]["oracle"]["mean_ciou"] == pytest.approx(((0.5 / 0.75) + 0.5) / 2, abs=1e-3)
    same = read_annotations(folder).sha256
    assert read.sha256 == same
    (folder / "12.xml").write_text((folder / "12.xml").read_text() + "\n")
    assert read_annotations(folder).sha256 != same


def test_faulty_boxes_are_cut_and_told_of_as_in_the_release_or_refused(tmp_path):
    entries = [half("a", (0.2, 0.2, 0.6, -2.9e16)), half("b", (-0.5, 0.0, 0.5, 1.0)), half("c")]
    path = written(tmp_path, entries)
    read = read_annotations(path)
    assert [clip.boxes[0] for clip in read.clips] == [(0.2, 0.2, 0.6, 0.0), (0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 0.5, 1.0)]
    assert len(read.faults) == 2
    assert "clip 'a': the box" in read.faults[0]
    assert "no area" in read.faults[0]
    assert "clip 'b'" in read.faults[1]
    assert "reaches out" in read.faults[1]
    assert annotation_baselines(read)["rows"]["oracle"]["ciou"] == pytest.approx(2 / 3), "a box without area is a miss"
    with pytest.raises(UserError, match=r"boxes.json': clip 'a': the box .* no area .*\(and 1 more\)"):
        read_annotations(path, strict=True)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a": 1}, "must be a list of clips, found dict"),
        ([], "no clip in it"),
        ([{"bbox": [[0, 0, 1, 1]]}], r"entry 0: must be \{'file': ..., 'bbox'"),
        ([half("a"), half("a")], "clip 'a' is listed twice"),
        ([{"file": "a"}], r"boxes.json', clip 'a': no boxes"),
        ([{"file": "a", "bbox": [[0, 0, 1]]}], r"boxes.json', clip 'a': \[0, 0, 1\] is no box"),
        ([{"file": "a", "bbox": [[0, 0, float("nan"), 1]]}], r"clip 'a': \[0, 0, nan, 1\] is no box"),
        ([{"file": "a", "bbox": [["x", 0, 1, 1]]}], "clip 'a': .* is no box"),
        ([half("a", (0, 0, 112, 224))], "clip 'a': the box .* is not in fractions of the picture"),
        ([half("a", annotators=["x", "y"])], "clip 'a': 1 boxes need as many annotators"),
    ],
)
def test_what_is_no_annotation_is_refused_by_file_and_clip(entries, said, tmp_path):
    with pytest.raises(UserError, match=said):
        read_annotations(written(tmp_path, entries))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        read_annotations(tmp_path / "x.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \.xml file"):
        read_annotations(tmp_path / "empty")
    faults = {"<a": "is no XML", "<!DOCTYPE a><a/>": "entities", "<a><b><bbox><x>k</x></bbox></b></a>": "is no box"}
    for text, said in faults.items():
        (tmp_path / "empty" / "1.xml").write_text(text)
        with pytest.raises(UserError, match=said):
            read_annotations(tmp_path / "empty")


def test_the_program_prints_and_stores(tmp_path, capsys):
    path = written(tmp_path, [half("a"), half("b", (0.2, 0.2, 0.6, -2.9e16))])
    main(["localize", "baselines", str(path), "--out", str(tmp_path / "out")])
    shown = " ".join(capsys.readouterr().out.split())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"2 clips, 2 boxes, union of the boxes sha256 {digest}" in shown
    assert "localization-baselines-v1" in shown
    assert "1 faulty boxes" in shown
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["annotations"]["sha256"] == digest
    assert stored["rows"]["oracle"]["ciou"] == 0.5
    with pytest.raises(SystemExit) as stopped:
        main(["localize", "baselines", str(path), "--out", str(tmp_path / "out"), "--strict"])
    assert stopped.value.code == 2


@pytest.mark.slow
def test_the_released_boxes_of_vgg_sound_sources_give_the_known_baselines(tmp_path):
    found = run(real_data() / "B" / "vggss_boxes.json", tmp_path / "out")
    rows = {name: (100 * row["ciou"], 100 * row["auc"]) for name, row in found["rows"].items()}
    assert (found["clips"], len(found["annotations"]["faults"])) == (5158, 18)
    assert rows["centre_disc"] == pytest.approx((34.0, 37.4), abs=0.2)
    assert rows["oracle"] == pytest.approx((50.6, 49.5), abs=0.2)
    assert rows["whole_frame"] == pytest.approx((22.0, 31.3), abs=0.2)
    assert rows["random_pixels"] == pytest.approx((0.1, 21.6), abs=0.2)
    areas = found["ceiling"]["of_areas"]
    assert (100 * areas["ciou"], 100 * areas["auc"]) == pytest.approx((50.6, 49.5), abs=0.2)
