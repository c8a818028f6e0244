"""Readers of action data sets: labels, official folds and groups, and what is wrong with a copy of one."""

from __future__ import annotations

import os
import shutil
import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from mmssl.data.corpora.hmdb51 import filmed
from mmssl.data.corpora.kth import PEOPLE
from mmssl.data.corpora.listing import CORPORA, list_corpus
from mmssl.data.shards import BuildSettings, build
from mmssl.errors import UserError
from mmssl.evaluation.action import arrange
from mmssl.evaluation.features import FeatureTable
from tests.data.known_sets import HMDB_NAMES, hmdb51, metas, put, segments, text, ucf101
from tests.requirements import real_data

SETTINGS = BuildSettings(short_side=32, clip_seconds=None, min_seconds=0.5, processes=1)


def table_of(found):
    keys = tuple(found)
    labels = tuple(found[key]["label"] for key in keys)
    return FeatureTable(keys, np.zeros((len(keys), 1, 2), np.float32), labels, tuple(found.values()), {})


def arranged(folder):
    found = metas(folder)
    clips = arrange(table_of(found), [len(found)])
    sources = np.array([meta["source"] for meta in found.values()])
    return clips, sources


@pytest.fixture(scope="module")
def ucf(tmp_path_factory):
    return ucf101(tmp_path_factory.mktemp("ucf"))


@pytest.fixture
def copy(ucf, tmp_path):
    return shutil.copytree(ucf, tmp_path / "copy")


def test_an_unknown_data_set_is_named_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"corpus 'ucf-101' is not known; did you mean 'ucf101'\?; known are auto, ucf"):
        list_corpus(tmp_path, corpus="ucf-101")


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_every_reader_says_what_a_folder_lacks(tmp_path, name):
    put(tmp_path, ["holiday.mp4"])
    with pytest.raises(UserError, match=r"list file missing|is called as"):
        list_corpus(tmp_path, corpus=name)
    with pytest.raises(UserError, match="does not exist"):
        list_corpus(tmp_path / "nowhere", corpus=name)


def test_ucf101_labels_folds_and_groups(ucf):
    listing = list_corpus(ucf, corpus="ucf101")
    found = segments(listing)
    assert len(listing.sources) == 36
    first = found["v_ApplyEyeMakeup_g03_c02.avi"]
    assert (first.label, first.group, first.split) == ("ApplyEyeMakeup", "ApplyEyeMakeup_g03", None)
    assert first.folds == {"1": "train", "2": "test", "3": "train"}
    trap = found["v_HandStandPushups_g01_c01.avi"]
    assert (trap.label, trap.folds["1"]) == ("HandstandPushups", "test")
    assert found["v_Archery_g03_c02.avi"].group != first.group, "groups of two classes are different films"
    assert listing.record["annotations"]["file"] == "7 files"
    assert len(listing.record["annotations"]["files"]) == 7
    assert list_corpus(ucf, corpus="ucf101", labels="none").sources[0].segments[0].label is None


def test_ucf101_spelled_and_kept_otherwise(copy):
    """The files' names in the folder's spelling, transcoded to mp4, all in one folder that is a link."""
    flat = copy.parent / "flat"
    flat.mkdir()
    for path in (copy / "UCF-101").rglob("*.avi"):
        path.rename(flat / path.name.replace("HandStand", "Handstand").replace(".avi", ".MP4"))
    shutil.rmtree(copy / "UCF-101")
    os.symlink(flat, copy / "videos")
    os.symlink(copy, flat / "loop")
    found = segments(list_corpus(copy, corpus="ucf101"))
    assert found["v_HandstandPushups_g01_c01.MP4"].label == "HandstandPushups"
    assert len(found) == 36


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("testlist02.txt", None, r"list file missing: there is no 'testlist02.txt' below .* UCF101TrainTestSplits"),
        ("classInd.txt", None, "list file missing: there is no 'classInd.txt'"),
        ("classInd.txt", ["1 ApplyEyeMakeup", "2 Archery"], "the class 'HandstandPushups' is unknown to classInd.txt"),
        ("classInd.txt", ["ApplyEyeMakeup"], "line 1: 'ApplyEyeMakeup' is no number and class"),
        ("trainlist01.txt", ["Archery/v_Archery_g03_c01.avi 3"], "'Archery' has number 3, in classInd.txt it is 2"),
        ("trainlist01.txt", ["Archery/v_Archery_g01_c01.avi 2"], "is in train and in test of fold 1"),
        ("trainlist03.txt", ["v_Archery_g01_c01.avi 2"], "line 1: .* is no 'Class/file.avi'"),
        (
            "trainlist01.txt",
            ["Archrey/v_Archery_g03_c01.avi 2"],
            "class 'Archrey' is unknown .* did you mean 'Archery'",
        ),
    ],
)
def test_ucf101_lists_that_are_wrong_are_named(copy, name, lines, message):
    path = copy / "ucfTrainTestlist" / name
    path.unlink()
    if lines is not None:
        text(path, *lines)
    with pytest.raises(UserError, match=message):
        list_corpus(copy, corpus="ucf101")


