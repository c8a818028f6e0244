"""Rotation: turns without a trace, and nothing to be learned where there is no up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mmssl.ops.crops import within_bars
from mmssl.ops.rotation import turn
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.context.rotation import Rotation
from tests.tasks.context.scenes import picture_batch, round_blobs, upright_houses
from tests.tasks.context.training import small_bundle, train_and_score

MOMENT = Moment(0, 1, 0, 0.0)


def test_all_four_turns_of_each_clip_with_their_labels() -> None:
    task = Rotation(size=(32, 32))
    batch = picture_batch(upright_houses(5, 0))
    example = task.pretext(batch, batch.draws("rotation"), MOMENT)
    assert example.pictures.shape == (20, 3, 28, 28)
    assert example.label.tolist() == [0, 1, 2, 3] * 5
    pictures = example.pictures.reshape(5, 4, 3, 28, 28)
    for turns in range(4):
        assert torch.equal(pictures[:, turns], turn(pictures[:, 0], turns))


def test_upright_copy_is_a_piece_of_a_frame_of_the_clip() -> None:
    films = np.random.default_rng(np.random.PCG64(0)).integers(0, 256, (6, 24, 3, 20, 30), dtype=np.uint8)
    task = Rotation(size=(20, 30))
    batch = picture_batch(films)
    example = task.pretext(batch, batch.draws("rotation"), MOMENT)
    upright = (example.pictures[::4] * 255).round().to(torch.uint8).numpy()
    corners, mirrored = set(), 0
    for clip, picture in zip(films, upright, strict=True):
        side = picture.shape[-1]
        found = [
            (frame, top, left, flip)
            for frame in range(24)
            for top in range(20 - side + 1)
            for left in range(30 - side + 1)
            for flip in (False, True)
            if np.array_equal(clip[frame, :, top : top + side, left : left + side][..., :: -1 if flip else 1], picture)
        ]
        assert len(found) == 1
        corners.add(found[0][1:3])
        mirrored += found[0][3]
    assert len(corners) > 3
    assert 0 < mirrored < 6


@pytest.mark.parametrize("sides", [False, True])
def test_black_bars_are_never_shown(sides: bool) -> None:
    """Nor what the codec has mixed with them; where too little is left, and only there, a clip takes no part."""
    films = np.random.default_rng(0).integers(60, 256, (40, 24, 3, 36, 36), dtype=np.uint8)
    films[:20, :, :, :6] = films[:20, :, :, -4:] = np.random.default_rng(1).integers(0, 30, (20, 24, 3, 1, 36))
    films[20:30, :, :, :14] = 16
    films[30:, :5] = 3  # a fade-in is no bar
    if sides:
        films = np.swapaxes(films, 3, 4)
    task = Rotation(size=(36, 36), crop=0.6)
    batch = picture_batch(films)
    example = task.pretext(batch, batch.draws("rotation"), MOMENT)
    weight = example.weight[::4]
    assert weight.tolist() == [1.0] * 20 + [0.0] * 10 + [1.0] * 10
    assert example.valid.min() == 1
    assert (example.pictures[:80] * 255).min() >= 60
    corners = {picture.sum().item() for picture in example.pictures[:80:4]}
    assert len(corners) == 20


def test_clips_without_bars_are_cropped_anywhere() -> None:
    films = np.random.default_rng(0).integers(0, 256, (64, 2, 3, 20, 24), dtype=np.uint8)
    assert within_bars(torch.from_numpy(films)).tolist() == [[0, 20, 0, 24]] * 64
    assert within_bars(torch.zeros(1, 2, 3, 20, 24, dtype=torch.uint8)).tolist() == [[0, 20, 0, 24]]


def test_no_up_is_learned_where_there_is_none() -> None:
    score = train_and_score(Rotation(size=(32, 32)), round_blobs, steps=40)
    assert abs(score - 0.25) < 2.58 * (0.25 * 0.75 / 512) ** 0.5


def test_all_ranks_share_is_the_mean_over_valid_clips() -> None:
    task = Rotation(size=(32, 32))
    multitask = MultiTask(small_bundle(), {"rotation": task})
    batch = picture_batch(upright_houses(6, 0))
    batch.weight[4:] = 0
    loss, outcomes = multitask(batch, MOMENT)
    metrics = outcomes["rotation"].metrics
    fewer = dataclasses.replace(picture_batch(upright_houses(6, 0)[:4]))
    assert torch.allclose(loss, multitask(fewer, MOMENT)[0], atol=1e-6)
    assert float(metrics["accuracy"][1]) == 16


def test_a_crop_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crop must be a share in \(0, 1\], got 1.5"):
        Rotation(crop=1.5)
