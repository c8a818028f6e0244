"""Heads: standardisation over the valid rows of a batch, and projections that keep time and place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmssl.errors import UserError
from mmssl.nn.heads import BatchStandardisation, MapProjection, Temperature, TimeKeepingProjection
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.localization_rules import AvolNet
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching


@pytest.mark.parametrize("shape", [(12, 5), (12, 5, 3, 4), (12, 5, 7)])
def test_equals_torchs_batch_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float32) * 3 + torch.arange(5.0).reshape(1, 5, *[1] * (len(shape) - 2))
    x.requires_grad_()
    ours = BatchStandardisation(5)
    reference = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](5, affine=False)
    for _ in range(3):
        made, wanted = ours(x), reference(x)
    torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.mean, reference.running_mean, atol=1e-5, rtol=1e-5)
    grain = torch.randn(shape)
    torch.testing.assert_close(
        torch.autograd.grad((made * grain).sum(), x)[0],
        torch.autograd.grad((wanted * grain).sum(), x)[0],
        atol=1e-5,
        rtol=1e-5,
    )


def test_rows_without_weight_have_no_part_in_the_statistics() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 4)
    weight = torch.tensor([1.0, 1, 0, 1, 0, 1, 1, 1])
    layer, alone = BatchStandardisation(4), BatchStandardisation(4)
    spoiled = torch.where(weight[:, None] > 0, x, torch.full_like(x, 1e6))
    torch.testing.assert_close(layer(spoiled, weight)[weight > 0], alone(x[weight > 0]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.mean, alone.mean)


def test_a_batch_of_one_valid_row_or_none_takes_the_running_statistics() -> None:
    layer = BatchStandardisation(3)
    x = torch.randn(4, 3)
    for weight in (torch.zeros(4), torch.tensor([0.0, 1, 0, 0])):
        torch.testing.assert_close(layer(x, weight), x, atol=1e-4, rtol=1e-4)
    assert torch.equal(layer.mean, torch.zeros(3))


def test_in_evaluation_a_row_does_not_depend_on_the_others() -> None:
    layer = BatchStandardisation(3)
    layer(torch.randn(16, 3) + 4)
    layer.eval()
    x = torch.randn(5, 3)
    torch.testing.assert_close(layer(x)[2:3], layer(x[2:3]))


@pytest.mark.parametrize("length", [5, 8, 13])
def test_time_keeping_projection_keeps_places_and_instants_apart(length: int) -> None:
    torch.manual_seed(0)
    layer = TimeKeepingProjection(16, 6, steps=8)
    series = torch.randn(2, 16, length, 3, 4)
    made = layer(series)
    assert made.shape == (2, 6, 8, 3, 4)
    flat = layer(series.flatten(3)[..., 5])
    assert flat.shape == (2, 6, 8)
    # A change late in one place leaves the beginning of all other places alone but for the norm, which all share.
    layer.norm = nn.Identity()  # type: ignore[assignment]
    other = series.clone()
    other[:, :, -1, 1, 2] += 5
    moved = (layer(other) - layer(series)).abs().amax(dim=1)
    assert float(moved[:, :, 1, 2].max()) > 1e-3
    moved[:, :, 1, 2] = 0
    assert float(moved.max()) < 1e-6


def test_map_projection_mixes_no_places() -> None:
    torch.manual_seed(0)
    layer = MapProjection(16, 8)
    layer.norm = nn.Identity()  # type: ignore[assignment]
    level = torch.randn(2, 16, 4, 4)
    other = level.clone()
    other[0, :, 1, 1] += 1
    moved = (layer(other) - layer(level)).abs().amax(dim=1)
    assert float(moved[0, 1, 1]) > 1e-3
    moved[0, 1, 1] = 0
    assert float(moved.max()) < 1e-6


# -------------------------------------------------------------------------------------------------------- temperature


@pytest.mark.parametrize(("start", "outward", "bound"), [(1.9, -1.0, 2.0), (0.011, 1.0, 0.01)])
def test_a_temperature_stops_at_its_bounds_and_comes_back(start: float, outward: float, bound: float) -> None:
    """Driven outward, then back, as the sign of what it divides changes."""
    head = Temperature(start)
    optimizer = torch.optim.SGD(head.parameters(), 0.05)

    def drive(sign: float, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            optimizer.zero_grad()
            (-sign * head(torch.tensor(1.0)).log()).backward()  # d loss / d log temperature is the sign
            optimizer.step()
            found.append(float(head.value.detach()))
        return found

    assert drive(outward, 40)[-1] == pytest.approx(bound)
    kept = float(head.log_value.detach())
    drive(outward, 3)
    assert float(head.log_value.detach()) == kept  # no farther out
    back = drive(-outward, 8)
    assert abs(back[-1] - bound) > 0.2 * bound
    assert float(head.log_value.detach().exp()) == pytest.approx(back[-1])


def test_inside_its_bounds_a_temperature_has_the_gradient_of_its_formula() -> None:
    head = Temperature(0.07)
    similarity = torch.tensor([0.3, -0.9], dtype=torch.float64)
    (head(similarity) * torch.tensor([1.0, 2.0])).sum().backward()
    assert head.log_value.grad is not None
    wanted = -(0.3 - 1.8) / 0.07
    assert float(head.log_value.grad) == pytest.approx(wanted, rel=1e-5)


def test_a_temperature_that_starts_outside_its_bounds_is_refused_by_the_name_of_its_setting() -> None:
    with pytest.raises(UserError, match=r"av_localization: temperature is learned within \[0.01, 2\]"):
        AvolNet(temperature=3.0)
    with pytest.raises(UserError, match=r"av_sync: temperature .* cannot start at 0\.001"):
        AVSync(temperature=0.001)
    with pytest.raises(UserError, match="subtitle_matching: temperature"):
        SubtitleMatching(temperature=5.0)
    AVSync(temperature=0.001, loss="margin")  # not used there
    SubtitleMatching(temperature=5.0, normalise=False)
