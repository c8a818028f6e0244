import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.errors import UserError
from mmssl.localization.truth import boxes_at, cut, has_boxes, in_clip, in_frame, sound_kind

A, B = [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]


def test_boxes_with_times_are_those_of_the_nearest_frame_of_the_source():
    meta = {"start": 1.0, "truth": {"boxes": [A, None, B], "box_times": [1.0, 1.1, 1.2]}}
    assert boxes_at(meta, 0.01) == [tuple(A)]
    assert boxes_at(meta, 0.1) == []  # not seen
    assert boxes_at(meta, 0.2) == [tuple(B)]
    assert boxes_at(meta, 0.9) == []  # not known
    with pytest.raises(UserError, match="clip 'k': 1 boxes but 2 box_times"):
        boxes_at({"truth": {"boxes": [A], "box_times": [0.0, 0.1]}}, 0.0, "k")


def test_boxes_of_a_middle_frame_hold_near_the_middle_of_the_source():
    whole = {"extra": {"bbox": [A, B]}, "duration": 10.0, "start": 0.0, "original": {"seconds": 10.0}}
    assert boxes_at(whole, 5.0) == [tuple(A), tuple(B)]
    assert boxes_at(whole, 3.0) == []
    cut_out = whole | {"duration": 4.0, "start": 4.0}
    assert boxes_at(cut_out, 1.0) == [tuple(A), tuple(B)]
    assert boxes_at(cut_out, 3.5) == []
    assert boxes_at({"boxes": A, "duration": 3.0}, 1.5) == [tuple(A)]  # a foreign shard, one box


def test_boxes_of_a_csv_column_and_clips_without():
    assert has_boxes({"extra": {"boxes": json.dumps([A])}})
    assert not has_boxes({"truth": {"boxes": None}, "extra": {}})
    assert boxes_at({}, 0.0) == []
    with pytest.raises(UserError, match=r"clip 'k': the box \[10.0, 20.0, 30.0, 40.0\] is not in fractions"):
        boxes_at({"boxes": [[10, 20, 30, 40]], "duration": 1.0}, 0.5, "k")
    with pytest.raises(UserError, match=r"\[0.1, 0.2\] is no box"):
        boxes_at({"boxes": [[0.1, 0.2]], "duration": 1.0}, 0.5, "k")


def test_the_kind_of_sound_is_the_material_or_the_label():
    assert sound_kind({"truth": {"material": "glass"}}, "roll") == "glass"
    assert sound_kind({"truth": None}, "dog barking") == "dog barking"
    assert sound_kind({}, None) is None


def test_what_the_build_cut_off_is_taken_into_account():
    meta = {  # 200 x 100 scaled by half and cut to 50 x 50 around the centre
        "original": {"width": 200, "height": 100},
        "affine": [[0.5, 0.0, -25.0], [0.0, 0.5, 0.0]],
        "width": 50,
        "height": 50,
        "rotation": 0,
    }
    assert in_clip(meta, [(0.25, 0.0, 0.75, 1.0)]) == [(0.0, 0.0, 1.0, 1.0)]
    assert in_clip({}, [tuple(A)]) == [tuple(A)]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_boxes_follow_a_turned_picture(turns):
    """A lit rectangle of the upright picture is where its box says, after the build's and the decoder's geometry."""
    from mmssl.data.shards.picture import Geometry

    upright = (60, 40) if turns % 2 else (40, 60)  # (height, width)
    coded = (40, 60)
    build = Geometry(scaled=coded, turns=turns, size=upright, offset=(0, 0))
    box = (0.1, 0.2, 0.4, 0.7)
    meta = {
        "original": {"width": coded[1], "height": coded[0]},
        "affine": build.affine(coded),
        "rotation": turns * 90,
        "width": upright[1],
        "height": upright[0],
    }
    np.testing.assert_allclose(in_clip(meta, [box])[0], box, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3), st.integers(20, 90), st.integers(20, 90))
def test_the_cut_is_read_from_the_decoders_geometry(turns, width, height):

    import av
    from av.video.reformatter import VideoReformatter

    from mmssl.data.decode import fitting

    fitter = fitting.PictureFitter(VideoReformatter(), (32, 48))
    frame = av.VideoFrame.from_ndarray(np.zeros((2 * height, 2 * width, 3), np.uint8), format="rgb24")
    original, fitting.quarter_turns = fitting.quarter_turns, lambda _: turns
    try:
        fitter.fit(frame)
    finally:
        fitting.quarter_turns = original
    (left, top), full = cut(fitter.geometry, (32, 48))
    up = (height, width) if turns % 2 else (width, height)
    scale = max(48 / up[0], 32 / up[1])
    assert full == pytest.approx((up[0] * scale, up[1] * scale), abs=1.51)
    assert left == pytest.approx((full[0] - 48) / 2, abs=1e-6)
    assert top == pytest.approx((full[1] - 32) / 2, abs=1e-6)


def test_boxes_outside_of_the_cut_are_dropped_and_others_are_cut():
    geometry = np.array([[1.0, 0.0, -10.0], [0.0, 1.0, 0.0]])  # 40 x 20 cut to 20 x 20
    found = in_frame([(0.0, 0.0, 0.2, 1.0), (0.0, 0.0, 0.5, 0.5)], geometry, (20, 20))
    assert found == [(0.0, 0.0, 0.5, 0.5)]