def test_missing_files_are_counted_and_may_be_allowed(copy):
    for path in (copy / "UCF-101" / "Archery").glob("*_g01_*"):
        path.unlink()
    with pytest.raises(
        UserError, match=r"UCF101: 2 of the 36 files .* first are 'Archery/v_Archery_g01_c01', .*allow_mi"
    ):
        list_corpus(copy, corpus="ucf101")
    listing = list_corpus(copy, corpus="ucf101", allow_missing=True)
    assert len(listing.sources) == 34
    assert [(item.name, item.cause) for item in listing.unusable] == [
        ("Archery/v_Archery_g01_c01", "file missing"),
        ("Archery/v_Archery_g01_c02", "file missing"),
    ]
    shutil.rmtree(copy / "UCF-101")
    with pytest.raises(UserError, match=r"36 of the 36 files .* is this the folder that holds the videos"):
        list_corpus(copy, corpus="ucf101", allow_missing=True)


def test_ucf101_in_shards_is_evaluated_by_its_folds_without_a_flag(ucf, tmp_path):
    summary = build(ucf, tmp_path / "out", replace(SETTINGS, corpus="ucf101"))
    assert (summary.clips, summary.causes) == (36, {})
    clips, sources = arranged(tmp_path / "out")
    assert [fold.name for fold in clips.folds] == ["1", "2", "3"]
    assert clips.how.startswith("official folds of ucf101 (lists sha256 ")
    for fold, first in zip(clips.folds, (1, 3, 5), strict=True):
        assert {int(name.split("_g")[1][:2]) for name in sources[fold.test]} == {first, first + 1}
        assert (len(fold.train), len(fold.test)) == (24, 12)
        assert not set(clips.groups[fold.train]) & set(clips.groups[fold.test])
    assert len(set(clips.groups)) == 18


def test_a_build_with_other_annotations_does_not_go_on(copy, tmp_path):
    settings = replace(SETTINGS, corpus="ucf101", limit=2)
    build(copy, tmp_path / "out", settings)
    rows = (copy / "ucfTrainTestlist" / "trainlist03.txt").read_text().splitlines()
    text(copy / "ucfTrainTestlist" / "trainlist03.txt", *rows[1:])
    with pytest.raises(UserError, match=r"built with other annotations \('trainlist03.txt' differs\)"):
        build(copy, tmp_path / "out", settings)


def test_hmdb51_names_flags_and_films(tmp_path):
    root = hmdb51(tmp_path)
    put(root / "videos" / "wave", ["unlisted_wave_f_cm_np1_ba_med_0.avi"])
    listing = list_corpus(root, corpus="hmdb51")
    found = segments(listing)
    first, other, third, fourth, fifth = (found[name] for name in HMDB_NAMES["brush_hair"])
    assert first.folds == {"1": "train", "2": "train", "3": "test"}
    assert fourth.folds == {"2": "test", "3": "train"}, "0 is in neither"
    assert (first.label, first.group) == ("brush_hair", "April_09")
    assert other.group == "April_09"
    assert third.group == "#20_Rhythm_clap_u_nm_np1_fr_goo_3"
    assert fifth.group == "Bürste & Kamm; Teil 2!"
    assert found["20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi"].label == "cartwheel"
    assert listing.ignored == {"videos that no list names": 1}
    assert filmed("a_kiss_b_kiss_u_cm_np2_fr_bad_7", "kiss") == "a_kiss_b"


