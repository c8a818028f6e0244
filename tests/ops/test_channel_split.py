"""Channel splitting and per-frame normalisation."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmssl.ops.channel_split import normalise_frames, one_channel, some_one_channel


@given(st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_each_frame_keeps_the_channel_it_was_given(channels: list[int]) -> None:
    frames = torch.arange(2 * 2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 2, 3, 4, 5)
    channel = torch.tensor(channels).reshape(2, 2)
    kept = one_channel(frames, channel)
    assert kept.shape == (2, 2, 1, 4, 5)
    for row in range(2):
        for slot in range(2):
            assert torch.equal(kept[row, slot, 0], frames[row, slot, channel[row, slot]])


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=3, max_size=3))
def test_only_some_clips_show_one_channel(drawn: list[tuple[int, bool]]) -> None:
    clips = torch.arange(3 * 2 * 3 * 4 * 5, dtype=torch.float32).reshape(3, 2, 3, 4, 5)
    channel, split = torch.tensor([c for c, _ in drawn]), torch.tensor([s for _, s in drawn])
    before = clips.clone()
    shown = some_one_channel(clips, channel, split)
    for row, (one, alone) in enumerate(drawn):
        expected = before[row, :, one, None].expand(-1, 3, -1, -1) if alone else before[row]
        assert torch.equal(shown[row], expected)
    shown.zero_()
    assert torch.equal(clips, before)  # a copy, whatever was drawn


@given(st.floats(0.3, 1.5), st.floats(-0.2, 0.2))
def test_gain_and_offset_leave_no_trace(gain: float, offset: float) -> None:
    frame = 0.3 + 0.3 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(normalise_frames(frame * gain + offset), normalise_frames(frame), atol=1e-4)


def test_mean_spread_and_range_of_a_normalised_frame() -> None:
    frames = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    even = normalise_frames(frames)
    assert torch.allclose(even.mean(dim=(1, 2, 3)), torch.full((5,), 0.5), atol=1e-3)
    assert torch.allclose(even.std(dim=(1, 2, 3)), torch.full((5,), 0.2), atol=1e-2)
    assert float(even.min()) >= 0
    assert float(even.max()) <= 1


def test_noise_of_a_flat_frame_is_not_blown_up() -> None:
    flat = 0.5 + 0.0005 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float((normalise_frames(flat) - 0.5).abs().max()) < 0.05
