"""Flow fields brought to pixels, without their pan, mirrored."""

from __future__ import annotations

import torch

from mmssl.ops.flow_input import UNIT, field_motion, mirror_flow, to_pixels, without_pan


def field(rows: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(rows, 4, 5, 6, generator=generator) > 0.3
    return torch.randn(rows, 4, 2, 5, 6, generator=generator) * known[:, :, None], known


def test_every_pixel_has_the_value_of_its_cell() -> None:
    flow, known = field()
    whole = to_pixels(flow, 8, (37, 48))  # the last row of cells hangs over
    assert whole.shape == (3, 4, 2, 37, 48)
    for y, x in ((0, 0), (7, 8), (36, 47), (32, 15)):
        assert torch.equal(whole[..., y, x], flow[..., y // 8, x // 8])
    assert to_pixels(known, 8, (40, 48)).dtype == torch.bool
    assert torch.equal(to_pixels(flow, 1, (5, 6)), flow)


def test_a_pan_is_taken_off_and_what_is_not_known_stays_zero() -> None:
    flow, known = field()
    pan = torch.tensor([30.0, -12.0])[:, None, None]
    there = known[:, :, None]
    plain, panned = without_pan(flow, known), without_pan((flow + pan) * there, known)
    torch.testing.assert_close(plain, panned, atol=1e-4, rtol=1e-4)
    assert not panned[~there.expand_as(panned)].any()
    mean = plain.sum(dim=(3, 4)) / there.sum(dim=(3, 4))
    torch.testing.assert_close(mean, torch.zeros(3, 4, 2), atol=1e-5, rtol=0)
    nothing = without_pan(flow, torch.zeros_like(known))
    assert torch.equal(nothing, torch.zeros_like(flow))


def test_a_camera_that_shakes_is_held_still() -> None:
    """To and fro by 40 pixels a second: the mean over the fields is 0, that of each field is not."""
    flow, known = field()
    shake = torch.tensor([40.0, -40.0, 40.0, -40.0])[:, None, None, None] * torch.tensor([1.0, 0.5])[:, None, None]
    there = known[:, :, None]
    torch.testing.assert_close(
        without_pan((flow + shake) * there, known), without_pan(flow, known), atol=1e-4, rtol=1e-4
    )
    assert not field_motion(without_pan(shake * there, known), known).any()
    # Of a fast camera and many pixels nothing is left either.
    even = torch.full((1, 1, 2, 240, 320), 1234.567)
    everywhere = torch.ones(1, 1, 240, 320, dtype=torch.bool)
    assert not field_motion(without_pan(even, everywhere), everywhere).any()


def test_motion_is_the_mean_speed_over_what_is_known() -> None:
    flow = torch.zeros(1, 2, 2, 2, 2)
    flow[0, 0, :, 0, 0] = torch.tensor([3.0, 4.0])
    known = torch.ones(1, 2, 2, 2, dtype=torch.bool)
    assert field_motion(flow, known).tolist() == [[5 * UNIT // 4, 0]]
    known[0, 0, 1] = False
    assert field_motion(flow, known).tolist() == [[5 * UNIT // 2, 0]]
    assert field_motion(flow, torch.zeros_like(known)).tolist() == [[0, 0]]


def test_in_a_mirror_what_moved_right_moves_left() -> None:
    flow, _ = field()
    flip = torch.tensor([True, False, True])
    turned = mirror_flow(flow, flip)
    assert torch.equal(turned[1], flow[1])
    assert torch.equal(turned[0, :, 0], -flow[0, :, 0].flip(-1))
    assert torch.equal(turned[0, :, 1], flow[0, :, 1].flip(-1))
    assert torch.equal(mirror_flow(turned, flip), flow)