def test_hmdb51_with_decomposed_names_and_lists_that_are_wrong(tmp_path):
    root = hmdb51(tmp_path)
    name = HMDB_NAMES["brush_hair"][4]
    path = root / "videos" / "brush_hair" / name
    path.rename(path.with_name(unicodedata.normalize("NFD", name)))  # as macOS unpacks
    assert len(list_corpus(root, corpus="hmdb51").sources) == 10
    lists = root / "testTrainMulti_7030_splits"
    text(lists / "cartwheel_test_split2.txt", "a_cartwheel_f_cm_np1_le_med_0.avi 3 ")
    with pytest.raises(UserError, match=r"cartwheel_test_split2.txt', line 1: .* is no file name and 0, 1 or 2"):
        list_corpus(root, corpus="hmdb51")
    (lists / "cartwheel_test_split2.txt").unlink()
    with pytest.raises(UserError, match=r"list file missing: there is no 'cartwheel_test_split2.txt'"):
        list_corpus(root, corpus="hmdb51")


def test_hmdb51_same_file_name_in_two_classes(tmp_path):
    root = hmdb51(tmp_path)
    shared = "film_cartwheel_f_cm_np1_le_med_0.avi"
    for label in ("brush_hair", "cartwheel"):
        put(root / "videos" / label, [shared])
        for fold in "123":
            path = root / "testTrainMulti_7030_splits" / f"{label}_test_split{fold}.txt"
            path.write_text(path.read_text() + f"{shared} {1 if label == 'cartwheel' else 2} ")
    listing = list_corpus(root, corpus="hmdb51")
    of = {source.name: source.segments for source in listing.sources if source.name.endswith(shared)}
    assert {name: (s[0].label, s[0].folds["1"], len(s)) for name, s in of.items()} == {
        f"videos/brush_hair/{shared}": ("brush_hair", "test", 1),
        f"videos/cartwheel/{shared}": ("cartwheel", "train", 1),
    }


def kinetics(root):
    head = "label,youtube_id,time_start,time_end,split,is_cc"
    text(
        root / "annotations" / "train.csv",
        head,
        '"air drumming",-3B32lodo2M,59,69,train,0',
        "abseiling,Abc,0,10,train,0",
    )
    text(
        root / "annotations" / "val.csv",
        head,
        "abseiling,aBC,0,10,validate,0",
        '"air drumming",x_y,7,17,val,0',
        last=False,
    )
    text(root / "annotations" / "test.csv", "youtube_id,time_start,time_end,split", "withheld,3,13,test")
    text(root / "notes.csv", "a,b", "1,2")
    put(
        root,
        [
            "train/-3B32lodo2M_000059_000069.mp4",
            "train/Abc_000000_000010.mp4",
            "val/abseiling/aBC_000000_000010.mp4",
            "val/air_drumming/x_y_000007_000017.mp4",
            "test/withheld_000003_000013.mp4",
        ],
    )
    return root


def test_kinetics_splits_layouts_and_ids_that_differ_by_case(tmp_path):
    root = kinetics(tmp_path)
    put(root, ["replacement/replacement_for_corrupted_k400/Abc_000000_000010.mp4"])
    listing = list_corpus(root, corpus="kinetics400")
    found = {source.name: source.segments[0] for source in listing.sources}
    assert {name: (s.label, s.split, s.folds, s.group) for name, s in found.items()} == {
        "train/-3B32lodo2M_000059_000069.mp4": ("air drumming", "train", {"official": "train"}, "-3B32lodo2M"),
        "replacement/replacement_for_corrupted_k400/Abc_000000_000010.mp4": (
            "abseiling",
            "train",
            {"official": "train"},
            "Abc",
        ),
        "val/abseiling/aBC_000000_000010.mp4": ("abseiling", "val", {"official": "val"}, "aBC"),
        "val/air_drumming/x_y_000007_000017.mp4": ("air drumming", "val", {"official": "val"}, "x_y"),
        "test/withheld_000003_000013.mp4": (None, "test", {}, "withheld"),
    }
    assert sorted(listing.record["annotations"]["files"]) == ["test.csv", "train.csv", "val.csv"]
    assert listing.record["corpus"] == "kinetics400"
    assert list_corpus(root, corpus="kinetics700").record["corpus"] == "kinetics700"


