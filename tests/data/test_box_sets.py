"""Readers of localization data sets: boxes, annotators, events, and the digest of the annotations."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mmssl.data.corpora.listing import list_corpus
from mmssl.data.media import MediaError
from mmssl.data.shards import BuildSettings, build
from mmssl.data.still import still_video
from mmssl.errors import UserError
from mmssl.localization.truth import boxes_at, in_clip
from mmssl.metrics.localization import consensus_truth
from pipelines.cli import main
from tests import media
from tests.data.known_sets import metas, put, segments, still, text, write_json
from tests.requirements import real_data

SETTINGS = BuildSettings(short_side=32, min_seconds=0.5, processes=1)
BOX, OTHER = [0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0]
HUGE = -2.8823037615171176e16  # as the public file of VGG-SS has it


def entry(name, *boxes, label="dog barking"):
    return {"file": name, "class": label, "bbox": [list(box) for box in boxes]}


def vggss(root):
    entries = [
        entry("-abcdefghi_000030", BOX, OTHER),
        entry("ABCDEFGHIJK_000004", BOX, [0.3, 0.2, HUGE, 0.9], label="female speech, woman speaking"),
        entry("abcdefghijk_000004", [0.5, 0.5, 1.25, 0.9], label="playing cello"),
        entry("zzz_efghijk_000120", [0.2, 1.0, 0.7, 1.0]),
    ]
    write_json(root / "vggss.json", entries)
    put(root / "videos", ["-abcdefghi_000030.mp4", "ABCDEFGHIJK_4000_14000.mp4", "zzz_efghijk_000120.mp4"], sound=True)
    put(root / "videos" / "playing cello", ["playing_cello_abcdefghijk_000004.mp4"], sound=True)
    return root


def test_vggss_finds_files_however_they_are_called(tmp_path):
    root = vggss(tmp_path)
    listing = list_corpus(root, corpus="vggss")
    found = segments(listing)
    assert {name: (s.label, s.truth["boxes"], s.group) for name, s in found.items()} == {
        "-abcdefghi_000030.mp4": ("dog barking", [BOX, OTHER], "-abcdefghi"),
        "ABCDEFGHIJK_4000_14000.mp4": ("female speech, woman speaking", [BOX], "ABCDEFGHIJK"),
        "playing_cello_abcdefghijk_000004.mp4": ("playing cello", [[0.5, 0.5, 1.0, 0.9]], "abcdefghijk"),
        "zzz_efghijk_000120.mp4": ("dog barking", [], "zzz_efghijk"),
    }
    assert [(item.name, item.cause) for item in listing.unusable] == [
        ("videos/ABCDEFGHIJK_4000_14000.mp4", "bad box"),
        ("videos/zzz_efghijk_000120.mp4", "bad box"),
    ]
    assert "1 of 2 boxes have no area in the picture" in listing.unusable[0].message
    assert list_corpus(root / "vggss.json", corpus="vggss").sources == listing.sources


def test_vggss_boxes_and_digest_reach_the_clips_of_shards(tmp_path):
    root = vggss(tmp_path / "v")
    summary = build(root, tmp_path / "out", replace(SETTINGS, corpus="vggss"))
    assert (summary.clips, summary.with_sound, summary.causes) == (4, 4, {"bad box": 2})
    found = metas(tmp_path / "out")
    digest = hashlib.sha256((root / "vggss.json").read_bytes()).hexdigest()
    mark = {"file": "vggss.json", "sha256": digest}
    assert all((meta["corpus"], meta["annotations"]) == ("vggss", mark) for meta in found.values())
    record = json.loads((tmp_path / "out" / "build.json").read_text())
    assert (record["corpus"], record["annotations"]) == ("vggss", mark | {"files": {"vggss.json": digest}})
    (cello,) = (meta for meta in found.values() if meta["label"] == "playing cello")
    assert boxes_at(cello, 0.5) == [(0.5, 0.5, 1.0, 0.9)]
    assert in_clip(cello, boxes_at(cello, 0.5))[0] == pytest.approx((0.5, 0.5, 1.0, 0.9), abs=0.02)
    write_json(root / "vggss.json", [entry("-abcdefghi_000030", BOX)])
    with pytest.raises(UserError, match=r"other annotations \('vggss.json' differs\)"):
        build(root, tmp_path / "out", replace(SETTINGS, corpus="vggss"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"file": "a_000001", "bbox": []}], "entry 0 lacks 'class'"),
        ([entry("a_000001", [1, 2, 3])], r"entry 0 \('a_000001'\): \[1, 2, 3\] is no box"),
        ({"a": 1}, "are no list of clips"),
        ([entry("-abcdefghi_000030", BOX)] * 2, "'-abcdefghi_000030' is listed twice"),
        ([entry("missing_____000001", BOX), entry("-abcdefghi_000030", BOX)], "VGG-SS: 1 of the 2 files"),
    ],
)
def test_vggss_files_that_are_wrong_are_named(tmp_path, content, message):
    root = vggss(tmp_path)
    write_json(root / "vggss.json", content)
    with pytest.raises(UserError, match=message):
        list_corpus(root, corpus="vggss")


def test_the_real_vggss_boxes_are_read_whole(tmp_path):
    """The public file of 5,158 clips; the videos of a part are there, as empty files: a listing opens none."""
    shutil.copy(real_data() / "B" / "vggss_boxes.json", tmp_path)
    entries = json.loads((tmp_path / "vggss_boxes.json").read_text())
    published = {e["file"]: np.clip(np.array(e["bbox"], dtype=np.float64), 0, 1) for e in entries}
    areas = {name: (b[:, 2] > b[:, 0]) & (b[:, 3] > b[:, 1]) for name, b in published.items()}
    bad = [name for name, area in areas.items() if not area.all()]
    there = {*bad, *list(published)[::40]}
    for name in there:
        (tmp_path / f"{name}.mp4").touch()
    listing = list_corpus(tmp_path, corpus="vggss", allow_missing=True)
    causes = Counter(item.cause for item in listing.unusable)
    assert causes == {"file missing": 5158 - len(there), "bad box": len(bad)}
    assert len(bad) == 18
    for source in listing.sources:
        name, boxes = source.path.stem, source.segments[0].truth["boxes"]
        np.testing.assert_array_equal(np.array(boxes).reshape(-1, 4), published[name][areas[name]])


@pytest.mark.slow
def test_real_clips_with_boxes_of_vggss(tmp_path):
    source = real_data() / "B" / "vggss_localization" / "boxes.json"
    listing = list_corpus(source, corpus="vggss")
    assert sorted(s.segments[0].label for s in listing.sources) == [
        "baby crying",
        "dog barking",
        "playing double bass",
        "waterfall burbling",
    ]
    summary = build(source, tmp_path, replace(SETTINGS, corpus="vggss", limit=1, frame_rate=5.0))
    assert summary.with_sound == 1
    (meta,) = metas(tmp_path).values()
    assert len(boxes_at(meta, 5.0)) >= 1
    assert boxes_at(meta, 1.0) == []


def people(*boxes):
    """The XML of a picture with a box an annotator; the first child of a bbox is no corner."""
    rows = "".join(
        f"<object><id>1</id><bbox><label>0</label><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bbox></object>\r\n"
        for x0, y0, x1, y1 in boxes
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\r\n<annotation>{rows}</annotation>'


BOXES = ((0, 0, 128, 256), (64, 0, 256, 256), (0, 128, 256, 256))


def flickr(root):
    text(root / "flickr_test.csv", "10000130166,202", "10007936344,0", end="\r\n", last=False)
    for name in ("10000130166", "10007936344", "99"):
        text(root / "Annotations" / f"{name}.xml", people(*BOXES))
    still(root / "Data" / "10000130166", "10000130166")
    put(root / "Data", ["10007936344.mp4"], sound=True, seconds=3.0)
    return root


def test_flickr_soundnet_keeps_the_boxes_of_three_annotators(tmp_path):
    root = flickr(tmp_path / "f")
    summary = build(root, tmp_path / "out", replace(SETTINGS, corpus="flickr-soundnet"))
    assert (summary.clips, summary.with_sound) == (2, 2)
    found = {meta["source"]: meta for meta in metas(tmp_path / "out").values()}
    picture, video = found["Data/10000130166/10000130166.jpg"], found["Data/10007936344.mp4"]
    expected = [tuple(v / 256 for v in box) for box in BOXES]
    for meta, time in ((picture, 0.1), (video, 1.5)):
        assert meta["truth"]["annotators"] == ["1", "2", "3"]
        assert boxes_at(meta, time) == expected
        truth = consensus_truth(boxes_at(meta, time))
        assert (truth[200, 100], truth[10, 10], truth[200, 200]) == (1.0, 0.5, 1.0)
    assert boxes_at(picture, 1.4) == expected, "a still picture's boxes hold always"
    assert boxes_at(video, 0.1) == []
    assert picture["group"] == "10000130166"
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "Annotations").glob("1*.xml")
    }
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    assert picture["annotations"]["sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_flickr_soundnet_files_that_are_wrong_are_named(tmp_path):
    root = flickr(tmp_path)
    (root / "Data" / "10000130166" / "10000130166.wav").unlink()
    with pytest.raises(UserError, match=r"Flickr-SoundNet: 1 of the 2 files .* '10000130166'"):
        list_corpus(root, corpus="flickr-soundnet")
    assert len(list_corpus(root, corpus="flickr-soundnet", allow_missing=True).sources) == 1
    text(root / "Annotations" / "10007936344.xml", "<annotation><a><bbox><b>1</b></bbox></a></annotation>")
    with pytest.raises(UserError, match=r"10007936344.xml': a bbox has no four numbers"):
        list_corpus(root, corpus="flickr-soundnet", allow_missing=True)
    text(root / "Annotations" / "10007936344.xml", "<annotation><a>")
    with pytest.raises(UserError, match="are no XML"):
        list_corpus(root, corpus="flickr-soundnet", allow_missing=True)
    text(root / "flickr_test.csv", "10007936344,0", "123,4")
    with pytest.raises(UserError, match=r"list file missing: 1 of the 2 ids .* the first is '123'"):
        list_corpus(root, corpus="flickr-soundnet")
    text(root / "flickr_test.csv", "a,b", "c,d")
    with pytest.raises(UserError, match=r"holds 0 ids of Flickr \(numbers\) in 2 rows"):
        list_corpus(root, corpus="flickr-soundnet")


def test_the_real_ids_of_flickr_soundnet(tmp_path):
    shutil.copy(real_data() / "B" / "flickr_soundnet_test_ids.csv", tmp_path)
    with open(tmp_path / "flickr_soundnet_test_ids.csv", newline="") as file:
        ids = [row[0] for row in csv.reader(file)]
    for name in ids:
        text(tmp_path / "Annotations" / f"{name}.xml", people(*BOXES))
        (tmp_path / f"{name}.mp4").touch()
    text(tmp_path / "Annotations" / "1.xml", people(*BOXES))
    for source in (tmp_path, tmp_path / "flickr_soundnet_test_ids.csv"):
        listing = list_corpus(source, corpus="flickr-soundnet")
        assert len(listing.sources) == 249
        assert listing.record["annotations"]["file"] == "249 files"
        assert "files" not in listing.record["annotations"], "too many to name one by one"


def test_a_still_picture_lasts_as_long_as_its_sound(tmp_path):
    still(tmp_path, "a", seconds=2.3)
    measured = media.measure(still_video(tmp_path / "a.jpg", tmp_path / "a.wav"))
    assert len(measured.frame_times) == 12
    assert measured.samples == pytest.approx(2.3 * 22050, abs=1)
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no picture")
    for picture, sound in (("bad.jpg", "a.wav"), ("a.jpg", "bad.jpg"), ("a.wav", "a.wav"), ("a.jpg", "none.wav")):
        with pytest.raises(MediaError):
            still_video(tmp_path / picture, tmp_path / sound)


HEAD = "Category&VideoID&Quality&StartTime&EndTime"


def ave(root):
    rows = ["Church bell&RUhOCu3LNXM&good&0&10", "Male speech, man speaking&-aB_c&good&2&7", "Banjo&-aB_c&good&1&3"]
    text(root / "Annotations.txt", HEAD, *rows, end="\r\n")
    text(root / "trainSet.txt", *rows[:1], end="\r\n")
    text(root / "valSet.txt", *rows[2:], last=False)
    text(root / "testSet.txt", *rows[1:2])
    put(root / "AVE", ["RUhOCu3LNXM.mp4", "-aB_c.mp4"], sound=True)
    return root


def test_ave_rows_become_clips_with_their_events(tmp_path):
    root = ave(tmp_path / "ave")
    summary = build(root, tmp_path / "out", replace(SETTINGS, corpus="ave"))
    assert (summary.clips, summary.sources, summary.causes) == (3, 2, {})
    found = {meta["label"]: meta for meta in metas(tmp_path / "out").values()}
    speech = found["Male speech, man speaking"]
    assert (speech["folds"], speech["split"], speech["group"]) == ({"official": "test"}, "test", "-aB_c")
    assert found["Banjo"]["folds"] == {"official": "val"}
    assert speech["truth"]["events"] == [
        {"label": "Male speech, man speaking", "start": 2.0, "end": 7.0, "quality": "good"},
        {"label": "Banjo", "start": 1.0, "end": 3.0, "quality": "good"},
    ]


def test_ave_files_that_are_wrong_are_named(tmp_path):
    root = ave(tmp_path)
    text(root / "testSet.txt", "Church bell&RUhOCu3LNXM&good&0&10")
    with pytest.raises(UserError, match=r"testSet.txt': 'Church bell' in 'RUhOCu3LNXM' is in train and in test"):
        list_corpus(root, corpus="ave")
    text(root / "testSet.txt", "Truck&RUhOCu3LNXM&good&0&10")
    with pytest.raises(UserError, match=r"names 'Truck' in 'RUhOCu3LNXM', and .* does not"):
        list_corpus(root, corpus="ave")
    (root / "testSet.txt").unlink()
    with pytest.raises(UserError, match=r"list file missing: there is no 'testSet.txt'"):
        list_corpus(root, corpus="ave")
    text(root / "Annotations.txt", HEAD, "Truck&abc&good&0")
    with pytest.raises(UserError, match="line 2: 'Truck&abc&good&0' is no 'category&video&quality&start&end'"):
        list_corpus(root, corpus="ave")


def test_the_command_line_takes_the_name_of_a_data_set(tmp_path, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["shards", "build", *map(str, arguments)])
        return left.value.code, capsys.readouterr().err

    root = vggss(tmp_path / "v")
    (root / "videos" / "-abcdefghi_000030.mp4").unlink()
    code, said = run(root, tmp_path / "out", "--corpus", "vggs")
    assert (code, "did you mean 'vggss'?" in said) == (2, True)
    code, said = run(root, tmp_path / "out", "--corpus", "vggss")
    assert (code, "VGG-SS: 1 of the 4 files" in said) == (2, True)
    few = ["--corpus", "vggss", "--allow_missing", "true", "--processes", "1", "--limit", "1"]
    main(["shards", "build", str(root), str(tmp_path / "out"), *few])
    assert "failures: 2 bad box, 1 file missing" in capsys.readouterr().out
