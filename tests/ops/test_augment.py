"""Batched augmentations against a loop over clips, and against torchvision."""

from __future__ import annotations

import torch
from torchvision.transforms.v2 import functional as reference

from mmssl.ops.augment import colour_jitter, crop_resize, greyscale, shift_flip, soften

CLIPS = torch.randint(0, 256, (4, 3, 3, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_shift_moves_whole_pixels_and_repeats_edges() -> None:
    down, right, flip = torch.tensor([0, 2, -3, 1]), torch.tensor([0, -4, 5, 1]), torch.tensor([0, 0, 0, 1]).bool()
    moved = shift_flip(CLIPS, down, right, flip)
    assert torch.equal(moved[0], CLIPS[0])
    for row in range(4):
        for y in range(12):
            for x in range(16):
                from_y = min(max(y - int(down[row]), 0), 11)
                from_x = min(max(x - int(right[row]), 0), 15)
                from_x = 15 - from_x if flip[row] else from_x
                assert torch.equal(moved[row, :, :, y, x], CLIPS[row, :, :, from_y, from_x])


def test_all_frames_of_a_clip_share_one_decision_and_clips_do_not() -> None:
    still = CLIPS[:, :1].expand(-1, 3, -1, -1, -1)
    made = colour_jitter(
        shift_flip(still, torch.arange(4), -torch.arange(4), torch.tensor([True, False, True, False])),
        torch.rand(4, 3) + 0.5,
        torch.rand(4, 3) / 10,
    )
    assert torch.equal(made[:, 0], made[:, 1])
    assert torch.equal(made[:, 0], made[:, 2])


def test_colour_is_changed_by_clip_and_channel_and_stays_in_range() -> None:
    gain, offset = torch.rand(4, 3) + 0.5, torch.rand(4, 3) - 0.5
    made = colour_jitter(CLIPS, gain, offset)
    assert made.dtype == torch.float32
    for row in range(4):
        for channel in range(3):
            plain = CLIPS[row, :, channel].float() / 255 * gain[row, channel] + offset[row, channel]
            torch.testing.assert_close(made[row, :, channel], plain.clamp(0, 1))
    assert torch.equal(colour_jitter(CLIPS, torch.ones(4, 3), torch.zeros(4, 3)), CLIPS * torch.tensor(1 / 255))


def test_crop_stretched_equals_torchvision() -> None:
    frames = CLIPS.float() / 255
    box = torch.tensor([[0, 0, 1, 1], [3 / 12, 4 / 16, 6 / 12, 8 / 16], [0.5, 0.5, 0.5, 0.5], [0, 0.25, 0.75, 0.75]])
    made = crop_resize(frames, box, torch.tensor([False, False, False, True]))
    torch.testing.assert_close(made[0], frames[0])
    for row in range(1, 4):
        top, left = round(float(box[row, 0]) * 12), round(float(box[row, 1]) * 16)
        height, width = round(float(box[row, 2]) * 12), round(float(box[row, 3]) * 16)
        cut = reference.resized_crop(frames[row], top, left, height, width, [12, 16], antialias=False)
        cut = cut.flip(-1) if row == 3 else cut
        # torchvision repeats the edge of the crop, we interpolate with the pixels beside it: compare inside.
        torch.testing.assert_close(made[row, ..., 1:-1, 1:-1], cut[..., 1:-1, 1:-1], atol=1e-5, rtol=1e-5)


def test_crop_is_not_rounded_under_autocast() -> None:
    frames, box = CLIPS.float() / 255, torch.tensor([[0.1, 0.2, 0.7, 0.6]]).expand(4, -1)
    outside = crop_resize(frames, box, torch.zeros(4, dtype=torch.bool))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(crop_resize(frames, box, torch.zeros(4, dtype=torch.bool)), outside)


def test_grey_has_three_equal_channels_and_leaves_other_clips_alone() -> None:
    frames = CLIPS.float() / 255
    made = greyscale(frames, torch.tensor([True, False, True, False]))
    torch.testing.assert_close(made[0], reference.rgb_to_grayscale(frames[0], 3), atol=1e-3, rtol=0)
    assert torch.equal(made[2, :, 0], made[2, :, 2])
    assert torch.equal(made[[1, 3]], frames[[1, 3]])
    assert greyscale(frames, torch.zeros(4, dtype=torch.bool)) is frames


def test_crop_of_another_size_equals_torchvision() -> None:
    box = torch.tensor([[2 / 12, 4 / 16, 6 / 12, 8 / 16]]).expand(4, 4)
    made = crop_resize(CLIPS.float() / 255, box, torch.tensor([False, True, False, True]), (9, 20))
    known = reference.resized_crop(CLIPS.float() / 255, 2, 4, 6, 8, [9, 20], antialias=False)
    known[1::2] = known[1::2].flip(-1)
    inner = (..., slice(1, -1), slice(2, -2))  # at its edges a crop sees beside itself, a cut picture does not
    assert made.shape == (4, 3, 3, 9, 20)
    assert torch.allclose(made[inner], known[inner], atol=1e-5)


def test_soft_frames_are_smoothed_by_one_two_one() -> None:
    frames = CLIPS.float()
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel[None] / 16)[None, None]
    padded = torch.nn.functional.pad(frames.flatten(0, 2)[:, None], (1, 1, 1, 1), mode="replicate")
    known = torch.nn.functional.conv2d(padded, kernel).reshape(frames.shape)
    assert torch.allclose(soften(frames), known, atol=1e-4)