def test_kinetics_is_tested_on_val_and_its_faults_are_named(tmp_path):
    root = kinetics(tmp_path / "k")
    (root / "val" / "abseiling" / "aBC_000000_000010.mp4").unlink()
    with pytest.raises(UserError, match=r"kinetics400: 1 of the 5 files .* 'aBC_000000_000010'"):
        list_corpus(root, corpus="kinetics400")
    summary = build(root, tmp_path / "out", replace(SETTINGS, corpus="kinetics400", allow_missing=True))
    assert summary.causes == {"file missing": 1}
    assert sorted(path.name for path in summary.shards) == [f"{s}-000000.tar" for s in ("test", "train", "val")]
    found = {key: meta for key, meta in metas(tmp_path / "out").items() if meta["label"]}
    clips = arrange(table_of(found), [len(found)])
    assert [(fold.name, len(fold.train), len(fold.test)) for fold in clips.folds] == [("official", 2, 1)]
    text(root / "annotations" / "more.csv", "label,youtube_id,time_start,time_end,split", "abseiling,Abc,0,10,val")
    with pytest.raises(UserError, match=r"train.csv', line 3: 'Abc_000000_000010' is 'abseiling' in train, .* in val"):
        list_corpus(root, corpus="kinetics400", allow_missing=True)
    text(root / "annotations" / "more.csv", "label,youtube_id,time_start,time_end,split", "abseiling,Abc,0,ten,val")
    with pytest.raises(UserError, match="line 2: '0' to 'ten' are no seconds"):
        list_corpus(root, corpus="kinetics400", allow_missing=True)


def kth(root, people=(11, 12, 19, 1, 22, 2), actions=("boxing", "walking")):
    put(root, [f"{action}/person{p:02d}_{action}_d1_uncomp.avi" for action in actions for p in people], seconds=2.0)
    return root


def test_kth_goes_by_person(tmp_path):
    root = kth(tmp_path)
    found = segments(list_corpus(root, corpus="kth"))
    assert {(s.group, s.split) for s in found.values()} == {
        ("person11", "train"),
        ("person12", "train"),
        ("person19", "val"),
        ("person01", "val"),
        ("person22", "test"),
        ("person02", "test"),
    }
    assert sorted(person for people in PEOPLE.values() for person in people) == list(range(1, 26))
    put(root, ["boxing/person26_boxing_d1_uncomp.avi"])
    with pytest.raises(UserError, match="'person26_boxing_d1' is none of 25 people"):
        list_corpus(root, corpus="kth")


def test_kth_ranges_of_frames_become_clips(tmp_path):
    root = kth(tmp_path / "kth", people=(11, 19, 22))
    text(
        root / "00sequences.txt",
        "",
        "Training:   person11, 12, 13, 14, 15, 16, 17, 18",
        "",
        *(f"person{p}_walking_d1\t\tframes\t1-20, 26-50" for p in (11, 19)),
        "person22_walking_d1    \tframes\t26-50, 1-20",
        *(f"person{p}_boxing_d1\t\tframes\t1-50" for p in (11, 19, 22)),
        "person13_handclapping_d3\t*missing*",
    )
    summary = build(root, tmp_path / "out", replace(SETTINGS, corpus="kth"))
    found = metas(tmp_path / "out")
    assert (summary.clips, summary.causes) == (9, {})
    second = found["person11_walking_d1_s2"]
    assert (second["start"], second["duration"]) == (1.0, 1.04)  # 25 frames at 25, whole frames at 12.5
    assert found["person22_walking_d1_s1"]["start"] == 1.0
    clips = arrange(table_of(found), [len(found)])
    (fold,) = clips.folds
    people = np.array([meta["group"] for meta in found.values()])
    assert set(people[fold.train]) == {"person11"}
    assert set(people[fold.test]) == {"person22"}, "people who validate neither train nor test"
    text(root / "00sequences.txt", "person11_walking_d1\t\tframes\t1-20, 50-26")
    with pytest.raises(UserError, match="line 1: '1-20, 50-26' are no ranges of frames"):
        list_corpus(root, corpus="kth")
    text(root / "00sequences.txt", "person11_walking_d2\t\tframes\t1-20")
    with pytest.raises(UserError, match="KTH: 1 of the 1 files"):
        list_corpus(root, corpus="kth")


