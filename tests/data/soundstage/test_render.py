"""The pictures and their dense truth: deterministic, boxes that fit the instances, flow that leads a frame on."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl.data.soundstage import PRESETS, RenderedClip, draw_layout, render_clip
from mmssl.data.soundstage.materials import pattern_atlas
from mmssl.data.soundstage.render import render

DEMO = PRESETS["demo"]


@pytest.fixture(scope="module")
def clips() -> list[RenderedClip]:
    return [render_clip("demo", 7, "test", index, dense=True) for index in range(12)]


def test_clip_is_a_function_of_its_name(clips: list[RenderedClip]) -> None:
    again = render_clip("demo", 7, "test", 3)
    np.testing.assert_array_equal(again.frames, clips[3].frames)
    np.testing.assert_array_equal(again.sound, clips[3].sound)
    assert again.cues == clips[3].cues
    assert again.truth == clips[3].truth
    assert not np.array_equal(again.frames, clips[4].frames)


def test_shapes_and_types(clips: list[RenderedClip]) -> None:
    clip = clips[0]
    assert clip.frames.shape == (38, 96, 96, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.sound.shape == (48640,)
    assert clip.sound.dtype == np.float32
    assert clip.dense is not None
    assert clip.dense.depth.shape == clip.dense.instances.shape == (38, 96, 96)
    assert clip.dense.flow.shape == (38, 96, 96, 2)


def test_sounding_box_fits_the_instances(clips: list[RenderedClip]) -> None:
    compared = 0
    for clip in clips:
        assert clip.dense is not None
        own = clip.dense.instances == clip.truth["source"] + 1
        others = [box for silent in clip.truth["silent_boxes"] for box in [silent]]
        for frame, box in enumerate(clip.truth["boxes"]):
            if box is None or any(_touch(box, other[frame]) for other in others):
                continue
            rows, columns = np.nonzero(own[frame])
            found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / DEMO.size
            np.testing.assert_allclose(found, box, atol=1.6 / DEMO.size)
            compared += 1
    assert compared > 200


def _touch(a: list[float], b: list[float] | None) -> bool:
    return b is not None and a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_sounding_body_is_hardly_ever_hidden(clips: list[RenderedClip]) -> None:
    shares = []
    for clip in clips:
        assert clip.dense is not None
        for frame, box in enumerate(clip.truth["boxes"]):
            if box is not None:
                covered = (clip.dense.instances[frame] == clip.truth["source"] + 1).sum() / DEMO.size**2
                shares.append(covered / ((box[2] - box[0]) * (box[3] - box[1])))
    assert np.quantile(shares, 0.02) > 0.3
    assert np.mean(shares) > 0.55


def _warp(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The picture [H, W, C] read at x, y (pixel corners at integers), bilinear."""
    size = picture.shape[0]
    x, y = np.clip(x - 0.5, 0, size - 1.001), np.clip(y - 0.5, 0, size - 1.001)
    column, row = x.astype(int), y.astype(int)
    a, b = (x - column)[..., None], (y - row)[..., None]
    top = picture[row, column] * (1 - a) + picture[row, column + 1] * a
    bottom = picture[row + 1, column] * (1 - a) + picture[row + 1, column + 1] * a
    return top * (1 - b) + bottom * b


