"""The time of a picture: presentation stamps, or those of decoding where a container makes the others up."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.timestamps import PictureClock
from tests.requirements import real_data


def times(pts: list[int | None], dts: list[int | None]) -> list[float | None]:
    clock = PictureClock()
    frames = [SimpleNamespace(pts=p, dts=d, time_base=Fraction(1, 10)) for p, d in zip(pts, dts, strict=True)]
    return [clock.seconds(frame) for frame in frames]


def test_presentation_stamps_that_rise_are_taken():
    assert times([0, 3, 7], [1, 2, 3]) == [0.0, 0.3, 0.7]
    assert times([0, 3, 7], [None, None, None]) == [0.0, 0.3, 0.7]
    assert times([0, 3, 7], [5, 5, 5]) == [0.0, 0.3, 0.7], "worse ones are no reason to leave them"


def test_stamps_that_step_back_are_left_for_those_of_decoding():
    assert times([0, 3, 1, 2, 6, 4], [0, 1, 2, 3, 4, 5]) == [0.0, 0.3, 0.2, 0.3, 0.4, 0.5]


def test_a_frame_without_presentation_stamp_has_that_of_decoding_or_none():
    assert times([None, None], [4, 5]) == [0.4, 0.5]
    assert times([None], [None]) == [None]


def test_real_clips_with_such_stamps_show_every_picture():
    path = sorted((real_data() / "A" / "ut_interaction_set1" / "kick").glob("*.avi"))[0]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stamps = np.array([frame.pts for frame in container.decode(stream)])
        rate = float(stream.average_rate)
    assert (np.diff(stamps) <= 0).mean() > 0.2, "a file of the kind that is meant"
    window = Window(Span((len(stamps) - 10) / rate, rate), size=(64, 96))
    clip = PyAVDecoder().decode(EncodedClip("a", "", path.read_bytes()), window, np.array([len(stamps) / rate / 2]))
    shown = np.unique(clip.frame_times[0])
    assert len(shown) > 0.95 * window.picture_count
