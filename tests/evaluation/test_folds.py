import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.errors import UserError
from mmssl.evaluation.folds import (
    Fold,
    by_split,
    check_folds,
    class_names,
    corpus_name,
    drawn_part,
    group_names,
    leave_one_out,
    official_folds,
    recorded_together,
    validation_rows,
)


def test_groups_come_from_the_source_or_the_key():
    keys = ("a_seq1", "b_seq2", "c")
    metas = ({}, {}, {"source": "x/set1_clip7_seq12.avi"})
    assert group_names(keys, metas, r"_seq(\d+)") == ("1", "2", "12")
    assert group_names(keys, metas, r"_seq\d+") == ("_seq1", "_seq2", "_seq12")
    with pytest.raises(UserError, match="matches neither the source '' nor the key 'a_seq1'"):
        group_names(keys, metas, "take")
    with pytest.raises(UserError, match=r"group '\(' is no regular expression"):
        group_names(keys, metas, "(")


def test_leaving_one_group_out_tests_every_clip_once():
    folds = leave_one_out(("1", "2", "1", "3"), "x")
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == [0, 1, 2, 3]
    assert all(not set(fold.train) & set(fold.test) for fold in folds)
    with pytest.raises(UserError, match="puts all 2 clips into the one group 'a'"):
        leave_one_out(("a", "a"), "x")


def test_the_split_field_names_train_and_test():
    metas = [{"split": s} for s in ("train", "val", "test", "train")]
    fold = by_split(metas)[0]
    assert (fold.name, fold.train.tolist(), fold.test.tolist()) == ("test", [0, 3], [2])
    assert by_split(metas[:2])[0].name == "val"
    with pytest.raises(UserError, match=r"\(found: none, train\); give --train and --test shards, or --group"):
        by_split([{"split": "train"}, {}])


def test_labels_that_cannot_be_probed_are_named():
    with pytest.raises(UserError, match="1 of 2 clips have no label, the first is 'b'"):
        class_names(("x", None), ("a", "b"))
    with pytest.raises(UserError, match="all 2 clips have the label 'x'"):
        class_names(("x", "x"), ("a", "b"))
    labels = np.array([0, 0, 1])
    with pytest.raises(UserError, match=r"fold 't': 1 labels of the test clips are not among .* \('run'\)"):
        check_folds([Fold("t", np.array([0, 1]), np.array([2]))], labels, ("hop", "run"))
    with pytest.raises(UserError, match="fold 't' has no test clips"):
        check_folds([Fold("t", np.array([0, 1]), np.array([], int))], labels, ("hop", "run"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.integers(1, 20), st.integers(0, 5))
def test_the_drawn_part_is_stratified_and_the_validation_part_never_splits_a_group(labels, groups, seed):
    y = np.array(labels)
    keys = [f"k{i}" for i in range(len(y))]
    part = drawn_part(keys, y, seed)
    for label in np.unique(y):
        assert part[y == label].sum() == max(1, round(0.8 * (y == label).sum()))
    member = np.arange(len(y)) % groups
    held = validation_rows(y, member, seed)
    for group in np.unique(member):
        assert held[member == group].all() or not held[member == group].any()
    assert set(np.unique(y[~held])) == set(np.unique(y))


def test_the_draw_is_of_the_key_and_differs_by_seed():
    keys, y = [f"k{i}" for i in range(50)], np.zeros(50, int)
    part = drawn_part(keys, y, 0)
    assert (drawn_part(keys[::-1], y, 0)[::-1] == part).all()
    assert (drawn_part(keys, y, 1) != part).any()


def test_the_validation_part_holds_about_a_fifth_of_each_class():
    y = np.repeat(np.arange(6), 40)
    held = validation_rows(y, np.arange(240), 0)
    assert (np.bincount(y[held], minlength=6) == 8).all()


def folds_of(*descriptions):
    return [{"key": f"k{i}", "folds": folds} for i, folds in enumerate(descriptions)]


def test_official_folds_are_read_from_the_descriptions():
    metas = folds_of(
        {"2": "test", "10": "train", "1": "train"}, {"2": "train", "1": "test", "10": "test"}, {"10": "train"}, {}
    )
    folds = official_folds([*metas, {}])
    assert [(f.name, f.train.tolist(), f.test.tolist()) for f in folds] == [
        ("1", [0], [1]),
        ("2", [1], [0]),
        ("10", [0, 2], [1]),
    ]
    assert official_folds([{}, {"folds": {}}]) == []


def test_clips_to_validate_test_only_where_no_others_do():
    three = official_folds(folds_of({"a": "train"}, {"a": "val"}, {"a": "test"}))[0]
    assert (three.train.tolist(), three.test.tolist()) == ([0], [2])
    assert official_folds(folds_of({"a": "train"}, {"a": "val"}))[0].test.tolist() == [1]


def test_official_folds_that_cannot_be_used_are_named():
    with pytest.raises(UserError, match="official fold '2' has no test clips among these 2; give all shards"):
        official_folds(folds_of({"1": "train", "2": "train"}, {"1": "test", "2": "train"}))
    with pytest.raises(UserError, match="official fold '1' has no train clips"):
        official_folds(folds_of({"1": "test"}))
    with pytest.raises(UserError, match=r"clip 'k0': folds {'1': 'both'} does not map names to train, val or test"):
        official_folds(folds_of({"1": "both"}))


def test_clips_recorded_together_are_those_of_a_group_or_of_a_file():
    metas = [{"group": "g1", "source": "a.mp4"}, {"group": "g1", "source": "b.mp4"}, {"source": "c.mp4"}, {}]
    assert recorded_together(("a", "b", "c", "d"), metas) == ("g1", "g1", "c.mp4", "d")
    marked = [{"corpus": name} for name in ("ucf101", "hmdb51", "ucf101")]
    assert corpus_name([*marked, {}]) == "hmdb51 and ucf101"
    assert corpus_name([{"corpus": "kth", "annotations": {"file": "l", "sha256": "0123456789abcdef"}}]) == (
        "kth (lists sha256 0123456789ab...)"
    )
    assert corpus_name([{}]) == "the shards"


def test_a_class_that_a_fold_tests_and_does_not_train_is_named():
    folds = official_folds(folds_of({"1": "train"}, {"1": "train"}, {"1": "test"}))
    with pytest.raises(
        UserError, match=r"fold '1': 1 labels of the test clips are not among the train clips \('run'\)"
    ):
        check_folds(folds, np.array([0, 0, 1]), ("hop", "run"))
