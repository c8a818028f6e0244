"""Losses run outside autocast, in float32 at least."""

from __future__ import annotations

import pytest
import torch

from mmssl.losses.info_nce import symmetric_info_nce
from mmssl.losses.margin import contrastive_margin
from mmssl.losses.mil_nce import mil_nce
from mmssl.losses.precision import in_float32


@in_float32
def product(a: torch.Tensor, *, b: torch.Tensor) -> torch.Tensor:
    """A product of matrices, which autocast would round."""
    return a @ b


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_to_float32_by_place_and_by_name(dtype: torch.dtype) -> None:
    a, b = torch.randn(4, 6).to(dtype), torch.randn(6, 5).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = product(a, b=b)
    assert found.dtype == torch.float32
    assert torch.equal(found, a.float() @ b.float())


def test_float64_stays_float64_and_other_types_stay_as_they_are() -> None:
    assert product(torch.randn(2, 3).double(), b=torch.randn(3, 2).double()).dtype == torch.float64
    weight = torch.ones(3)
    assert symmetric_info_nce(torch.randn(3, 3).double(), weight).dtype == torch.float64


def test_losses_are_the_same_under_autocast() -> None:
    logits, weight, present = 10 * torch.randn(6, 6, 2), torch.ones(6), torch.ones(6, 2, dtype=torch.bool)
    distance, together = torch.rand(6), torch.arange(6) < 3

    def all_losses() -> torch.Tensor:
        return torch.stack(
            [
                symmetric_info_nce(logits[:, :, 0], weight),
                mil_nce(logits, present, weight),
                contrastive_margin(distance, together, weight),
            ]
        )

    outside = all_losses()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(all_losses(), outside)
