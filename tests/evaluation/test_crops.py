import numpy as np
import pytest
import torch

from mmssl.evaluation.crops import Augmentation, canvas_size, drawn_crops, even_crops
from mmssl.randomness import Draws

STILL = Augmentation(smallest=1.0, mirror=False, colour=0.0)


def test_three_crops_are_the_two_ends_and_the_middle_of_the_longer_side():
    wide = torch.arange(10).expand(2, 4, 10)
    found = even_crops(wide, 3)
    assert [int(crop[0, 0, 0]) for crop in found] == [0, 3, 6]
    assert all(crop.shape == (2, 4, 4) for crop in found)
    assert [int(crop[0, 0, 0]) for crop in even_crops(wide, 1)] == [3]
    tall = wide.transpose(1, 2)
    assert [int(crop[0, 0, 0]) for crop in even_crops(tall, 2)] == [0, 6]
    assert len(even_crops(torch.zeros(4, 4), 3)) == 1, "a square has one crop"


@pytest.mark.parametrize(
    ("aspects", "expected"),
    [([1.0, 1.0], (96, 96)), ([16 / 9] * 3, (96, 170)), ([0.5], (192, 96)), ([9.0], (96, 192)), ([1.01], (96, 96))],
)
def test_the_canvas_follows_the_median_clip(aspects, expected):
    assert canvas_size(96, np.array(aspects)) == expected


def test_a_training_crop_without_changes_is_the_picture():
    frames = torch.randint(0, 256, (3, 2, 3, 8, 8), dtype=torch.uint8)
    made = drawn_crops(frames, Draws(torch.arange(3)), 8, STILL)
    torch.testing.assert_close(made, frames.float() / 255)


def test_training_crops_are_drawn_from_the_clips_seed_alone_and_stay_in_range():
    frames = torch.randint(0, 256, (4, 2, 3, 8, 12), dtype=torch.uint8)
    how = Augmentation(smallest=0.5, colour=0.9)
    made = drawn_crops(frames, Draws(torch.tensor([5, 6, 7, 8])), 6, how)
    assert made.shape == (4, 2, 3, 6, 6)
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    alone = drawn_crops(frames[2:3], Draws(torch.tensor([7])), 6, how)
    torch.testing.assert_close(alone, made[2:3])


def test_half_of_the_views_are_mirrored_and_crops_reach_both_ends():
    ramp = torch.arange(64, dtype=torch.uint8).mul(2).expand(200, 1, 3, 32, 64).contiguous()
    made = drawn_crops(ramp, Draws(torch.arange(200)), 16, Augmentation(0.9, True, 0.0))[:, 0, 0, 0]
    turned = made[:, 0] > made[:, -1]
    assert 70 < int(turned.sum()) < 130
    first = torch.minimum(made[:, 0], made[:, -1]) * 255 / 2
    assert float(first.min()) < 3
    assert float(first.max()) > 30


def test_numbers_out_of_range_are_named():
    with pytest.raises(ValueError, match="smallest"):
        Augmentation(smallest=0)
    with pytest.raises(ValueError, match="colour"):
        Augmentation(colour=1.5)