def test_ut_interaction_leaves_one_sequence_out_within_a_set(tmp_path):
    put(tmp_path, [f"segmented_set1/{n}_{q}_{n % 6}.avi" for q in (1, 2, 10) for n in range(6)])
    put(tmp_path, [f"segmented_set2/{n}_{q}_{n % 6}.avi" for q in (11, 12) for n in range(6)])
    found = {source.name: source.segments[0] for source in list_corpus(tmp_path, corpus="ut-interaction").sources}
    one, other = found["segmented_set1/4_2_4.avi"], found["segmented_set2/0_11_0.avi"]
    assert (one.label, one.group) == ("punch", "set1-seq02")
    assert one.folds == {"set1-seq01": "train", "set1-seq02": "test", "set1-seq10": "train"}
    assert (other.label, other.folds) == ("shake_hands", {"set2-seq11": "test", "set2-seq12": "train"})
    put(tmp_path, ["segmented_set1/100_2_6.avi"])
    with pytest.raises(
        UserError, match=r"'segmented_set1/100_2_6.avi' has the action number 6; 0 to 5 are shake_hands"
    ):
        list_corpus(tmp_path, corpus="ut-interaction")


def test_ut_interaction_of_one_sequence_cannot_be_evaluated(tmp_path):
    put(tmp_path, ["hug/set1_clip10_seq2.avi", "kick/set1_clip9_seq2.avi"])
    with pytest.raises(UserError, match="set 1 has the one sequence 2"):
        list_corpus(tmp_path, corpus="ut-interaction")


def test_the_real_ut_interaction_has_ten_folds():
    listing = list_corpus(real_data() / "A" / "ut_interaction_set1", corpus="ut-interaction")
    rows = [source.segments[0] for source in listing.sources]
    assert len(rows) == 60
    assert {row.label for row in rows} == {"hug", "kick", "point", "punch", "push", "shake_hands"}
    assert sum(len([row for row in rows if row.folds[fold] == "test"]) for fold in rows[0].folds) == 60
    assert sorted(rows[0].folds) == [f"set1-seq{number:02d}" for number in range(1, 11)]
    assert all([fold for fold, side in row.folds.items() if side == "test"] == [row.group] for row in rows)


@pytest.mark.slow
def test_real_clips_of_ucf101_and_kinetics_under_their_lists(tmp_path):
    """Real clips of both data sets, under the names and lists that they have in the data sets."""
    given = real_data() / "A" / "ucf_kinetics_demo"
    ucf = tmp_path / "ucf"
    (ucf / "UCF-101" / "Archery").mkdir(parents=True)
    (ucf / "UCF-101" / "ApplyEyeMakeup").mkdir()
    lists = ucf / "ucfTrainTestlist"
    text(lists / "classInd.txt", "1 ApplyEyeMakeup", "3 Archery", end="\r\n")
    names = {"ApplyEyeMakeup": "ApplyEyeMakeup_mmaction2_test.avi", "Archery": "Archery_paddlevideo_example.avi"}
    for label, name in names.items():
        for group in (1, 8):
            shutil.copy(given / name, ucf / "UCF-101" / label / f"v_{label}_g{group:02d}_c01.avi")
    for fold in "123":
        text(lists / f"testlist0{fold}.txt", *(f"{c}/v_{c}_g01_c01.avi" for c in names), end="\r\n")
        text(
            lists / f"trainlist0{fold}.txt", *(f"{c}/v_{c}_g08_c01.avi {n}" for c, n in zip(names, (1, 3), strict=True))
        )
    settings = replace(SETTINGS, corpus="ucf101")
    assert build(ucf, tmp_path / "out", settings).clips == 4
    clips, _ = arranged(tmp_path / "out")
    assert [(len(fold.train), len(fold.test)) for fold in clips.folds] == [(2, 2)] * 3

    k = tmp_path / "k400"
    (k / "val").mkdir(parents=True)
    shutil.copy(given / "cleaning_pool_mmaction2_test.mp4", k / "val" / "abcdefghijk_000010_000020.mp4")
    text(k / "val.csv", "label,youtube_id,time_start,time_end,split", "cleaning pool,abcdefghijk,10,20,val")
    (source,) = list_corpus(k, corpus="kinetics400").sources
    assert source.segments[0].label == "cleaning pool"
