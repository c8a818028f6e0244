"""Similarities: equal to sums written out, pooled over places as said, and in float32 whatever autocast wants."""

from __future__ import annotations

import itertools

import pytest
import torch

from mmssl.losses.similarity import bag_products, place_map, place_scores, products, row_products


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), dim=1)


def test_score_of_a_picture_and_a_sound_is_the_maximum_of_their_map() -> None:
    places, sounds = unit(4, 6, 3, 5), unit(4, 6)
    scores = place_scores(places, sounds)
    for i, j in itertools.product(range(4), range(4)):
        best = max(float(places[i, :, y, x] @ sounds[j]) for y in range(3) for x in range(5))
        assert float(scores[i, j]) == pytest.approx(best, abs=1e-6)
    torch.testing.assert_close(place_map(places, sounds).flatten(1).amax(dim=1), scores.diagonal())


@pytest.mark.parametrize("pool", ["softmax", "logsumexp"])
def test_soft_pools_lie_between_mean_and_maximum_and_sharpen_to_it(pool: str) -> None:
    places, sounds = unit(4, 6, 3, 5), unit(3, 6)
    best, mean = place_scores(places, sounds), torch.einsum("ndyx,md->nm", places, sounds) / 15
    soft = place_scores(places, sounds, pool)
    assert bool((soft < best).all())
    assert bool((soft > mean).all())
    torch.testing.assert_close(place_scores(places, sounds, pool, sharpness=1e-4), best, atol=1e-3, rtol=0)


def test_the_maximum_teaches_one_place_and_soft_pools_teach_all() -> None:
    for pool, taught in (("max", 1), ("softmax", 15), ("logsumexp", 15)):
        places = unit(1, 6, 3, 5).requires_grad_()
        (gradient,) = torch.autograd.grad(place_scores(places, unit(1, 6), pool).sum(), places)
        assert int((gradient.abs().sum(dim=1) > 0).sum()) == taught


def test_products_equal_sums_written_out() -> None:
    a, b, bags = torch.randn(3, 5), torch.randn(4, 5), torch.randn(4, 2, 5)
    torch.testing.assert_close(products(a, b), torch.einsum("nd,md->nm", a, b))
    torch.testing.assert_close(row_products(a, b[:3]), torch.einsum("nd,nd->n", a, b[:3]))
    torch.testing.assert_close(bag_products(a, bags), torch.einsum("nd,mkd->nmk", a, bags))


def test_stay_in_float32_under_autocast() -> None:
    a, b, places, bags = unit(8, 64), unit(9, 64), unit(8, 64, 2, 2), unit(9, 64, 1).transpose(1, 2)
    plain = (
        products(a, b),
        row_products(a, b[:8]),
        place_scores(places, b),
        bag_products(a, bags),
        place_map(places, a),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ b.T).dtype == torch.bfloat16  # what would happen without care
        under = (
            products(a, b),
            row_products(a, b[:8]),
            place_scores(places, b),
            bag_products(a, bags),
            place_map(places, a),
        )
    for expected, found in zip(plain, under, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_unknown_pool_is_named() -> None:
    with pytest.raises(ValueError, match="pool must be one of max, softmax, logsumexp, got 'mean'"):
        place_scores(unit(1, 6, 2, 2), unit(1, 6), "mean")
