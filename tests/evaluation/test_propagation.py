"""Label propagation: perfect features give nearly perfect masks, and its parts do what they say."""

from __future__ import annotations

import pytest
import torch

from mmssl.errors import UserError
from mmssl.evaluation.propagation import (
    Propagation,
    cell_features,
    flow_warped_masks,
    label_shares,
    masks_of,
    object_ids,
    propagate,
    propagated_masks,
    seen_size,
)
from mmssl.evaluation.tracking import judge
from mmssl.metrics.segmentation import region_similarity
from tests.batches import small_encoders
from tests.evaluation.masks import discs


def colour_features(masks: torch.Tensor, side: int) -> torch.Tensor:
    """What perfect features would say of the cells of `side` pixels: the shares of the true objects in it."""
    shares = torch.stack([label_shares(m, [1, 2], (m.shape[0] // side, m.shape[1] // side)) for m in masks])
    return torch.nn.functional.normalize(shares, dim=1)


@pytest.mark.parametrize("side", [2, 4])
def test_perfect_features_give_nearly_perfect_masks(side: int) -> None:
    """This bounds what quantising to cells costs, whatever was learned."""
    clip = discs(20)
    found = propagated_masks(colour_features(clip.masks, side), clip.masks[0], Propagation())
    region, boundary = judge(found, clip)
    assert region.min() > (0.95 if side == 2 else 0.9)
    assert boundary.min() > (0.95 if side == 2 else 0.85)
    still = clip.masks[0].expand(20, -1, -1)
    assert judge(still, clip)[0].max() < 0.6


def test_features_without_content_copy_what_lies_near() -> None:
    """All cells alike: only the radius says anything, and nothing is followed."""
    clip = discs(10)
    features = torch.full((10, 4, 24, 24), 0.5)
    found = propagated_masks(features, clip.masks[0], Propagation(radius=0, top_k=1))
    share = label_shares(clip.masks[0], [1, 2], (24, 24))
    assert torch.equal(found[5], masks_of(share[None], [1, 2], (96, 96))[0])


def test_it_is_the_formula_in_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(4, 6, 5, 7, generator=generator), dim=1)
    first = torch.softmax(torch.randn(3, 5, 7, generator=generator), dim=0)
    how = Propagation(memory=2, radius=2, top_k=4, temperature=0.2)
    wanted = [first]
    for t in range(1, 4):
        made = torch.zeros_like(first)
        for y in range(5):
            for x in range(7):
                near = [
                    (float(features[t, :, y, x] @ features[s, :, v, u]), wanted[s][:, v, u])
                    for s in [0, *range(max(1, t - 2), t)]
                    for v in range(5)
                    for u in range(7)
                    if abs(v - y) <= 2 and abs(u - x) <= 2
                ]
                best = sorted(near, key=lambda pair: -pair[0])[:4]
                weights = torch.softmax(torch.tensor([similar for similar, _ in best]) / 0.2, dim=0)
                made[:, y, x] = sum(w * label for w, (_, label) in zip(weights, best, strict=True))
        wanted.append(made)
    assert torch.allclose(propagate(features, first, how), torch.stack(wanted), atol=1e-5)


def test_labels_stay_shares_and_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(5, 6, 9, 8, generator=generator), dim=1)
    first = label_shares(torch.randint(0, 3, (36, 32), generator=generator), [1, 2], (9, 8))
    how = Propagation(radius=3, top_k=5)
    whole = propagate(features, first, how)
    assert torch.allclose(whole.sum(dim=1), torch.ones(5, 9, 8), atol=1e-5)
    monkeypatch.setattr("mmssl.evaluation.propagation.QUERIES", 8)
    assert torch.allclose(propagate(features, first, how), whole, atol=1e-6)


def test_nothing_is_copied_from_frames_that_come_later() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(6, 6, 4, 4, generator=generator), dim=1)
    first = torch.softmax(torch.randn(2, 4, 4, generator=generator), dim=0)
    changed = features.clone()
    changed[4:] = changed[4:].flip(1)
    one, two = (propagate(f, first, Propagation()) for f in (features, changed))
    assert torch.equal(one[:4], two[:4])
    assert not torch.equal(one[4], two[4])


def test_grey_features_do_not_see_colour_and_each_frame_is_seen_by_itself() -> None:
    encoders = small_encoders()
    clip = discs(6)
    how = Propagation(strides=(4, 8))
    whole = cell_features(encoders, clip.frames, how)
    assert whole.shape == (6, 48, 24, 24)
    assert torch.allclose(whole.norm(dim=1), torch.ones(6, 24, 24), atol=1e-5)
    assert torch.allclose(cell_features(encoders, clip.frames[3:4], how), whole[3:4], atol=1e-5)
    assert torch.allclose(cell_features(encoders, clip.frames, how, batch=4), whole, atol=1e-5)
    # Two colours of one lightness are one grey; shown in colour they are two.
    pair = torch.tensor([[119, 119, 119], [240, 39, 56]], dtype=torch.uint8)[:, :, None, None].expand(2, 3, 32, 32)
    grey, colour = (cell_features(encoders, pair, Propagation(grey=g)) for g in (True, False))
    assert float((grey[0] - grey[1]).abs().max()) < 0.1 < float((colour[0] - colour[1]).abs().max())


def test_the_encoder_sees_multiples_of_the_coarsest_stride() -> None:
    assert seen_size(480, 854, Propagation()) == (480, 856)
    assert seen_size(480, 854, Propagation(size=192)) == (192, 344)
    features = cell_features(small_encoders(), discs(2).frames[:, :, :90, :], Propagation(size=48))
    assert features.shape[-2:] == (12, 12)


def test_levels_that_are_not_there_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"levels at strides \(4, 8, 16\)\) gives no picture features at strides \(2,\)"
    ):
        cell_features(small_encoders(), discs(2).frames, Propagation(strides=(2,)))
    with pytest.raises(UserError, match=r"encoder 'audio' \(audio"):
        cell_features(small_encoders(), discs(2).frames, Propagation(), "audio")
    with pytest.raises(ValueError, match="temperature above 0"):
        Propagation(temperature=0.0)


def test_masks_come_back_from_shares() -> None:
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[8:16, 8:16], mask[20:28, 4:12] = 3, 7
    shares = label_shares(mask, object_ids(mask), (32, 32))
    assert torch.equal(masks_of(shares[None], object_ids(mask), (32, 32))[0], mask)
    coarse = label_shares(mask, [3, 7], (8, 8))
    assert torch.allclose(coarse.sum(dim=0), torch.ones(8, 8))
    assert float(coarse[1].sum()) == 4.0


def test_flow_pulls_a_textured_disc_along() -> None:
    pytest.importorskip("cv2")
    noise = torch.rand(96, 96, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.avg_pool2d(noise[None, None], 3, 1, 1)[0, 0]
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    masks = torch.stack([((y - 48) ** 2 + (x - 30 - 2 * t) ** 2 < 14**2).to(torch.uint8) for t in range(10)])
    ground = 0.3 + 0.1 * torch.roll(texture, 40, 0)
    shown = torch.stack([torch.where(m > 0, torch.roll(texture, 2 * t, 1), ground) for t, m in enumerate(masks)])
    frames = (shown * 255).to(torch.uint8)[:, None].expand(-1, 3, -1, -1).contiguous()
    found = flow_warped_masks(frames, masks[0])
    assert float(region_similarity(found[1:] == 1, masks[1:] == 1).min()) > 0.75
    assert float(region_similarity(masks[:1].expand(10, -1, -1) == 1, masks == 1)[-1]) < 0.35
