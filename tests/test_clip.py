"""Windows and batches: unions keep wanted times, tasks get what they would get alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl.clip import Clip, Span, Window
from mmssl.data.collate import collate_clips


def clip_of(window: Window, anchor: float, duration: float, key: str = "k") -> Clip:
    """A clip whose frame at time t has the grey value 10 * floor(10 t) and whose sample n is n / 1e5."""
    times = window.picture_times(anchor, duration)
    shown = np.floor(times * 10 + 1e-6)
    frames = np.broadcast_to((shown * 5).astype(np.uint8)[None, :, None, None, None], (1, len(times), 3, 4, 4)).copy()
    first, count = window.sound_grid(anchor, duration)
    audio = ((np.arange(count) + first) / 1e5).astype(np.float32)[None]
    return Clip(
        key=key,
        frames=frames,
        wanted_times=times[None],
        frame_times=shown[None] / 10,
        audio=audio,
        audio_start=np.array([first / window.sound_rate if window.sound_rate else 0.0]),
        audio_rate=window.sound_rate,
        has_picture=True,
        has_audio=True,
        sentences=(),
        duration=duration,
        anchors=np.array([anchor]),
        geometry=np.eye(2, 3),
    )


@given(st.floats(0, 1), st.floats(0.5, 20), st.floats(0.1, 3), st.floats(0.1, 3))
def test_a_shorter_span_lies_inside_a_longer_one(where: float, duration: float, a: float, b: float) -> None:
    short, long = Span(min(a, b), 100), Span(max(a, b), 100)
    anchor = where * duration
    inner, outer = short.start(anchor, duration), long.start(anchor, duration)
    assert outer <= inner + 1e-9
    assert inner + short.seconds <= max(outer + long.seconds, outer + duration) + 1e-9
    assert inner >= 0


@given(st.floats(0, 6), st.floats(3, 6))
def test_a_task_gets_the_same_frames_alone_and_in_a_union(anchor: float, duration: float) -> None:
    eight, ten, short = Span(2.0, 8.0), Span(2.0, 10.0), Span(1.0, 8.0)
    alone = {s: collate_clips([clip_of(Window(s, size=(4, 4)), anchor, duration)]) for s in (eight, ten, short)}
    union = Window(eight, size=(4, 4)) | Window(ten, size=(4, 4)) | Window(short, size=(4, 4))
    assert union.picture_count == 16 + 20 + 8
    together = collate_clips([clip_of(union, anchor, duration)])
    for span, batch in alone.items():
        assert torch.equal(together.frames_of(span), batch.frames_of(span))


def test_sound_of_a_shorter_span_is_the_same_in_a_union() -> None:
    long, short = Window(sound=Span(3.0, 16000), size=(4, 4)), Window(sound=Span(1.0, 16000), size=(4, 4))
    together = collate_clips([clip_of(long | short, 2.0, 5.0)])
    alone = collate_clips([clip_of(short, 2.0, 5.0)])
    assert torch.equal(together.audio_between(alone.audio_start[:, 0], 1.0), alone.audio[:, 0])


def test_what_the_window_does_not_hold_is_refused() -> None:
    batch = collate_clips([clip_of(Window(Span(1.0, 8.0), Span(1.0, 16000), size=(4, 4)), 2.0, 5.0)])
    with pytest.raises(ValueError, match="away from every time of its window"):
        batch.frames_at(torch.tensor([[1.53]], dtype=torch.float64))
    with pytest.raises(ValueError, match="only for sound inside"):
        batch.audio_between(torch.tensor([0.0], dtype=torch.float64), 1.0)


def test_tensor_and_float_placement_agree() -> None:
    span = Span(2.0, 8.0)
    anchors = torch.tensor([0.0, 0.7, 2.4, 5.0], dtype=torch.float64)
    durations = torch.tensor([5.0, 1.0, 3.0, 5.0], dtype=torch.float64)
    expected = [span.start(float(a), float(d)) for a, d in zip(anchors, durations, strict=True)]
    assert span.start(anchors, durations).tolist() == pytest.approx(expected)
    assert span.start(anchors.numpy(), durations.numpy()).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Span(0.0, 8.0), "seconds must be a positive"),
        (lambda: Span(1.0, -1.0), "rate must be a positive"),
        (lambda: Span(0.01, 8.0), "holds no sample"),
        (lambda: Window(views=0), "views must be at least 1"),
        (lambda: Window(sound=(Span(1, 16000), Span(1, 8000))), "share one rate"),
        (lambda: Window(size=(4, 4)) | Window(size=(8, 8)), "need one size"),
    ],
)
def test_impossible_windows_are_named(make, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_a_clip_checks_its_shapes() -> None:
    window = Window(Span(1.0, 8.0), size=(4, 4))
    good = clip_of(window, 0.5, 2.0)
    with pytest.raises(ValueError, match=r"frames must be uint8 \[V, T, 3, H, W\]"):
        type(good)(**{**good.__dict__, "frames": good.frames.astype(np.float32)})
    with pytest.raises(ValueError, match=r"wanted_times must be \[1, 8\]"):
        type(good)(**{**good.__dict__, "wanted_times": good.wanted_times[:, :3]})


def test_views_are_made_once_and_not_carried_to_another_device() -> None:
    batch = collate_clips([clip_of(Window(Span(1.0, 8.0), size=(4, 4)), 0.5, 2.0)])
    made = batch.once("view", lambda: torch.zeros(1))
    assert batch.once("view", lambda: torch.ones(1)) is made
    assert float(batch.to("cpu").once("view", lambda: torch.ones(1))) == 1.0
