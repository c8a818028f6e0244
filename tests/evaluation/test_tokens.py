import numpy as np
import pytest
import torch

from mmssl.errors import UserError
from mmssl.evaluation.tokens import TokenStore, token_grid, tokens_of
from mmssl.nn.features import Features

POOLED = torch.zeros(2, 4)


@pytest.mark.parametrize("shape", [(16, 6, 6), (6, 6), (1, 12, 12), (2, 3, 50), (40, 1, 1), (8, 20, 20)])
@pytest.mark.parametrize("limit", [1, 7, 64])
def test_the_grid_stays_within_its_limit_and_the_map(shape, limit):
    grid = token_grid(shape, limit)
    assert np.prod(grid) <= limit
    assert all(g <= s for g, s in zip(grid, (1, *shape)[-3:], strict=True))


def test_the_last_map_is_pooled_by_mean_and_maximum_and_its_places_stay_in_order():
    coarse = torch.arange(2 * 3 * 8 * 4 * 4, dtype=torch.float32).reshape(2, 3, 8, 4, 4)
    found = tokens_of(Features(POOLED, {8: torch.zeros(2, 5, 8, 8, 8), 16: coarse}), limit=64)
    assert (found.shape, found.dtype) == ((2, 64, 6), torch.float16)
    first = coarse[1, :, :2, 0, 0]  # two times make the first of four parts
    torch.testing.assert_close(found[1, 0].float(), torch.cat([first.mean(dim=1), first.amax(dim=1)]))
    whole = tokens_of(Features(POOLED, {16: coarse[:, :, :4]}), limit=64)
    torch.testing.assert_close(whole.float(), coarse[:, :, :4].flatten(2).transpose(1, 2))  # nothing to pool


def test_pictures_of_a_clip_become_its_time():
    frames = torch.arange(6, dtype=torch.float32)[:, None, None, None].expand(6, 2, 3, 3)
    found = tokens_of(Features(torch.zeros(6, 4), {16: frames}), frames=3, limit=27)
    assert found.shape == (2, 27, 2)
    assert found[1, :, 0].unique().tolist() == [3.0, 4.0, 5.0]


def test_tokens_behind_the_mask_do_not_count():
    tokens = torch.stack([torch.full((8, 3), 2.0), torch.full((8, 3), 5.0)])
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[0, 1] = False
    tokens[0, 1] = 1000.0
    found = tokens_of(Features(POOLED, tokens=tokens, token_mask=mask), limit=4)
    assert found.shape == (2, 4, 3)
    torch.testing.assert_close(found.float(), torch.tensor([2.0, 5.0])[:, None, None].expand(2, 4, 3))


def test_an_encoder_without_maps_has_none_and_broken_ones_are_named():
    assert tokens_of(Features(POOLED)) is None
    with pytest.raises(UserError, match="not finite"):
        tokens_of(Features(POOLED, {4: torch.full((2, 3, 4, 4), torch.nan)}))
    large = tokens_of(Features(POOLED, {4: torch.full((2, 3, 4, 4), 1e9)}))
    assert torch.isfinite(large).all(), "float16 holds the largest that it can"


def test_the_bound_of_memory_is_checked_at_the_first_batch():
    batch = [np.zeros((3, 2, 64, 128), np.float16), None, np.zeros((3, 2, 64, 128), np.float16)]
    store = TokenStore(3, 64, gigabytes=0.01)
    with pytest.raises(UserError, match=r"1000 clips x 2 view\(s\) x 64 tokens x 128 channels x 2 encoders.*=0.01"):
        store.add(batch, 1000)
    roomy = TokenStore(3, 64, gigabytes=1)
    roomy.add(batch, 6)
    roomy.add(batch, 6)
    assert roomy.of(0).shape == (6, 2, 64, 128)
    assert roomy.of(1) is None
