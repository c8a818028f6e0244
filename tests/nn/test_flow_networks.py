"""Networks for flow: the table of likenesses and its look-up, sizes, what is saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmssl.errors import UserError
from mmssl.nn.flow_estimator import FlowEstimator, load_estimator
from mmssl.nn.recurrent_flow import RecurrentFlow
from mmssl.nn.stacked_flow import StackedFlow
from tests.batches import small_encoders

WIDTHS = {4: 8, 8: 12}


def maps(rows: int = 2, height: int = 6, width: int = 8, seed: int = 0) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        4: torch.randn(rows, 8, height, width, generator=generator),
        8: torch.randn(rows, 12, height // 2, width // 2, generator=generator),
    }


def test_the_table_is_looked_up_around_where_the_estimate_leads() -> None:
    network = RecurrentFlow(WIDTHS, radius=1, levels=2)
    generator = torch.Generator().manual_seed(1)
    one, two = torch.randn(2, 5, 6, 8, generator=generator), torch.randn(2, 5, 6, 8, generator=generator)
    flow = torch.randint(-2, 3, (2, 2, 6, 8), generator=generator).float()
    found = network._look_up(network._table(one, two), flow)
    assert found.shape == (2, 18, 6, 8)
    coarse = torch.nn.functional.avg_pool2d(two, 2)
    for n, y, x in [(0, 2, 3), (1, 0, 0), (1, 5, 7), (0, 4, 1)]:
        u, v = (int(c) for c in flow[n, :, y, x])
        for number, (b, a) in enumerate((b, a) for b in (-1, 0, 1) for a in (-1, 0, 1)):
            i, j = y + v + b, x + u + a
            inside = 0 <= i < 6 and 0 <= j < 8
            wanted = float(one[n, :, y, x] @ two[n, :, i, j]) / 5**0.5 if inside else 0.0
            assert float(found[n, number, y, x]) == pytest.approx(wanted, abs=1e-5)
    # On the coarser level a cell is twice as large and its middle lies between two: the mean of four places.
    y, x = 2, 3
    flow = torch.zeros(2, 2, 6, 8)
    flow[:, :, y, x] = torch.tensor([0.5, 0.5])
    found = network._look_up(network._table(one, two), flow)
    wanted = float(one[0, :, y, x] @ coarse[0, :, 1, 1]) / 5**0.5
    at = float(found[0, 9 + 4, y, x])  # (x + 0.5 + 0.5) / 2 - 0.5 = 1.5, (y + 1) / 2 - 0.5 = 1
    beside = float(one[0, :, y, x] @ coarse[0, :, 1, 2]) / 5**0.5
    assert at == pytest.approx((wanted + beside) / 2, abs=1e-5)


def test_full_size_flow_is_in_pixels_and_a_blend_of_its_neighbours() -> None:
    network = RecurrentFlow(WIDTHS)
    flow = torch.tensor([1.0, -0.5])[:, None, None].expand(1, 2, 3, 4)
    full = network._full_size(flow, torch.randn(1, 144, 3, 4))
    assert full.shape == (1, 2, 12, 16)
    assert torch.allclose(full[0, 0], torch.tensor(4.0))
    assert torch.allclose(full[0, 1], torch.tensor(-2.0))
    steps = torch.rand(1, 2, 3, 4)
    assert float(network._full_size(steps, 9 * torch.randn(1, 144, 3, 4)).max()) <= 4 * float(steps.max()) + 1e-5


def test_estimates_come_in_a_row() -> None:
    first, second = maps(), maps(seed=2)
    found = RecurrentFlow(WIDTHS, iterations=5)(first, second)
    assert found.shape == (6, 2, 2, 24, 32)
    assert not torch.equal(found[0], found[1])
    assert StackedFlow(WIDTHS)(first, second).shape == (3, 2, 2, 24, 32)
    assert StackedFlow(WIDTHS)(maps(height=5, width=7), maps(height=5, width=7)).shape == (3, 2, 2, 20, 28)


@pytest.mark.parametrize("network", ["recurrent", "stacked"])
def test_an_estimator_takes_any_size_and_goes_through_a_folder(tmp_path: Path, network: str) -> None:
    encoders = small_encoders().eval()
    head = FlowEstimator(network, encoders["image"].level_widths).eval()  # type: ignore[arg-type]
    encoders.save(tmp_path, {"flow_estimation": head})
    estimate = load_estimator(tmp_path)
    one, two = torch.rand(2, 3, 45, 51), torch.rand(2, 3, 45, 51)
    with torch.no_grad():
        wanted = head(encoders, one, two)[-1]
    assert wanted.shape == (2, 2, 45, 51)
    assert torch.allclose(estimate(one, two), wanted, atol=1e-6)
    with pytest.raises(UserError, match="no exported head"):
        load_estimator(tmp_path, "other")


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(ValueError, match="two feature maps"):
        FlowEstimator("recurrent", {4: 8})
    with pytest.raises(ValueError, match="recurrent or stacked"):
        FlowEstimator("other", WIDTHS)  # type: ignore[arg-type]
