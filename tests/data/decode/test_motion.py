"""Motion vectors: right sign and size on textures that move as known, in both ways of decoding; unknown where intra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.collate import collate_clips
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.packets_make import checked_table
from tests import media

FPS = 12.5


def texture(size: int, seed: int = 0) -> np.ndarray:
    """Uint8 [size, size, 3]: smooth noise, so that blocks can be found again."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.uniform(0, 255, (1, 3, size // 8, size // 8)))
    smooth = torch.nn.functional.interpolate(noise, size=(size, size), mode="bicubic").clamp(0, 255)
    return smooth[0].permute(1, 2, 0).to(torch.uint8).numpy()


def moving(path, step: tuple[int, int], *, frames: int = 26, size: tuple[int, int] = (96, 128), **options):
    """A texture that moves by `step` (x, y) pixels a frame."""
    whole = texture(640)
    x, y = step
    pictures = []
    for n in range(frames):
        top, left = 256 - y * n, 256 - x * n
        pictures.append(whole[top : top + size[0], left : left + size[1]])
    return media.write(path, np.arange(frames) / FPS, pictures, size=size, fps=FPS, **options)


@pytest.mark.parametrize("by", ["table", "demuxer"])
@pytest.mark.parametrize("step", [(3, 0), (-2, 1), (0, -3)])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_content_moves_as_the_field_says(tmp_path, step, by, b_frames):
    data = moving(tmp_path / "a.mp4", step, b_frames=b_frames, gop=100).read_bytes()
    window = Window(Span(1.0, FPS), size=(96, 128), motion=True)
    packets = checked_table(data) if by == "table" else None
    clip = PyAVDecoder().decode(EncodedClip("a", "", data, packets=packets), window, np.array([1.2]))
    assert clip.motion.shape == (1, 12, 2, 12, 16)
    assert clip.motion_known.mean() > (0.5 if b_frames else 0.8)  # some blocks of B pictures look only ahead
    flow = clip.motion[0].transpose(0, 2, 3, 1)[clip.motion_known[0]]
    np.testing.assert_allclose(np.median(flow, axis=0), np.array(step) * FPS, atol=0.3 * FPS)


def test_the_field_follows_the_scaling_of_the_pictures(tmp_path):
    data = moving(tmp_path / "a.mp4", (3, -2), gop=100).read_bytes()
    clip = PyAVDecoder().decode(
        EncodedClip("a", "", data), Window(Span(1.0, FPS), size=(48, 64), motion=True), np.array([1.2])
    )
    flow = clip.motion[0].transpose(0, 2, 3, 1)[clip.motion_known[0]]
    np.testing.assert_allclose(np.median(flow, axis=0), np.array([1.5, -1.0]) * FPS, atol=0.2 * FPS)


def test_blocks_without_a_reference_are_unknown(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(13)]  # nothing can be found again
    data = media.write(tmp_path / "a.mp4", np.arange(13) / FPS, pictures, size=(64, 96), fps=FPS, gop=1).read_bytes()
    clip = PyAVDecoder().decode(
        EncodedClip("a", "", data), Window(Span(0.8, FPS), size=(64, 96), motion=True), np.array([0.5])
    )
    assert not clip.motion_known.any()
    assert not clip.motion.any()


def test_a_batch_gives_the_fields_of_the_times_that_a_task_wants(tmp_path):
    data = moving(tmp_path / "a.mp4", (3, 0), gop=100).read_bytes()
    span = Span(0.5, FPS / 2)
    window = Window((Span(1.0, FPS), span), size=(96, 128), motion=True)
    clip = PyAVDecoder().decode(EncodedClip("a", "", data), window, np.array([1.2]))
    batch = collate_clips([clip, clip])
    flow, known = batch.motion_at(batch.times(span))
    assert flow.shape == (2, 3, 2, 12, 16)
    assert known.shape == (2, 3, 12, 16)
    assert float(flow[:, :, 0][known].median()) == pytest.approx(3 * FPS, abs=0.3 * FPS)
    plain = PyAVDecoder().decode(EncodedClip("a", "", data), Window(span, size=(96, 128)), np.array([1.2]))
    with pytest.raises(ValueError, match=r"Window\(motion=True\)"):
        collate_clips([plain]).motion_at(batch.times(span)[:1])