def test_flow_leads_each_pixel_to_the_next_frame(clips: list[RenderedClip]) -> None:
    grid_x, grid_y = np.meshgrid(np.arange(DEMO.size) + 0.5, np.arange(DEMO.size) + 0.5)
    errors, still = [], []
    for clip in clips:
        assert clip.dense is not None
        frames, seen = clip.frames.astype(float), clip.dense.instances
        for t in range(DEMO.frames - 1):
            step = clip.dense.flow[t] / float(DEMO.rate)
            x, y = grid_x + step[..., 0], grid_y + step[..., 1]
            there = (x > 1) & (x < 95) & (y > 1) & (y < 95)
            same = seen[t + 1][np.clip(y, 0, 95).astype(int), np.clip(x, 0, 95).astype(int)] == seen[t]
            moving = there & same & (seen[t] > 0) & (np.hypot(step[..., 0], step[..., 1]) > 1)
            warped = _warp(frames[t + 1], x, y)
            errors.append(np.abs(warped - frames[t]).mean(axis=-1)[moving])
            still.append(np.abs(frames[t + 1] - frames[t]).mean(axis=-1)[moving])
    error, zero = np.concatenate(errors), np.concatenate(still)
    assert len(error) > 10_000
    assert np.median(error) < 0.3 * np.median(zero)
    assert error.mean() < 0.6 * zero.mean()


def test_flow_of_the_scene_is_that_of_the_camera() -> None:
    layout = draw_layout(DEMO, 7, "test", 0)
    _, instances, dense = render(layout, dense=True)
    assert dense is not None
    x, y, size = 20, 30, DEMO.size
    t = int(np.flatnonzero(instances[:-1, y, x] == 0)[0])
    camera = layout.camera
    ray = np.array([(x + 0.5 - size / 2) / camera.focal, -(y + 0.5 - size / 2) / camera.focal, 1.0])
    point = camera.position[t] + camera.rotation[t] @ ray * dense.depth[t, y, x]
    seen = camera.project(np.tile(point, (len(camera.position), 1, 1)))[t + 1, 0]
    expected = (seen[:2] - [x + 0.5, y + 0.5]) * float(DEMO.rate)
    np.testing.assert_allclose(dense.flow[t, y, x], expected, atol=1e-2)


def test_normals_are_of_unit_length_and_face_the_camera(clips: list[RenderedClip]) -> None:
    for number, clip in enumerate(clips[:4]):
        assert clip.dense is not None
        np.testing.assert_allclose(np.linalg.norm(clip.dense.normals, axis=-1), 1, atol=1e-3)
        layout = draw_layout(DEMO, 7, "test", number)
        axis = (np.arange(DEMO.size) + 0.5 - DEMO.size / 2) / layout.camera.focal
        rays = np.stack([*np.meshgrid(axis, -axis), np.ones((DEMO.size, DEMO.size))], axis=-1)
        world = np.einsum("tij,hwj->thwi", layout.camera.rotation[: DEMO.frames], rays)
        away = np.einsum("thwi,thwi->thw", world, clip.dense.normals)
        assert (away < 1e-3).mean() > 0.999
        assert clip.dense.depth.min() > 1


def test_patterns_of_the_demo_differ_in_form_and_have_contrast() -> None:
    """Even at 9 x 9 pixels, turned and shifted by one, no two patterns look alike, and only one is plain."""
    names = DEMO.materials
    atlas = pattern_atlas(names)
    small = atlas[:, :63, :63].reshape(len(atlas), 9, 7, 9, 7).mean(axis=(2, 4))
    bold = [number for number in range(len(names)) if small[number].std() > 0.25]
    assert len(bold) >= len(names) - 1
    shifts = ((0, 0), (0, 1), (1, 0), (1, 1), (-1, 0), (0, -1))
    for first in bold:
        for second in bold[: bold.index(first)]:
            likeness = [
                np.corrcoef(np.rot90(small[first], turn).ravel(), np.roll(small[second], shift, (0, 1)).ravel())[0, 1]
                for turn in range(4)
                for shift in shifts
            ]
            assert max(likeness) < 0.75, (names[first], names[second])


def test_hard_preset_draws_noise_over_the_picture() -> None:
    noisy = render_clip("hard", 0, "train", 0).frames.astype(int)
    clean = render_clip("demo", 0, "train", 0).frames.astype(int)
    grain = [np.abs(np.diff(frames[:, :8, :, 1], axis=2)).mean() for frames in (noisy, clean)]
    assert grain[0] > grain[1] + 2
