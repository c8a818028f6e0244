"""The sound: it happens when the motion says so, its timbre is the material's, its loudness is neither's."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl.data.soundstage import ACTIONS, PRESETS, draw_layout
from mmssl.data.soundstage.motion import Motion, contacts, course
from mmssl.data.soundstage.sound import synthesise

DEMO, HARD = PRESETS["demo"], PRESETS["hard"]
RATE = DEMO.sample_rate


@pytest.fixture(scope="module")
def drawn() -> list[tuple[str, str, Motion, np.ndarray]]:
    """(action, material, motion of the sounding body, sound) of 240 clips."""
    found = []
    for index in range(240):
        layout = draw_layout(DEMO, 5, "train", index)
        assert layout.sounding is not None
        body = layout.bodies[layout.sounding]
        found.append((layout.action, body.material, body.motion, synthesise(layout)))
    return found


@pytest.mark.parametrize("action", ["bounce", "collide", "topple", "shake"])
def test_blows_sound_when_the_body_strikes(drawn, action: str) -> None:  # type: ignore[no-untyped-def]
    """In the 3 ms after a contact there is far more new sound than in the 3 ms before it."""
    late, early = [], []
    for name, _, motion, sound in drawn:
        if name != action:
            continue
        rise = np.abs(np.diff(sound, prepend=0.0))
        times, strengths = contacts(motion, DEMO.duration)
        for at, strength in zip(times, strengths, strict=True):
            place = round(at * RATE)
            if strength == 1.0 and 200 < place < len(sound) - 200:
                late.append(rise[place : place + 48].mean())
                early.append(rise[place - 48 : place].mean())
    assert len(late) > 20
    assert np.median(np.array(late) / np.array(early)) > 4
    assert np.mean(np.array(late) > np.array(early)) > 0.97


@pytest.mark.parametrize("action", ["bounce", "collide"])
def test_contacts_are_where_the_course_turns_back(action: str) -> None:
    """The speed reverses at the contact: the oracle is the path itself, by differences."""
    motion = Motion(action=action, period=0.8, phase=0.3, sign=1.0, slope=0.0, reach=1.0, radius=9.0)
    times = np.arange(0, 3, 1e-4)
    path = course(motion, times)
    speed = np.diff(path.up if action == "bounce" else path.right) / 1e-4
    jumps = times[1:-1][np.abs(np.diff(speed)) > 0.5 * np.abs(speed).max()]
    found = contacts(motion, 3.0)[0]
    distance = np.abs(jumps[:, None] - found[None])
    assert (distance.min(axis=1) < 1e-3).all()
    assert (distance.min(axis=0) < 1e-3).all()


@pytest.mark.parametrize("action", ACTIONS)
def test_course_begins_again_after_a_period_and_has_its_mean_at_the_place(action: str) -> None:
    motion = Motion(action=action, period=1.1, phase=0.0, sign=-1.0, slope=0.2, reach=1.0, radius=9.0)
    times = np.arange(0, 1.1, 1.1 / 4000)
    first, second = course(motion, times), course(motion, times + 1.1)
    np.testing.assert_allclose(first.right, second.right, atol=1e-6)
    np.testing.assert_allclose(first.up, second.up, atol=1e-6)
    assert abs(first.right.mean()) < 1.0
    assert abs(first.up.mean()) < 1.0


def test_nearly_every_second_has_sound(drawn) -> None:  # type: ignore[no-untyped-def]
    """The quietest second is at most 25 dB under the loudest, in 97 % of the clips."""
    quiet = []
    for _, _, _, sound in drawn:
        second = np.square(sound.astype(np.float64))[: 3 * RATE]
        power = np.array([second[begin : begin + RATE].mean() for begin in range(0, 2 * RATE + 1, RATE // 4)])
        quiet.append(10 * np.log10(power.min() / power.max()))
    assert np.quantile(quiet, 0.03) > -25


def test_loudness_tells_neither_material_nor_action(drawn) -> None:  # type: ignore[no-untyped-def]
    level = np.array([20 * np.log10(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) for *_, sound in drawn])
    assert level.min() > -30
    for number, names in ((0, ACTIONS), (1, DEMO.materials)):
        for name in names:
            mine = level[[clip[number] == name for clip in drawn]]
            assert abs(mine.mean() - level.mean()) < 1.5, (name, mine.mean(), level.mean())


def _spectrum(sound: np.ndarray) -> np.ndarray:
    """Mean log power in 40 bands of equal width in mel, without its level."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, 512)[::256] * np.hanning(512)
    power = np.square(np.abs(np.fft.rfft(frames))).mean(axis=0)
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(512, 1 / RATE) / 700)
    band = np.minimum((mel / mel[-1] * 40).astype(int), 39)
    bands = np.array([power[band == k].mean() if (band == k).any() else 1e-9 for k in range(40)])
    log = np.log(bands + 1e-4 * bands.max())
    return log - log.mean()


def test_material_is_heard_whatever_the_action(drawn) -> None:  # type: ignore[no-untyped-def]
    """The nearest mean spectrum names the material, also for an action that the means have not heard."""
    spectra = np.array([_spectrum(sound) for *_, sound in drawn])
    actions = np.array([clip[0] for clip in drawn])
    materials = np.array([clip[1] for clip in drawn])
    names = np.array(DEMO.materials)
    right = []
    for action in ACTIONS:
        known = actions != action
        means = np.stack([spectra[known & (materials == name)].mean(axis=0) for name in names])
        distance = np.square(spectra[~known][:, None] - means[None]).sum(axis=-1)
        right.append(names[distance.argmin(axis=1)] == materials[~known])
    assert np.concatenate(right).mean() > 0.95
    assert min(part.mean() for part in right) > 0.8


def test_sound_is_the_same_for_the_same_clip_and_stays_in_range() -> None:
    layout = draw_layout(DEMO, 5, "train", 0)
    first, second = synthesise(layout), synthesise(layout)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() <= 1
    assert first.dtype == np.float32
    assert first.shape == (DEMO.samples,)


def test_silent_clip_has_background_noise_alone() -> None:
    silent = next(
        layout for layout in (draw_layout(HARD, 0, "train", index) for index in range(60)) if layout.sounding is None
    )
    sounding = next(
        layout
        for layout in (draw_layout(HARD, 0, "train", index) for index in range(60))
        if layout.sounding is not None
    )
    assert 0 < np.std(synthesise(silent)) < 0.4 * np.std(synthesise(sounding))
