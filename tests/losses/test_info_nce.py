"""InfoNCE against slow sums, PyTorch's cross-entropy, lightly's NT-Xent, and its closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss

from mmssl.losses.info_nce import info_nce, pair_nce, symmetric_info_nce


def slow_info_nce(logits: torch.Tensor, weight: torch.Tensor, extra: torch.Tensor | None = None) -> torch.Tensor:
    """The definition, term by term, in float64."""
    logits = logits.double()
    total, count = torch.zeros((), dtype=torch.float64), 0.0
    for i in range(len(weight)):
        if weight[i] == 0:
            continue
        terms = [logits[i, j].exp() for j in range(len(weight)) if weight[j] > 0]
        if extra is not None:
            terms += [value.double().exp() for value in extra[i] if value > -math.inf]
        total = total - weight[i].double() * (logits[i, i].exp() / torch.stack(terms).sum()).log()
        count += float(weight[i])
    return total / count


def random_case(seed: int, count: int, masked: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.ones(count)
    weight[torch.randperm(count, generator=generator)[:masked]] = 0
    return 3 * torch.randn(count, count, generator=generator), weight


def assert_same_with_gradient(ours: torch.Tensor, theirs: torch.Tensor, *leaves: torch.Tensor) -> None:
    torch.testing.assert_close(ours.double(), theirs.double(), atol=1e-5, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(0, 3), st.booleans())
def test_equals_the_definition_gradients_included(seed: int, count: int, masked: int, with_extra: bool) -> None:
    logits, weight = random_case(seed, count, min(masked, count - 1))
    logits.requires_grad_()
    extra = torch.randn(count, 2)
    extra[0, 1] = -math.inf
    given_extra = extra if with_extra else None
    assert_same_with_gradient(info_nce(logits, weight, given_extra), slow_info_nce(logits, weight, given_extra), logits)


def test_symmetric_form_is_the_mean_of_both_cross_entropies() -> None:
    logits, weight = random_case(3, 12, 0)
    logits.requires_grad_()
    label, cross_entropy = torch.arange(12), torch.nn.functional.cross_entropy
    reference = (cross_entropy(logits, label) + cross_entropy(logits.T, label)) / 2
    assert_same_with_gradient(symmetric_info_nce(logits, weight), reference, logits)


def test_equals_the_nt_xent_of_lightly_where_all_views_are_candidates() -> None:
    one, two = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    views = torch.nn.functional.normalize(torch.cat([one, two]), dim=1)
    logits = (views @ views.T / 0.2).masked_fill(torch.eye(14, dtype=torch.bool), -math.inf)
    ours = info_nce(logits.roll(7, dims=1), torch.ones(14))  # the other view of each on the diagonal
    assert_same_with_gradient(ours, NTXentLoss(temperature=0.2)(one, two), one, two)


def test_masked_rows_are_as_if_they_were_not_there() -> None:
    logits, weight = random_case(5, 9, 4)
    valid = weight > 0
    there = logits[valid][:, valid]
    torch.testing.assert_close(symmetric_info_nce(logits, weight), symmetric_info_nce(there, torch.ones(5)))


def test_masked_rows_get_no_gradient_even_when_they_hold_infinities() -> None:
    logits, weight = random_case(6, 8, 3)
    bad = logits.clone()
    bad[weight == 0] = math.inf
    bad[:, weight == 0] = math.nan
    bad.requires_grad_()
    loss = symmetric_info_nce(bad, weight)
    torch.testing.assert_close(loss, symmetric_info_nce(logits, weight))
    (gradient,) = torch.autograd.grad(loss, bad)
    assert torch.equal(gradient[weight == 0], torch.zeros(3, 8))
    assert torch.equal(gradient[:, weight == 0], torch.zeros(8, 3))
    assert gradient[weight > 0][:, weight > 0].abs().min() > 0


@pytest.mark.parametrize("count", [2, 7, 64])
def test_uniform_logits_give_the_log_of_the_number_of_candidates(count: int) -> None:
    weight = torch.ones(count)
    assert float(symmetric_info_nce(torch.full((count, count), 5.0), weight)) == pytest.approx(
        math.log(count), abs=1e-5
    )
    extra = torch.full((count, 3), 5.0)
    assert float(info_nce(torch.full((count, count), 5.0), weight, extra)) == pytest.approx(
        math.log(count + 3), abs=1e-5
    )


def test_does_not_hang_on_the_order_of_the_batch_or_on_which_side_is_first() -> None:
    logits, weight = random_case(8, 10, 2)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    loss = symmetric_info_nce(logits, weight)
    torch.testing.assert_close(symmetric_info_nce(logits[order][:, order], weight[order]), loss)
    torch.testing.assert_close(symmetric_info_nce(logits.T, weight), loss)


def test_no_valid_row_gives_zero_with_a_zero_gradient() -> None:
    logits = torch.randn(4, 4, requires_grad=True)
    loss = symmetric_info_nce(logits, torch.zeros(4)) + pair_nce(logits[0], logits[1], torch.zeros(4))
    assert float(loss) == 0.0
    assert torch.equal(torch.autograd.grad(loss, logits)[0], torch.zeros(4, 4))


def test_one_against_one_is_the_two_class_cross_entropy() -> None:
    own, other = torch.randn(2, 6, requires_grad=True)
    weight = torch.tensor([1.0, 0, 1, 1, 0, 1])
    pairs = torch.stack([own, other], dim=1)[weight > 0]
    reference = torch.nn.functional.cross_entropy(pairs.double(), torch.zeros(4, dtype=torch.int64))
    assert_same_with_gradient(pair_nce(own, other, weight), reference, own, other)
    assert float(pair_nce(own, own, weight)) == pytest.approx(math.log(2))
